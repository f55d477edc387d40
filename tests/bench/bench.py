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
sys.path.insert(0, str(HERE.parent / "vm"))

import accel
import cases
import root
import sizes
import tables
from machine import Disk, Kernel, Machine, Tpm
from tpm import command_heads, command_names

WORK = root.CACHE / "bench"
GIB = 1 << 30
DISKS = {"blank1g": 1, "blank4g": 4, "blank4g2": 4, "blank64g": 64, "blank1t": 1024}
TIMEOUT_SECONDS = 1500
# The full wipe says nothing for as long as it takes.
SILENCE_SECONDS = 600
# As in guest.rs: TPM2_GetRandom for a number of bytes that says which part begins or ends.
MARKER = bytes.fromhex("8001 0000000c 0000017b")
MARKER_FIRST = 0xB000


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
        system, records, parts = measure(built, timeout_seconds)
        [program] = built.programs
        size = sizes.measure(WORK / "sizes", system, program, records)
        print(f"machine: {accel.name()}, 2 processors of {os.cpu_count()}", end=", ")
        print(f"load {os.getloadavg()[1]:.1f}, {time.monotonic() - started:.0f} s")
        kept = tables.show(records, parts, size)
    finally:
        # Sparse, but nothing another run could use.
        for image in WORK.glob("*.img"):
            image.unlink()
    shutil.rmtree(WORK)
    return 0 if kept else 1


def build() -> cases.Build:
    """The program that measures, and the one that ships, both as they ship."""
    command = ["cargo", "build", "--locked", "--release", "--message-format=json"]
    command += ["--example", "bench", "--bin", "nightlatch"]
    ended = subprocess.run(command, cwd=cases.PROJECT, stdout=subprocess.PIPE, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"building: cargo ended with {ended.returncode}")
    messages = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith(b"{")]
    made = {m["target"]["name"]: Path(m["executable"]) for m in messages if m.get("executable")}
    return cases.Build(made["bench"], (made["nightlatch"],))


def measure(
    built: cases.Build, timeout_seconds: float
) -> tuple[root.Root, list[dict[str, Any]], dict[int, list[str]]]:
    """What the machine said, and the TPM commands of each part."""
    system = root.prepare()
    initrd = WORK / "initrd.img"
    root.initrd(system, initrd)
    payload = cases.pack(WORK, built, [])
    disks = [Disk(system.image, "root", readonly=True), Disk(payload, "payload", readonly=True)]
    disks += [Disk.blank(WORK / f"{name}.img", gib * GIB, name) for name, gib in DISKS.items()]
    tpm = Tpm(WORK / "tpm", log=True)
    print(f"measuring in one machine ({accel.name()}); about six minutes without KVM")
    with Machine(
        WORK / "machine",
        Kernel(system.kernel, initrd, "quiet panic=-1"),
        disks=disks,
        tpm=tpm,
        memory_mib=cases.MEMORY_MIB,
        ports=("nightlatch.result", cases.OUTPUT_PORT),
    ) as machine:
        ended = machine.wait(
            timeout_seconds, progress, port=cases.OUTPUT_PORT, silence_seconds=SILENCE_SECONDS
        )
    if ended.how != "guest-shutdown" or ended.results != ["exit 0"]:
        result = ended.results[-1] if ended.results else "no verdict"
        raise SystemExit(f"machine: ended by {ended.how} with {result}, see {WORK}/machine")
    lines = ended.ports[cases.OUTPUT_PORT]
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert tpm.log is not None
    return system, records, parts(tpm.log.read_text(encoding="ascii", errors="replace"))


def progress(line: str) -> None:
    """A dot for each measurement on a terminal; whatever is none of them is for people."""
    if not line.startswith("{"):
        print(line)
    elif sys.stdout.isatty():
        print(".", end="", flush=True)


def parts(log: str) -> dict[int, list[str]]:
    """The names of the commands between the two markers of each part."""
    names = command_names()
    found: dict[int, list[str]] = {}
    current: list[str] | None = None
    for head in command_heads(log):
        number = int.from_bytes(head[10:12], "big")
        if len(head) == 12 and head.startswith(MARKER) and number >= MARKER_FIRST:
            part, is_end = divmod(number - MARKER_FIRST, 2)
            if is_end:
                current = None
            else:
                current = found.setdefault(part, [])
        elif current is not None and len(head) >= 10:
            code = int.from_bytes(head[6:10], "big")
            current.append(names.get(code, f"{code:#010x}"))
    return found


if __name__ == "__main__":
    sys.exit(main())
