# SPDX-License-Identifier: Apache-2.0
"""How a demo tells what happens: a line for each thing at the time it happens, and a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import accel

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
STARTED = time.monotonic()
# Of a demo's machine, before its first boot and after the last one. That it is so each boot's own log has to say.
OWNED = (
    "the firmware has Secure Boot on, with the keys of the machine's owner alone; the image is signed with one of them, "
    "and the kernel inside it is not"
)
SECURED = "Secure Boot was on in every boot that came up, and the owner's certificate vouched for what ran"


@dataclass(frozen=True)
class Row:
    """One boot in the table."""

    cells: tuple[str, ...]
    seconds: float
    good: bool


def table(head: Sequence[str], boots: Sequence[Row], more: str) -> int:
    """The summary, a line after it, and the exit code."""
    rows: list[Sequence[str]] = [("boot", *head, "time", "")]
    for number, row in enumerate(boots, 1):
        mark = "ok" if row.good else "DIFFERS"
        rows.append((str(number), *row.cells, f"{row.seconds:.0f} s", mark))
    say("")
    print_table(rows)
    if more:
        say(more)
    good = all(row.good for row in boots)
    verdict = "all as it should be" if good else "something differs"
    say(paint(verdict, "green" if good else "red") + f", {time.monotonic() - STARTED:.0f} s")
    return 0 if good else 1


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they must be; the last one coloured."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for index, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        colour = "bold" if index == 0 else "green" if row[-1] == "ok" else "red"
        say("  " + paint(line, colour))


def speed() -> str:
    """How the machines run."""
    return "KVM" if accel.name() == "kvm" else "software emulation (no usable KVM)"


def step(text: str) -> None:
    """One thing that was done, and when."""
    say(paint(f"{time.monotonic() - STARTED:7.1f} s", "dim") + f"  {text}")


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


def paint(text: str, colour: str) -> str:
    """Coloured where somebody looks."""
    if not sys.stdout.isatty():
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"
