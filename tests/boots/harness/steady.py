# SPDX-License-Identifier: Apache-2.0
"""Shows that no test fails by chance: runs the same again and again beside two busy processors.

    steady [--quiet] N [NAME...]

Runs the core, or the scenarios named, until each has run N times with the tree as it is, and prints a table: how often each
ran and failed, and with which seeds. Each time has a seed of its own (`NIGHTLATCH_SEED`). The table is kept for the tree, so
that a run that was stopped goes on; `--quiet` leaves the processors alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import accel
import calibration
import planner
import root
import scenarios
import tree
from calibration import Pace
from jobs import Ended, Groups, Runner
from paths import PROJECT

WORK = root.CACHE / "steady"
BUSY = 2
# It ends with whoever started it, who holds the other end of its input.
BUSY_PROGRAM = """
import os, sys, threading
def until_the_end():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=until_the_end).start()
while True:
    pass
"""


@dataclass(frozen=True)
class Time:
    """One run of one scenario: a line of the table."""

    name: str
    seed: int
    passed: bool
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}\t{self.seed}\t{'passed' if self.passed else 'failed'}\t{self.seconds:.0f}"


def parsed(text: str) -> list[Time]:
    """The lines of a table; what was being written when it was stopped is left out."""
    found = []
    for line in text.splitlines():
        match line.split("\t"):
            case [name, seed, "passed" | "failed" as outcome, seconds]:
                found.append(Time(name, int(seed), outcome == "passed", float(seconds)))
    return found


def missing(times: Sequence[Time], names: Sequence[str], wanted: int) -> list[str]:
    """What has not run so often yet."""
    return [name for name in names if sum(time.name == name for time in times) < wanted]


def table(times: Sequence[Time], names: Sequence[str]) -> str:
    """How often each ran and failed, and the result over all."""
    rows = []
    for name in names:
        own = [time for time in times if time.name == name]
        failed = [time for time in own if not time.passed]
        took = f"{min(t.seconds for t in own):.0f} to {max(t.seconds for t in own):.0f} s" if own else ""
        seeds = f"  seeds that failed: {' '.join(str(t.seed) for t in failed)}" if failed else ""
        rows.append(f"{name:24} {len(own):4} runs, {len(failed):3} failed  {took}{seeds}")
    runs = min((sum(time.name == name for time in times) for name in names), default=0)
    broken = sum(not time.passed for time in times if time.name in names)
    return "\n".join([*rows, f"{runs} runs, {broken} failures"])


@contextlib.contextmanager
def busy(processors: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processors have something else to do meanwhile."""
    programs = [
        subprocess.Popen([sys.executable, "-c", BUSY_PROGRAM], stdin=subprocess.PIPE)
        for _ in range(processors)
    ]
    try:
        yield programs
    finally:
        for program in programs:
            program.kill()
            program.wait()


def once(names: Sequence[str], seed: int) -> list[Ended]:
    """Each of these once, and what they need."""
    os.environ["NIGHTLATCH_SEED"] = str(seed)
    with Groups() as groups:
        pace = Pace(groups.running, calibration.on_each_processor)
        pace.wait()
        runner = Runner(
            os.cpu_count() or 1,
            WORK / f"run{seed}",
            groups,
            PROJECT,
            environment=lambda: {calibration.VARIABLE: f"{pace.figure():.2f}"},
        )
        ended = runner.run(scenarios.with_needed(names))
        print(pace, flush=True)
    return [one for one in ended if one.name in names]


def main(words: Sequence[str]) -> int:
    """Runs what is missing, one time after the other."""
    parser = argparse.ArgumentParser(prog="tests/steady", description=__doc__.splitlines()[0])
    parser.add_argument("--quiet", action="store_true", help="leave the processors alone")
    parser.add_argument("times", type=int, metavar="N", help="how often")
    parser.add_argument("name", nargs="*", help="these scenarios in place of the core")
    options = parser.parse_args(words)
    names = scenarios.matching(options.name) if options.name else scenarios.of_kind("core")
    os.environ.setdefault("NIGHTLATCH_ACCEL", accel.name())
    digest = planner.digest(tree.listing(), ["."])
    kept = WORK / f"{digest}{'-quiet' if options.quiet else ''}.tsv"
    kept.parent.mkdir(parents=True, exist_ok=True)
    times = parsed(kept.read_text(encoding="utf-8")) if kept.exists() else []
    with busy(0 if options.quiet else BUSY), kept.open("a", encoding="utf-8") as file:
        while left := missing(times, names, options.times):
            seed = max((time.seed for time in times), default=0) + 1
            for one in once(left, seed):
                times.append(Time(one.name, seed, one.passed, one.seconds))
                file.write(f"{times[-1]}\n")
            file.flush()
            print(table(times, names), flush=True)
    result = table(times, names)
    print(result)
    return 0 if result.endswith(" 0 failures") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
