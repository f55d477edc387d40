# SPDX-License-Identifier: Apache-2.0
"""The harness itself: a machine that fails, hangs or dies must never count as a success."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import cases
import layers
import slots
from libtest import Tally, failures, seen, tally
from machine import Ended
from root import loading_order
from tpm import command_codes

PASSED = ["running 1 test", "test a ... ok", "test result: ok. 1 passed; 0 failed; 0 ignored; 0"]
FAILED = [
    "running 2 tests",
    "test a ... ok",
    "test b ... FAILED",
    "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0",
]
NONE = ["running 0 tests", "test result: ok. 0 passed; 0 failed; 0 ignored; 0"]
SKIPPED = ["running 1 test", "test a ... ignored", "test result: ok. 0 passed; 0 failed; 1 ignored"]


def ended(output: list[str], how: str = "guest-shutdown", result: str = "exit 0") -> Ended:
    """A machine that ended in the given way."""
    results = [result] if result else []
    return Ended(how, 1.0, {"nightlatch.result": results, cases.OUTPUT_PORT: output})


def verdict(end: Ended) -> Tally:
    """The counts, without the explanation, which is about a failure that is wanted here."""
    with contextlib.redirect_stdout(io.StringIO()):
        return cases.verdict(end)


class Verdicts(unittest.TestCase):
    """Which ends of a machine are believed."""

    def test_a_run_whose_parts_agree_is_believed(self) -> None:
        """The control of the others, and a failure that is just a failure."""
        self.assertEqual(verdict(ended(PASSED)), Tally(passed=1))
        self.assertEqual(verdict(ended(FAILED, result="exit 101")), Tally(1, 1))

    def test_a_run_whose_parts_disagree_has_one_failure_more(self) -> None:
        """A dead machine, no status, another status, no summary, no tests."""
        doubtful = [
            ended(PASSED, how="guest-reset"),
            ended(PASSED, how="timeout"),
            ended(PASSED, result=""),
            ended(PASSED, result="exit 101"),
            ended(PASSED[:2]),
        ]
        for end in doubtful:
            self.assertEqual(verdict(end), Tally(1, 1), end)
        self.assertEqual(verdict(ended(FAILED)), Tally(1, 2))
        self.assertEqual(verdict(ended(NONE)), Tally(0, 1))

    def test_a_skipped_case_is_a_failed_one(self) -> None:
        """Unless the environment allows it, which `.ci/run` never does."""
        self.assertEqual(verdict(ended(SKIPPED)), Tally(0, 1))


class Parsing(unittest.TestCase):
    """What is read from other programs."""

    def test_summaries_add_up_and_a_missing_one_is_noticed(self) -> None:
        """A plain `cargo test` runs several programs."""
        self.assertEqual(tally(PASSED + FAILED), Tally(2, 1))
        self.assertIsNone(tally(PASSED + FAILED[:3]))
        self.assertIsNone(tally([]))
        self.assertEqual(seen(FAILED[:3]), Tally(1, 1))

    def test_what_failed_is_found_again(self) -> None:
        """What is indented below a case of ours, and what a Rust program says at its end."""
        ours = ["test a ... ok (1 s)", "    fine", "test b ... FAILED (2 s)", "    why", "scenario: 3 s"]
        self.assertEqual(failures(ours), ["test b ... FAILED (2 s)", "    why"])
        rust = [*FAILED[:3], "failures:", "---- b stdout ----", "why", FAILED[3], "after"]
        self.assertEqual(failures(rust), rust[2:6])
        self.assertEqual(failures(PASSED), [])

    def test_tpm_commands_are_read_from_the_log(self) -> None:
        """One Startup and one GetRandom, as swtpm 0.7 writes them; answers do not count."""
        log = (
            " SWTPM_IO_Read: length 12\n 80 01 00 00 00 0C 00 00 01 44 00 00 \n"
            " SWTPM_IO_Write: length 10\n 80 01 00 00 00 0A 00 00 00 00 \n"
            " SWTPM_IO_Read: length 12\n 80 01 00 00 00 0C 00 00 01 7B 00 08 \n"
        )
        self.assertEqual(command_codes(log), [0x144, 0x17B])

    def test_modules_load_after_what_they_need(self) -> None:
        """`modules.dep` lists dependencies last first; built-in modules need no file."""
        dependencies = "fs/a-b.ko.xz: lib/c.ko.xz lib/d.ko.xz\nlib/c.ko.xz: lib/d.ko.xz\nlib/d.ko.xz:\n"
        order = loading_order(dependencies, "kernel/e.ko\n", ["e", "a_b"])
        self.assertEqual(order, ["lib/d.ko.xz", "lib/c.ko.xz", "fs/a-b.ko.xz"])


class Layers(unittest.TestCase):
    """All layers in one run."""

    def run_of(self, made: dict[str, str], *words: str) -> tuple[int, list[str]]:
        """The status and the output of a run whose layers are these programs."""

        def layer(program: str) -> layers.Layer:
            def run(_filters: list[str], say: layers.Say) -> Tally:
                return layers.counted([sys.executable, "-c", program], say)

            run.__doc__ = "Layer of a test."
            return run

        output = io.StringIO()
        everything = {name: layer(program) for name, program in made.items()}
        with contextlib.ExitStack() as stack:
            # Places of its own, because it takes all of them first: machines that run now have the others.
            places = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(mock.patch.object(slots, "PLACES", places))
            stack.enter_context(mock.patch.object(layers, "LAYERS", everything))
            stack.enter_context(mock.patch.object(sys, "argv", ["run", *words]))
            stack.enter_context(contextlib.redirect_stdout(output))
            status = layers.main()
        return status, output.getvalue().splitlines()

    def test_layers_add_up(self) -> None:
        """The control of the next one. Lines say which layer they are from, unless there is one only."""
        good = {"1": "print('a line')\nprint('2 passed, 0 failed')", "3": "print('1 passed, 0 failed')"}
        status, lines = self.run_of(good)
        self.assertEqual((status, lines[-1]), (0, "3 passed, 0 failed"))
        self.assertIn("      1 | a line", lines)
        status, lines = self.run_of(good, "--layer", "1")
        self.assertEqual((status, lines[-1]), (0, "2 passed, 0 failed"))
        self.assertIn("a line", lines)

    def test_what_failed_is_repeated_at_the_end(self) -> None:
        """And of a layer that does not say it in a way that is understood, its last lines."""
        said = "test a ... ok\ntest b ... FAILED\n    why\n1 passed, 1 failed"
        made = {"1": "print('1 passed, 0 failed')", "2": f"print({said!r})", "3": "print('hm')"}
        _status, lines = self.run_of(made)
        end = lines[lines.index("== what failed") + 1 :]
        self.assertEqual(end[:2], ["      2 | test b ... FAILED", "      2 |     why"])
        self.assertIn("      3 | hm", end)
        self.assertNotIn("== what failed", self.run_of({"1": made["1"]})[1])

    def test_a_layer_that_breaks_is_a_failure_and_the_others_go_on(self) -> None:
        """It dies after a hopeful line, says nothing, ends badly, or has nothing to run."""
        for bad, failed in [
            ("import os\nprint('5 passed, 0 failed', flush=True)\nos.abort()", "6 passed, 1 failed"),
            ("pass", "1 passed, 1 failed"),
            ("print('5 passed, 0 failed')\nraise SystemExit(1)", "6 passed, 1 failed"),
            ("print('0 passed, 0 failed')", "1 passed, 1 failed"),
        ]:
            status, lines = self.run_of({"1": "print('1 passed, 0 failed')", "2": bad})
            self.assertEqual((status, lines[-1]), (1, failed), bad)


class Machines(unittest.TestCase):
    """Real machines that come to a bad end."""

    def end_of(self, script: str, timeout_seconds: float = 120) -> Ended:
        """Runs a script in the place of the test program."""
        with tempfile.TemporaryDirectory() as directory:
            program = Path(directory) / "program"
            program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
            program.chmod(0o755)
            work = cases.WORK.with_name("harness")
            return cases.run(work, cases.Build(program), [], timeout_seconds)

    def test_a_machine_that_dies_after_a_hopeful_summary_has_failed(self) -> None:
        """The summary is there, the exit status is not."""
        lines = "\\n".join(PASSED)
        end = self.end_of(f'printf "{lines}\\n"; echo b >/proc/sysrq-trigger; sleep 60')
        self.assertEqual((end.how, end.results), ("guest-reset", []))
        self.assertEqual(verdict(end), Tally(1, 1))

    def test_a_machine_that_hangs_is_ended_and_has_failed(self) -> None:
        """The control is that it had come as far as the script."""
        end = self.end_of("echo hanging; sleep infinity", timeout_seconds=75)
        self.assertEqual((end.how, end.results), ("timeout", []))
        self.assertIn("hanging", end.ports[cases.OUTPUT_PORT])
        self.assertEqual(verdict(end), Tally(0, 1))


def main() -> int:
    """Runs all or the named tests; the last line is `N passed, N failed`."""
    program = unittest.main(argv=[sys.argv[0], *patterns(sys.argv[1:])], exit=False)
    result = program.result
    bad = len(result.failures) + len(result.errors)
    sys.stderr.flush()
    print(Tally(result.testsRun - bad - len(result.skipped), bad, len(result.skipped)).strict())
    return 0 if result.wasSuccessful() else 1


def patterns(filters: list[str]) -> list[str]:
    """The filters as unittest's options."""
    return [word for one in filters for word in ("-k", one)]


if __name__ == "__main__":
    sys.exit(main())
