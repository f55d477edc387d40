# SPDX-License-Identifier: Apache-2.0
"""The demo: four boots of one machine, with firmware and a TPM, told as they happen."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import accel
import image
from chain_firmware import HEADER_OFFSET
from node import BOOT_TIMEOUT_SECONDS, PROGRESS_PORT, Boot, Node

WORK = image.CACHE.parent / "demo"
FORMATTED, UNLOCKED, REFUSED = "formats both", "unlocks both", "refuses it, exit 77"
COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
STARTED = time.monotonic()


def main() -> int:
    """Builds, boots four times, sums up."""
    say(paint("nightlatch", "bold") + ": a machine that encrypts its own disks, under " + speed())
    image.programs(step)
    node = Node(WORK, image.demo(step))
    story = Story(node)
    story.boot("blank disks", FORMATTED)
    story.boot("the disks as the first boot left them", UNLOCKED)
    flipped = f"one byte of a header changed, at offset {HEADER_OFFSET}"
    node.flip("state", HEADER_OFFSET)
    story.boot(flipped, REFUSED)
    node.flip("state", HEADER_OFFSET)
    story.boot("the byte restored", UNLOCKED)
    return story.table()


class Story:
    """The boots so far."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rows: list[tuple[str, str, str, float, bool]] = []
        # What the first boot measured, and how often the volumes were opened.
        self._cluster = ""
        self._opened = 0

    def boot(self, disks: str, expected: str) -> None:
        """One boot: told, then judged."""
        number = len(self._rows) + 1
        say("")
        say(paint(f"boot {number}", "bold") + f": {disks}")
        before = self._node.digest("state")
        with self._node.machine(firmware=True, progress=True) as machine:
            ended = machine.wait(BOOT_TIMEOUT_SECONDS, on_line=step, port=PROGRESS_PORT)
        boot = Boot(ended, machine.directory)
        happened, problems = self._judge(boot, expected, before)
        for problem in problems:
            step(paint(problem, "red"))
        colour = "red" if problems else "green"
        step(paint(f"{happened}; {boot.seconds():.0f} s", colour))
        if problems:
            say(paint(f"    the machine's console and report: {machine.directory}", "yellow"))
        self._rows.append((disks, expected, happened, boot.seconds(), not problems))

    def _judge(self, boot: Boot, expected: str, before: str) -> tuple[str, list[str]]:
        """What happened, in words, and what of it was not expected."""
        if expected == REFUSED:
            same = self._node.digest("state") == before
            happened = f"{boot.kind}, exit {boot.exit}, disk {'un' if same else ''}changed"
            if boot.kind == "stopped" and boot.exit == 77 and same:
                return happened, []
            return happened, [f"expected a refusal and an unchanged disk; {boot.sentence}"]
        self._opened += 1
        ways = sorted(set(boot.opened.values()))
        cluster = boot.pcrs.get("15", "")
        self._cluster = self._cluster or cluster
        counts = boot.verdict.get("boots")
        happened = f"{boot.kind}, {'+'.join(ways) or 'nothing open'}, its files count {counts_text(counts)}"
        problems = []
        wanted = ["formatted"] if expected == FORMATTED else ["unlocked"]
        if boot.kind != "booted" or ways != wanted or len(boot.opened) != 2:
            problems.append(f"expected both volumes {wanted[0]}; {boot.sentence}")
        if counts != {"state": self._opened, "root": self._opened}:
            problems.append(f"expected the files on both volumes to count {self._opened}: {counts}")
        if not cluster or cluster != self._cluster:
            problems.append(f"PCR 15: expected {self._cluster or 'a value'}, seen {cluster}")
        return happened, problems

    def table(self) -> int:
        """The summary, and the exit code."""
        say("")
        rows = [("boot", "disks", "expected", "happened", "time", "")]
        for number, (disks, expected, happened, seconds, good) in enumerate(self._rows, 1):
            mark = "ok" if good else "DIFFERS"
            rows.append((str(number), disks, expected, happened, f"{seconds:.0f} s", mark))
        print_table(rows)
        if self._cluster:
            say(f"PCR 15 of every boot that came up: {self._cluster}")
        good = all(row[-1] for row in self._rows)
        verdict = "all as it should be" if good else "something differs"
        say(paint(verdict, "green" if good else "red") + f", {time.monotonic() - STARTED:.0f} s")
        return 0 if good else 1


def counts_text(counts: object) -> str:
    """The boots counted in files, as one number where they agree."""
    if not isinstance(counts, dict):
        return "?"
    values = sorted({str(value) for value in counts.values()})
    return "/".join(values)


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


if __name__ == "__main__":
    sys.exit(main())
