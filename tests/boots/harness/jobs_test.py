# SPDX-License-Identifier: Apache-2.0
"""How jobs run beside each other, and that one which breaks, for whatever reason, is a failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration import limit
from jobs import Ended, Groups, Job, Runner
from libtest import Tally

HERE = Path(__file__).resolve().parent
GOOD = "print('1 passed, 0 failed')"
# Many times what it takes: only a test that fails waits as long.
END_TIMEOUT_SECONDS = limit(60)
POLL_SECONDS = 0.05


def job(name: str, program: str, **more: Any) -> Job:
    """A job that is this Python program."""
    return Job(name, (sys.executable, "-c", program), **more)


class Running(unittest.TestCase):
    """Several jobs in one run."""

    def setUp(self) -> None:
        self.work = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.lines: list[tuple[str, str]] = []

    def run_of(
        self, made: Sequence[Job], processors: int = 2, objection: Any = lambda _job: None
    ) -> dict[str, Ended]:
        """What each came to; what they said is in `lines`."""
        with Groups() as groups:
            runner = Runner(
                processors,
                self.work,
                groups,
                self.work,
                show=lambda name, text: self.lines.append((name, text)),
                objection=objection,
            )
            return {ended.name: ended for ended in runner.run(made)}

    def marked(self, name: str, **more: Any) -> Job:
        """A job that writes down when it begins and when it ends, and takes long enough for others to begin meanwhile."""
        program = f"""
            import time
            def mark(word):
                with open({str(self.work / "marks")!r}, "a") as file:
                    file.write(f"{{word}} {name}\\n")
            mark("begin")
            time.sleep(0.3)  # wait: part of the test, for others to begin in
            mark("end")
            print("1 passed, 0 failed")
        """
        return job(name, textwrap.dedent(program), **more)

    def marks(self) -> list[str]:
        """What was written down."""
        return (self.work / "marks").read_text(encoding="utf-8").splitlines()

    def at_once(self) -> int:
        """How many ran at the same time, at most."""
        now = most = 0
        for mark in self.marks():
            now += 1 if mark.startswith("begin") else -1
            most = max(most, now)
        return most

    def test_jobs_add_up_and_say_who_they_are(self) -> None:
        """The control of the next one."""
        made = [job("a", f"print('a line')\n{GOOD}"), job("b", "print('2 passed, 0 failed')")]
        ended = self.run_of(made)
        self.assertEqual(ended["a"].result + ended["b"].result, Tally(passed=3))
        self.assertIn(("a", "a line"), self.lines)
        log = (self.work / "log" / "a.log").read_text(encoding="utf-8")
        self.assertGreater(ended["a"].spent_seconds, 0)
        self.assertRegex(log, r"^ *\d+\.\d\d a line\n")

    def test_a_job_that_breaks_is_a_failure_and_the_others_go_on(self) -> None:
        """It dies after a hopeful line, says nothing, ends badly, has nothing to run, or is no program at all."""
        for bad, result in [
            ("import os\nprint('5 passed, 0 failed', flush=True)\nos.abort()", Tally(5, 1)),
            ("pass", Tally(0, 1)),
            ("print('5 passed, 0 failed')\nraise SystemExit(1)", Tally(5, 1)),
            ("print('0 passed, 0 failed')", Tally(0, 1)),
        ]:
            ended = self.run_of([job("good", GOOD), job("bad", bad)])
            self.assertEqual(ended["bad"].result, result, bad)
            self.assertFalse(ended["bad"].passed)
            self.assertTrue(ended["good"].passed)
        ended = self.run_of([Job("none", ("/does/not/exist",)), job("good", GOOD)])
        self.assertEqual(ended["none"].result, Tally(failed=1))
        self.assertTrue(ended["good"].passed)

    def test_what_failed_is_kept_for_the_end(self) -> None:
        """And of a job that does not say it in a way that is understood, its last lines."""
        said = "test a ... ok\ntest b ... FAILED\n    why\n1 passed, 1 failed"
        ended = self.run_of([job("told", f"print({said!r})"), job("odd", "print('hm')"), job("good", GOOD)])
        self.assertEqual(ended["told"].failed, ("test b ... FAILED", "    why"))
        self.assertIn("hm", ended["odd"].failed)
        self.assertEqual(ended["good"].failed, ())

    def test_an_exit_status_and_rusts_summaries_are_results_too(self) -> None:
        """Of programs that are not ours. A test program that dies before its summary has failed."""
        summary = "running 1 test\ntest a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0"
        made = [
            job("true", "pass", reads="status"),
            job("false", f"{GOOD}\nraise SystemExit(1)", reads="status"),
            job("rust", f"print({summary!r})", reads="summaries"),
            job("dead", f"print({summary[:30]!r})", reads="summaries"),
        ]
        ended = self.run_of(made)
        results = [ended[name].result for name in ("true", "false", "rust", "dead")]
        self.assertEqual(results, [Tally(1, 0), Tally(0, 1), Tally(1, 0), Tally(1, 1)])

    def test_a_job_waits_for_what_it_needs_and_fails_with_it(self) -> None:
        """However they are listed."""
        made = [self.marked("after", needs=("before",)), self.marked("before")]
        self.run_of(made)
        self.assertEqual(self.marks(), ["begin before", "end before", "begin after", "end after"])
        ended = self.run_of([job("bad", "pass"), job("after", GOOD, needs=("bad",))])
        self.assertEqual((ended["after"].result, ended["after"].ran), (Tally(failed=1), False))

    def test_as_many_run_at_once_as_there_are_processors(self) -> None:
        """What keeps none busy runs beside them, what wants more than there are runs alone, and a lock is for one."""
        self.run_of([self.marked(name) for name in "abcd"])
        self.assertEqual(self.at_once(), 2)
        (self.work / "marks").unlink()
        self.run_of([self.marked("a"), self.marked("b"), self.marked("c", processors=0)])
        self.assertEqual(self.at_once(), 3)
        for more in ({"processors": 4}, {"lock": "one"}):
            (self.work / "marks").unlink()
            self.run_of([self.marked(name, **more) for name in "ab"])
            self.assertEqual(self.at_once(), 1, more)

    def test_what_there_is_no_time_for_is_no_failure_and_no_success(self) -> None:
        """It is up to the run what it makes of it."""
        ended = self.run_of(
            [job("a", GOOD), job("b", GOOD)], objection=lambda one: "no time" if one.name == "b" else None
        )
        self.assertTrue(ended["a"].passed)
        self.assertEqual((ended["b"].passed, ended["b"].result), (False, Tally()))

    def test_a_job_ends_with_its_program_whatever_that_has_left_behind(self) -> None:
        """A child that has the same output open is ended. The control is that it had begun."""
        # wait: part of the test, until it is ended
        child = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
        # wait: part of the test, until it is ended
        lasting = "import time\ntime.sleep(600)"
        program = f"""
            import subprocess, sys
            child = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE, text=True)
            print(child.stdout.readline(), flush=True)
            heir = subprocess.Popen([sys.executable, "-c", {child!r}])
            # Nobody ends this one, which leaves the group, and nobody waits for it.
            other = subprocess.Popen([sys.executable, "-c", {lasting!r}], start_new_session=True)
            print("other", other.pid, flush=True)
            print("1 passed, 0 failed", flush=True)
        """
        ended = self.run_of([job("leaving", textwrap.dedent(program))])
        others = [int(text.split()[1]) for _, text in self.lines if text.startswith("other")]
        for pid in others:
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(len(others), 1)
        self.assertTrue(ended["leaving"].passed)
        self.assertLess(ended["leaving"].seconds, END_TIMEOUT_SECONDS)
        left = [int(text) for _, text in self.lines if text.strip().isdigit()]
        self.assertTrue(left)
        for pid in left:
            self.assertTrue(ends(pid), f"process {pid} is still there")

    def test_a_run_that_is_over_ends_what_runs_and_begins_nothing(self) -> None:
        """And says so of each."""
        # wait: part of the test, until it is ended
        endless = job("endless", "import time\nprint('begun', flush=True)\ntime.sleep(600)")
        with Groups() as groups:
            runner = Runner(
                1,
                self.work,
                groups,
                self.work,
                show=lambda name, text: self.lines.append((name, text)),
                is_over=lambda: ("endless", "begun") in self.lines,
            )
            ended = {one.name: one for one in runner.run([endless, job("later", GOOD)])}
        self.assertEqual((ended["endless"].result.failed, ended["endless"].ran), (1, True))
        self.assertEqual((ended["later"].result.failed, ended["later"].ran), (1, False))

    def test_nothing_outlives_a_run_that_is_killed(self) -> None:
        """Neither a job nor what it started in its process group. The control is that both had begun."""
        # wait: part of the test, until it is killed
        child = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
        parent = f"import subprocess, sys\nprint('begun', flush=True)\nsubprocess.run([sys.executable, '-c', {child!r}])"
        program = f"""
            import sys
            from pathlib import Path
            sys.path.insert(0, {str(HERE)!r})
            from jobs import Groups, Job, Runner
            work = Path({str(self.work)!r})
            with Groups() as groups:
                show = lambda _name, text: print(text, flush=True)
                Runner(1, work, groups, work, show=show).run([Job("a", (sys.executable, "-c", {parent!r}))])
        """
        command = [sys.executable, "-c", textwrap.dedent(program)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            self.assertEqual(run.stdout.readline(), "begun\n")
            pid = int(run.stdout.readline())
            os.kill(pid, 0)
            run.send_signal(signal.SIGKILL)
        self.assertTrue(ends(pid), f"process {pid} is still there")


def ends(pid: int) -> bool:
    """Whether a process that is no child of ours ends before long."""
    deadline = time.monotonic() + END_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(POLL_SECONDS)
    return False
