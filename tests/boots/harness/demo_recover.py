# SPDX-License-Identifier: Apache-2.0
"""The demo of a recovery: three boots of one machine whose key service is lost when its image is updated, told as they happen."""

from __future__ import annotations

import sys
import textwrap

import image
import uki
from admission import Fleet, forwards
from boots.firmware import secured
from boots.service import releases, sources, volumes
from boots.updates import NEWS
from keyservice import operator_key, program, recovering_image
from node import BOOT_TIMEOUT_SECONDS, PROGRESS_PORT, Boot
from recovering import Operator, boot
from telling import OWNED, SECURED, Row, paint, say, speed, step, table

WORK = image.CACHE.parent / "demo-recover"
FORMATTED = "formats both with the service's keys"
RECOVERED = "unlocks both with the operator's keys"
BY_ITSELF = "unlocks both by itself"
# Of each: how the volumes are opened, and where the keys are from.
WANTED = {
    FORMATTED: ("formatted", "service"),
    RECOVERED: ("unlocked", "recovery"),
    BY_ITSELF: ("unlocked", "tpm"),
}
WIDTH = 110


def main() -> int:
    """Builds, boots three times, sums up."""
    what = ": a machine that lost its key service, and the operator who gives it its keys, under "
    say(paint("nightlatch", "bold") + what + speed())
    image.programs(step)
    program(step)
    made = recovering_image(image.demo(step), step)
    updated = uki.with_initrd_files(made, NEWS, "recovering-updated")
    fleet = Fleet(WORK, made)
    node = fleet.node(WORK / "node")
    fleet.admit(updated=updated)
    step(OWNED)
    story = Story()
    with fleet.service as service:
        step(f"nightlatchd runs here, port {service.port}, and admits the image and its update")
        story.begin("blank disks, and a key service")
        with node.machine(firmware=True, forwards=forwards(service), progress=True) as machine:
            ended = machine.wait(BOOT_TIMEOUT_SECONDS, on_line=step, port=PROGRESS_PORT)
        first = Boot(ended, machine.directory)
        if not story.end(first, FORMATTED):
            return story.table()
    step(paint("the key service is lost; its master secret and its policy are kept", "yellow"))
    operator = Operator(service, operator_key("operator"), WORK / "expected")
    operator.expect(releases(service)[-1]["ek"], [volume["uuid"] for volume in volumes(first)])
    node.image = updated
    story.begin("the image is updated, so the TPM has no key for it, and nobody answers")
    recovered, _ = boot(node, operator, lambda: recover(operator), on_line=step)
    story.end(recovered, RECOVERED)
    story.begin("the same once more, with nobody to ask")
    alone, _ = boot(node, operator, lambda: None, on_line=step)
    story.end(alone, BY_ITSELF)
    return story.table()


def recover(operator: Operator) -> None:
    """What the operator does, and what is said to it."""
    for words in ((), ("readmit",)):
        step(paint("the operator: " + " ".join(["nightlatchctl recover", *(f"--word {word}" for word in words)]), "blue"))
        said = operator.recover(*words, is_read_by_people=True)
        for line in (said.text + said.errors).splitlines():
            for text in textwrap.wrap(line, WIDTH, subsequent_indent="  "):
                say("               " + paint(text, "yellow" if said.code else "green"))


class Story:
    """The boots so far."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._what = ""
        # What the first boot measured.
        self._cluster = ""

    def begin(self, what: str) -> None:
        """Says which boot comes."""
        self._what = what
        say("")
        say(paint(f"boot {len(self._rows) + 1}", "bold") + f": {what}")

    def end(self, boot: Boot, expected: str) -> bool:
        """Judges it."""
        ways, from_where = set(boot.opened.values()), sources(boot) if boot.kind == "booted" else set()
        cluster = boot.pcrs.get("15", "")
        self._cluster = self._cluster or cluster
        happened = f"{boot.kind}, {'+'.join(sorted(ways)) or 'nothing open'}, keys from: {'+'.join(sorted(from_where)) or 'nowhere'}"
        how, whose = WANTED[expected]
        problems = []
        if boot.kind != "booted" or (ways, from_where) != ({how}, {whose}):
            problems.append(f"expected it {expected}; {boot.sentence}")
        if not cluster or cluster != self._cluster:
            problems.append(f"PCR 15: expected {self._cluster or 'a value'}, seen {cluster}")
        if boot.kind == "booted" and not secured(boot):
            problems.append("Secure Boot: expected it on, and its owner's certificate to vouch for the image")
        for problem in problems:
            step(paint(problem, "red"))
        step(paint(f"{happened}; {boot.seconds():.0f} s", "red" if problems else "green"))
        if problems:
            say(paint(f"    the machine's console and report: {boot.directory}", "yellow"))
        self._rows.append(Row((self._what, expected, happened), boot.seconds(), not problems))
        return not problems

    def table(self) -> int:
        """The summary, and the exit code."""
        more = f"{SECURED}\nPCR 15 of every boot that came up: {self._cluster}" if self._cluster else ""
        return table(("what is booted", "expected", "happened"), self._rows, more)


if __name__ == "__main__":
    sys.exit(main())
