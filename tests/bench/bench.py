# SPDX-License-Identifier: Apache-2.0
"""Boots one machine, lets it measure, and prints tables with the budgets.

    bench.py [--timeout SECONDS]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "boots" / "harness"))

import accel
import cases
import root
import sizes
import tables
from calibration import limit
from machine import Disk, Kernel, Machine
from tpm import command_names

WORK = root.CACHE / "bench"
GIB = 1 << 30
DISKS = {"blank1g": 1, "blank4g": 4, "blank4g2": 4, "blank64g": 64, "blank1t": 1024}
TIMEOUT_SECONDS = limit(1500)
# The full wipe says nothing for as long as it takes.
SILENCE_TIMEOUT_SECONDS = limit(600)


def main() -> int:
    """Builds, boots, prints."""
    parser = argparse.ArgumentParser(prog="run", description=__doc__.splitlines()[0])
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, metavar="SECONDS")
    timeout_seconds = parser.parse_args().timeout
    built = build()
    started = time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    try:
        system, records = measure(built, timeout_seconds)
        [program] = built.programs
        size = sizes.measure(WORK / "sizes", system, program, records)
        print(f"machine: {accel.name()}, 2 processors of {os.cpu_count()}", end=", ")
        print(f"load {os.getloadavg()[1]:.1f}, {time.monotonic() - started:.0f} s")
        kept = tables.show(records, size)
    finally:
        # Sparse, but nothing another run could use.
        for image in WORK.glob("*.img"):
            image.unlink()
    shutil.rmtree(WORK)
    return 0 if kept else 1


def build() -> cases.Build:
    """The program that measures, and the one that ships."""
    # One after the other: what the tests want of a dependency is not in what ships.
    return cases.Build(compiled("--example", "bench"), (compiled("--bin", "nightlatch"),))


def compiled(kind: str, name: str) -> Path:
    """Where a program is, made as it ships."""
    command = ["cargo", "build", "--locked", "--release", "--message-format=json", kind, name]
    ended = subprocess.run(command, cwd=cases.PROJECT, stdout=subprocess.PIPE, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"building: cargo ended with {ended.returncode}")
    messages = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith(b"{")]
    made = {m["target"]["name"]: Path(m["executable"]) for m in messages if m.get("executable")}
    return made[name]


def measure(
    built: cases.Build, timeout_seconds: float
) -> tuple[root.Root, list[dict[str, Any]]]:
    """What the machine said, with names for the TPM commands."""
    system = root.prepare()
    initrd = WORK / "initrd.img"
    root.initrd(system, initrd)
    payload = cases.pack(WORK, built, [])
    disks = [Disk(system.image, "root", readonly=True), Disk(payload, "payload", readonly=True)]
    disks += [Disk.blank(WORK / f"{name}.img", gib * GIB, name) for name, gib in DISKS.items()]
    print(f"measuring in one machine ({accel.name()}); about six minutes without KVM")
    with Machine(
        WORK / "machine",
        Kernel(system.kernel, initrd, "quiet panic=-1 nohibernate"),
        disks=disks,
        memory_mib=cases.MEMORY_MIB,
        cpus=2,
        ports=("nightlatch.result", cases.OUTPUT_PORT),
    ) as machine:
        ended = machine.wait(
            timeout_seconds, progress, port=cases.OUTPUT_PORT, silence_seconds=SILENCE_TIMEOUT_SECONDS
        )
    if ended.how != "guest-shutdown" or ended.results != ["exit 0"]:
        result = ended.results[-1] if ended.results else "no verdict"
        raise SystemExit(f"machine: ended by {ended.how} with {result}, see {WORK}/machine")
    lines = ended.ports[cases.OUTPUT_PORT]
    records = [json.loads(line) for line in lines if line.startswith("{")]
    names = command_names()
    for record in records:
        if "commands" in record:
            record["commands"] = [names.get(code, f"{code:#010x}") for code in record["commands"]]
    return system, records


def progress(line: str) -> None:
    """A dot for each measurement on a terminal; whatever is none of them is for people."""
    if not line.startswith("{"):
        print(line)
    elif sys.stdout.isatty():
        print(".", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
