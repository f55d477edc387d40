# SPDX-License-Identifier: Apache-2.0
"""The demo: four boots of one machine, with Secure Boot and a TPM, told as they happen."""

from __future__ import annotations

import sys

import image
from boots.firmware import HEADER_OFFSET, secured
from node import BOOT_TIMEOUT_SECONDS, PROGRESS_PORT, Boot, Node
from telling import OWNED, SECURED, Row, paint, say, speed, step, table

WORK = image.CACHE.parent / "demo"
FORMATTED, UNLOCKED, REFUSED = "formats both", "unlocks both", "refuses it, exit 77"


def main() -> int:
    """Builds, boots four times, sums up."""
    say(paint("nightlatch", "bold") + ": a machine that encrypts its own disks, under " + speed())
    image.programs(step)
    node = Node(WORK, image.demo(step))
    story = Story(node)
    step(OWNED)
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
        self._rows: list[Row] = []
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
        self._rows.append(Row((disks, expected, happened), boot.seconds(), not problems))

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
        if boot.kind == "booted" and not secured(boot):
            problems.append("Secure Boot: expected it on, and its owner's certificate to vouch for the image")
        return happened, problems

    def table(self) -> int:
        """The summary, and the exit code."""
        return table(
            ("disks", "expected", "happened"),
            self._rows,
            f"{SECURED}\nPCR 15 of every boot that came up: {self._cluster}" if self._cluster else "",
        )


def counts_text(counts: object) -> str:
    """The boots counted in files, as one number where they agree."""
    if not isinstance(counts, dict):
        return "?"
    values = sorted({str(value) for value in counts.values()})
    return "/".join(values)


if __name__ == "__main__":
    sys.exit(main())
