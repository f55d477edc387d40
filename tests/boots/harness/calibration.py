# SPDX-License-Identifier: Apache-2.0
"""How slow this machine is today: a fixed piece of work, and how much of its processors others take.

    calibration.py          does the fixed work on each processor and prints what it took

The figure is 1 on two quiet processors of the kind that the seconds in tests/scenarios.tsv are from; where it is 2,
everything takes twice as long. The work is timed by what the processor spent on it, beside the first builds, because that
is how busy a run keeps a machine; what others take is counted over the whole run.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

# The work: compressing what does not compress well, which is integers, branches and memory, as emulation is.
BLOCK_BYTES, BLOCKS, SYMBOLS = 1 << 20, 72, 32
# What it takes beside a build on such a machine.
QUIET_SECONDS = 2.0
PROCESSORS = 2
# Up to here a machine is called quiet: what one run differs from the next by.
QUIET_AT_MOST = 1.25
# Where each program of a run finds the figure.
VARIABLE = "NIGHTLATCH_PACE"
# Of what others take, at most: beyond it a figure would say nothing.
OTHERS_AT_MOST = 0.9


def limit(seconds: float) -> float:
    """A time limit on this machine that is so long on a quiet one. Never shorter."""
    return seconds * max(1.0, float(os.environ.get(VARIABLE, "1")))


def work() -> float:
    """Does the fixed work and says what the processor spent on it, in seconds."""
    block = random.Random(0).randbytes(BLOCK_BYTES).translate(bytes(range(SYMBOLS)) * (256 // SYMBOLS))
    started = time.process_time()
    for number in range(BLOCKS):
        zlib.compress(block[number:], 6)
    return time.process_time() - started


def on_each_processor() -> list[float]:
    """What the work took on each, all at once."""
    command = [sys.executable, __file__]
    programs = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True)
        for number in sorted(os.sched_getaffinity(0))
    ]
    return [float(program.communicate()[0]) for program in programs]


class Pace:
    """The figure, as far as it is known by now."""

    def __init__(self, groups: Callable[[], Iterable[int]], measure: Callable[[], list[float]]) -> None:
        """Counts from now on; `groups` are the process groups of this run. The work runs beside what comes next."""
        self._groups = groups
        self._slowness = 1.0
        self._before = processors_spent(stat())
        self._own = self.own()
        self._measuring = threading.Thread(target=self._measure, args=(measure,), daemon=True)
        self._measuring.start()

    def _measure(self, measure: Callable[[], list[float]]) -> None:
        took = measure()
        self._slowness = sum(took) / len(took) / QUIET_SECONDS * PROCESSORS / len(took)

    def wait(self) -> None:
        """Until the work is done."""
        self._measuring.join()

    def own(self) -> float:
        """What this run has spent, in seconds: what has ended and what still runs."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + spent_by(set(self._groups()))

    def others(self) -> float:
        """What part of the processors others took since the run began, those who run the machine among them."""
        return share_of_others(self._before, processors_spent(stat()), self.own() - self._own)

    def slowness(self) -> float:
        """Of the processors alone."""
        return self._slowness

    def figure(self) -> float:
        """By how much everything takes longer."""
        return self._slowness / (1.0 - self.others())

    def __str__(self) -> str:
        return (
            f"calibration {self.figure():.2f}: processors {self._slowness:.2f}, "
            f"of which others took {self.others():.0%}"
        )


def stat() -> str:
    """The first line of /proc/stat."""
    return Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]


def processors_spent(line: str) -> tuple[float, float]:
    """Seconds that were spent on anything, and all there were: proc_stat(5). Guests are counted in `user` already."""
    user, nice, system, idle, waiting, irq, softirq, steal, *_guests = map(int, line.split()[1:])
    busy = user + nice + system + irq + softirq + steal
    ticks = os.sysconf("SC_CLK_TCK")
    return busy / ticks, (busy + idle + waiting) / ticks


def share_of_others(before: tuple[float, float], after: tuple[float, float], own: float) -> float:
    """What part of the processors' time between two counts was spent, and not by a run that spent `own`."""
    busy, total = after[0] - before[0], after[1] - before[1]
    return min(max((busy - own) / total, 0.0), OTHERS_AT_MOST) if total > 0 else 0.0


def spent_by(groups: set[int]) -> float:
    """Seconds that processes in these groups have spent so far, and those of their children that are gone."""
    spent = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        # proc_pid_stat(5), after the name: state is field 3, pgrp 5, and utime, stime, cutime, cstime 14 to 17.
        if int(fields[2]) in groups:
            spent += sum(map(int, fields[11:15]))
    return spent / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """On the processor that is named, or on each."""
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
        print(f"{work():.3f}")
    else:
        print(*(f"{seconds:.2f} s" for seconds in on_each_processor()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
