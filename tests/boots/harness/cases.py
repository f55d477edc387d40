# SPDX-License-Identifier: Apache-2.0
"""Layer 2: one machine, many cases. Runs the Rust test `machine` as root on real device-mapper.

    cases.py [--timeout SECONDS] [FILTER...]

Prints each case as it ends; the last line is `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import accel
import root
from libtest import CASE, Tally, seen, tally
from machine import Disk, Ended, Kernel, Machine, Tpm

PROJECT = Path(__file__).resolve().parent.parent.parent.parent
WORK = root.CACHE / "layer2"
# The cases find a disk by its serial: /dev/disk/by-id/virtio-SERIAL.
BLANK_DISKS = {"blank4g": 4 << 30, "blank4g2": 4 << 30, "blank8g": 8 << 30, "blank1t": 1 << 40}
MEMORY_MIB = 3072
# What needs machines of its own: see kills.py.
OTHERS = ["--skip", "power::"]
OUTPUT_PORT = "nightlatch.output"
# A machine that says nothing for this long hangs: no case takes a third of it, alone on its processor. The other limit is
# for one that goes on and on; how long all cases take depends on what else the computer does.
SILENCE_SECONDS = 600
TIMEOUT_SECONDS = 3600


def main() -> int:
    """Builds, boots, reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, metavar="SECONDS")
    parser.add_argument("filter", nargs="*", help="run only the cases whose name contains it")
    options = parser.parse_args()
    total = verdict(run(WORK, build(), options.filter, options.timeout))
    print(total)
    return 0 if total.failed == 0 else 1


@dataclass(frozen=True)
class Build:
    """What a machine is given to run."""

    cases: Path
    programs: tuple[Path, ...] = ()


def build() -> Build:
    """The test program and, because it is an integration test, the programs it is about."""
    command = ["cargo", "test", "--locked", "--no-run", "--test", "machine", "--features=software-tpm"]
    command.append("--message-format=json")
    ended = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"building the cases: cargo ended with {ended.returncode}")
    messages = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith(b"{")]
    made = {m["target"]["name"]: Path(m["executable"]) for m in messages if m.get("executable")}
    return Build(made.pop("machine"), tuple(made.values()))


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


def run(work: Path, build: Build, filters: list[str], timeout_seconds: float) -> Ended:
    """Boots a machine in the new directory `work` and shows the cases as they end."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    system = root.prepare()
    initrd = work / "initrd.img"
    root.initrd(system, initrd)
    payload = pack(work, build, ["--test-threads=1", *OTHERS, *filters])
    disks = [Disk(system.image, "root", readonly=True), Disk(payload, "payload", readonly=True)]
    blank = [Disk.blank(work / f"{name}.img", size, name) for name, size in BLANK_DISKS.items()]
    kernel = Kernel(system.kernel, initrd, "quiet panic=-1")
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
            timeout_seconds, show, port=OUTPUT_PORT, silence_seconds=SILENCE_SECONDS
        )
    for disk in blank:
        disk.path.unlink()
    return ended


def verdict(ended: Ended) -> Tally:
    """The counts, if the machine, the test program and its summary agree; else a failure more."""
    output = ended.ports[OUTPUT_PORT]
    total = tally(output)
    finished = ended.how == "guest-shutdown" and total is not None
    if finished and total is not None:
        agreed = ended.results == [f"exit {0 if total.failed == 0 else 101}"]
        if agreed and total != Tally():
            return total.strict()
    result = ended.results[-1] if ended.results else "no verdict"
    print(f"machine: ended by {ended.how} after {ended.seconds:.0f} s with {result}")
    return seen(output).strict() + Tally(failed=1)


if __name__ == "__main__":
    sys.exit(main())
