# SPDX-License-Identifier: Apache-2.0
"""Runs jobs beside each other: as many as there are processors, each after those it needs.

A job is a program. What it prints is shown as it comes, each line with the job's name in front, and kept in a file. How
it ended is read from its last line, `N passed, N failed`, or from its exit status where it is no program of ours. A job
that dies, says nothing, or cannot run because one that it needs has failed, has failed.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from libtest import Tally, failures, seen, tally

# Of a job that failed and did not say in which test.
LAST_LINES = 40
# Of a job that was not begun, or ended, since the run was over.
NO_TIME = "the run has taken all its time"
# How long a program's output is read on once it is gone.
LEFT_OPEN_SECONDS = 10.0
POLL_SECONDS = 1.0
# Where each job's lines are kept, below the place for a run: `NAME.log`, a slash being a dot.
LOGS = "log"
# Kills the process groups it was told of once whoever tells it is gone, however that went. It has the end of a pipe that
# is written to by the run only.
WATCH = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == '+' else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
Show = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A program to run, and what has to be there first."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    # How many it keeps busy. What waits for the network keeps none.
    processors: int = 1
    # Jobs with the same one take turns: a directory that cargo locks anyway.
    lock: str = ""
    # What says how it ended: its last line, the summaries of Rust's test programs, or its exit status alone.
    reads: Literal["last line", "summaries", "status"] = "last line"


@dataclass(frozen=True)
class Ended:
    """What a job came to."""

    name: str
    result: Tally
    # By the clock, and what its processes spent of the processors.
    seconds: float
    spent_seconds: float = 0.0
    # What it said of what failed.
    failed: tuple[str, ...] = ()
    ran: bool = True

    @property
    def passed(self) -> bool:
        """Whether it came to its end, and all of it was good."""
        return self.ran and self.result.failed == 0

    def __str__(self) -> str:
        """Its line of the summary."""
        spent = f"{self.spent_seconds:.0f} s of processors"
        took = f"{self.seconds:6.0f} s, {spent}" if self.ran else "   not run"
        return f"{self.name:24} {self.result!s:26} {took}"


# Asked before a job starts: why it is not to, if so.
Objection = Callable[[Job], str | None]


class Groups:
    """The process groups of jobs that run. None outlives the run, even one that is killed."""

    def __init__(self) -> None:
        """Starts the one that watches."""
        command = [sys.executable, "-c", WATCH]
        self._watch = subprocess.Popen(
            command, stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self._lock = threading.Lock()
        self._running: set[int] = set()

    def __enter__(self) -> Groups:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._watch.stdin is not None:
            self._watch.stdin.close()
        self._watch.wait()

    def started(self, group: int) -> None:
        """One more."""
        self._tell(f"+{group}")
        self._running.add(group)

    def ended(self, group: int) -> None:
        """One less; what it left behind goes with it."""
        with_nobody_left(group)
        self._running.discard(group)
        self._tell(f"-{group}")

    def running(self) -> set[int]:
        """Those there are now."""
        return set(self._running)

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._watch.stdin is not None:
                self._watch.stdin.write(f"{line}\n")
                self._watch.stdin.flush()


def with_nobody_left(group: int) -> None:
    """Ends what is left of a process group whose leader is gone."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


class Runner:
    """Runs jobs, at most so many processors' worth at once."""

    def __init__(
        self,
        processors: int,
        work: Path,
        groups: Groups,
        directory: Path,
        *,
        show: Callable[[str, str], None] | None = None,
        objection: Objection = lambda _job: None,
        is_over: Callable[[], bool] = lambda: False,
        environment: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Programs run in `directory` with `environment` besides this one's; `show` is given each line and who said it.

        Once the run `is_over`, what still runs is ended, nothing more is begun, and both have failed.
        """
        self._processors = processors
        self._logs = work / LOGS
        self._groups = groups
        self._directory = directory
        self._show = show or prefixed
        self._objection = objection
        self._is_over = is_over
        self._environment = environment
        self._ended: queue.Queue[Ended] = queue.Queue()

    def run(self, jobs: Sequence[Job]) -> list[Ended]:
        """All of them, in their order as far as processors, needs and locks allow. Each of `needs` has to be among them."""
        self._logs.mkdir(parents=True, exist_ok=True)
        waiting = {job.name: job for job in jobs}
        running: dict[str, Job] = {}
        done: dict[str, Ended] = {}
        while waiting or running:
            while job := self._next(waiting, running, done):
                del waiting[job.name]
                if without := self._without(job, done):
                    done[job.name] = without
                else:
                    running[job.name] = job
                    threading.Thread(target=self._one, args=(job,), daemon=True).start()
            if running:
                ended = self._next_ended()
                del running[ended.name]
                done[ended.name] = ended
        return [done[job.name] for job in jobs]

    def _next_ended(self) -> Ended:
        """Waits for a job to end, and ends all that run once the run is over."""
        while True:
            try:
                return self._ended.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if self._is_over():
                    for group in self._groups.running():
                        with_nobody_left(group)

    def _next(
        self, waiting: Mapping[str, Job], running: Mapping[str, Job], done: Mapping[str, Ended]
    ) -> Job | None:
        """The next job to start now."""
        free = self._processors - sum(job.processors for job in running.values())
        locks = {job.lock for job in running.values() if job.lock}
        for job in waiting.values():
            if job.lock in locks or not all(need in done for need in job.needs):
                continue
            # One that does not fit is waited for and not overtaken, else it would never fit; one that is larger than
            # the machine runs alone.
            if job.processors == 0 or job.processors <= free or free == self._processors:
                return job
            return None
        return None

    def _without(self, job: Job, done: Mapping[str, Ended]) -> Ended | None:
        """The end of a job that does not run: what it needs has failed, or there is no time for it."""
        if broken := [need for need in job.needs if not done[need].passed]:
            because = f"not run, because {', '.join(broken)} failed"
            self._show(job.name, because)
            return Ended(job.name, Tally(failed=1), 0.0, failed=(because,), ran=False)
        if self._is_over():
            because = f"not run: {NO_TIME}"
            self._show(job.name, because)
            return Ended(job.name, Tally(failed=1), 0.0, failed=(because,), ran=False)
        if objection := self._objection(job):
            self._show(job.name, objection)
            return Ended(job.name, Tally(), 0.0, ran=False)
        return None

    def _one(self, job: Job) -> None:
        """Runs one job to its end, however it ends."""
        started = time.monotonic()
        said: list[str] = []
        spent = 0.0
        try:
            with (self._logs / f"{job.name.replace('/', '.')}.log").open("w", encoding="utf-8") as log:

                def hear(line: str) -> None:
                    said.append(line)
                    log.write(f"{time.monotonic() - started:8.2f} {line}\n")
                    log.flush()
                    self._show(job.name, line)

                result, spent = self._heard(job, hear, said)
        except Exception as error:  # noqa: BLE001 - a job that breaks is one that failed, and the others go on
            said.append(f"running {job.name}: {error!r}")
            self._show(job.name, said[-1])
            result = Tally(failed=1)
        if result == Tally():
            said.append("nothing ran")
            result = Tally(failed=1)
        failed = (failures(said) or said[-LAST_LINES:]) if result.failed else []
        took = time.monotonic() - started
        self._ended.put(Ended(job.name, result, took, spent, tuple(failed)))

    def _heard(self, job: Job, hear: Show, said: Sequence[str]) -> tuple[Tally, float]:
        """The program, its lines told one by one: what it came to, and what it spent of the processors."""
        program = subprocess.Popen(
            job.command,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # With what it says of errors: what failed is told again at the end.
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **self._environment()},
            process_group=0,
        )
        self._groups.started(program.pid)
        listener = Listener(program, hear)
        # Whether or not something it has left behind keeps its output open. Its number is not given to another one before
        # what is left of its group was ended.
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        self._groups.ended(program.pid)
        listener.let_go()
        _, status, usage = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        listener.finish()
        if program.returncode < 0 and self._is_over():
            hear(f"ended with {program.returncode}: {NO_TIME}")
        return judged(job, program.returncode, said, hear), usage.ru_utime + usage.ru_stime


class Listener:
    """Tells each line of a program as it comes."""

    def __init__(self, program: subprocess.Popen[str], hear: Show) -> None:
        """Begins. A program whose lines cannot be told, as on a full disk, is ended."""
        self._program = program
        self._hear = hear
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._is_gone = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        assert self._program.stdout is not None
        try:
            for line in self._program.stdout:
                self._hear(line.rstrip("\n"))
        except Exception as error:  # noqa: BLE001 - it is raised again, by who waits for the end
            self._error = error
            with self._lock:
                if not self._is_gone:
                    with_nobody_left(self._program.pid)

    def let_go(self) -> None:
        """To be called before the program's number can be another's."""
        with self._lock:
            self._is_gone = True

    def finish(self) -> None:
        """To be called once the program and its group are gone: nobody waits long for what left the group."""
        self._thread.join(LEFT_OPEN_SECONDS)
        if self._error is not None:
            raise self._error
        if not self._thread.is_alive() and self._program.stdout is not None:
            self._program.stdout.close()


def judged(job: Job, status: int, said: Sequence[str], hear: Show) -> Tally:
    """What a program came to that ended with this status."""
    program = job.command[0]
    if job.reads == "status":
        if status != 0:
            hear(f"{program}: ended with {status}")
        return Tally(passed=1) if status == 0 else Tally(failed=1)
    total = last_word(said) if job.reads == "last line" else tally(said)
    if total is None:
        hear(f"{program}: ended with {status} and without a result")
        return seen(said).strict() + Tally(failed=1)
    if status != 0 and total.failed == 0:
        hear(f"{program}: ended with {status}, but says that nothing failed")
        total += Tally(failed=1)
    return total.strict()


def last_word(said: Sequence[str]) -> Tally | None:
    """The result in the last line that says anything."""
    last = next((line.split() for line in reversed(said) if line.strip()), [])
    match last:
        case [passed, "passed,", failed, "failed"] if passed.isdigit() and failed.isdigit():
            return Tally(int(passed), int(failed))
    return None


PRINTING = threading.Lock()


def prefixed(name: str, text: str) -> None:
    """Lines of one of several jobs."""
    with PRINTING:
        for line in text.splitlines() or [""]:
            print(f"{name:>18} | {line}", flush=True)
