# SPDX-License-Identifier: Apache-2.0
"""Layer 2: one machine, many cases. Runs the Rust test `machine` as root on real device-mapper.

    cases.py NAME CASE...
    cases.py --file FILE [FILTER...]

The cases of that name, or of a file those whose names contain a filter; each of them has to run. NAME is the directory
of the run. Prints each case as it ends; the last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import accel
import builds
import outcome
import paths
import root
from calibration import limit
from libtest import CASE, Tally, seen, tally
from machine import Disk, Ended, Kernel, Machine, Tpm

PROJECT = builds.PROJECT
WORK = root.CACHE / "layer2"
# The cases find a disk by its serial: /dev/disk/by-id/virtio-SERIAL.
BLANK_DISKS = {"blank4g": 4 << 30, "blank4g2": 4 << 30, "blank8g": 8 << 30, "blank1t": 1 << 40}
MEMORY_MIB = 3072
# What needs machines of its own: see kills.py.
OTHERS = ["--skip", "power::"]
OUTPUT_PORT = "nightlatch.output"
# A machine that says nothing for this long hangs: no case takes a third of it, alone on its processor. The other limit is
# for one that goes on and on.
SILENCE_TIMEOUT_SECONDS = limit(600)
TIMEOUT_SECONDS = limit(3600)


def main() -> int:
    """Boots, reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", action="store_true", help="NAME is a file, and words are parts of its cases' names")
    parser.add_argument("name", help="what the run is called")
    parser.add_argument("word", nargs="*", help="a case, or with --file a part of its name")
    options = parser.parse_args()
    chosen = options.word
    if options.file:
        there, words = paths.cases_of(options.name), options.word or [""]
        chosen = [case for case in there if any(word in case for word in words)]
    ended = run(WORK / options.name, build(), ["--exact", *chosen], TIMEOUT_SECONDS)
    total = verdict(ended, len(chosen))
    if total.failed == 0:
        outcome.lighten(WORK / options.name)
    print(total)
    return 0 if total.failed == 0 else 1


@dataclass(frozen=True)
class Build:
    """What a machine is given to run."""

    cases: Path
    programs: tuple[Path, ...] = ()


def build() -> Build:
    """The test program and the programs it is about."""
    made = builds.built()
    programs = [path for name, path in made.items() if name.startswith("bin/")]
    return Build(made["machine"], tuple(programs))


def pack(work: Path, build: Build, arguments: list[str]) -> Path:
    """The disk with what is under test, and what it is called with."""
    tree = work / "payload"
    (tree / "bin").mkdir(parents=True)
    shutil.copy2(build.cases, tree / "cases")
    for program in build.programs:
        shutil.copy2(program, tree / "bin")
    shutil.copy2(Path(__file__).parent / "guest" / "run-cases", tree / "init")
    words = "".join(f"{word}\n" for word in ("cases", *arguments))
    (tree / "arguments").write_text(words, encoding="utf-8")
    image = work / "payload.squashfs"
    command = ["mksquashfs", str(tree), str(image), "-all-root", *root.UNCOMPRESSED]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return image


def run(
    work: Path,
    build: Build,
    filters: list[str],
    timeout_seconds: float,
    hang_seconds: float | None = None,
) -> Ended:
    """Boots a machine in the new directory `work` and shows the cases as they end.

    Where they have begun, `hang_seconds` without a line are an end.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    system = root.prepare()
    initrd = work / "initrd.img"
    root.initrd(system, initrd)
    payload = pack(work, build, ["--test-threads=1", *OTHERS, *filters])
    disks = [Disk(system.image, "root", readonly=True), Disk(payload, "payload", readonly=True)]
    blank = [Disk.blank(work / f"{name}.img", size, name) for name, size in BLANK_DISKS.items()]
    kernel = Kernel(system.kernel, initrd, "quiet panic=-1 nohibernate efi=noruntime")
    print(f"booting one machine ({accel.name()}), console in {work}/machine/console.log")
    started = time.monotonic()

    def show(line: str) -> None:
        print(f"{time.monotonic() - started:7.1f}s  {line}" if CASE.match(line) else line)
        sys.stdout.flush()

    with Machine(
        work / "machine",
        kernel,
        disks=[*disks, *blank],
        tpm=Tpm(work / "tpm", log=True),
        memory_mib=MEMORY_MIB,
        ports=("nightlatch.result", OUTPUT_PORT),
    ) as machine:
        ended = machine.wait(
            timeout_seconds,
            show,
            port=OUTPUT_PORT,
            silence_seconds=SILENCE_TIMEOUT_SECONDS,
            silence_after_first_seconds=hang_seconds,
        )
    for disk in blank:
        disk.path.unlink()
    return ended


def verdict(ended: Ended, expected: int | None = None) -> Tally:
    """The counts, if the machine, the test program and its summary agree, and are of as many cases as `expected`; else a
    failure more."""
    output = ended.ports[OUTPUT_PORT]
    total = tally(output)
    finished = ended.how == "guest-shutdown" and total is not None
    if finished and total is not None:
        agreed = ended.results == [f"exit {0 if total.failed == 0 else 101}"]
        complete = expected is None or total.passed + total.failed == expected
        if agreed and complete and total != Tally():
            return total.strict()
    result = ended.results[-1] if ended.results else "no verdict"
    print(f"machine: ended by {ended.how} after {ended.seconds:.0f} s with {result}")
    return seen(output).strict() + Tally(failed=1)


if __name__ == "__main__":
    sys.exit(main())
