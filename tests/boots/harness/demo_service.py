# SPDX-License-Identifier: Apache-2.0
"""The demo with a key service: four boots of one machine that gets its keys for what it booted, told as they happen."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import Any

import image
from admission import EXTRA, EXTRA_TEXT, Fleet, denials, forwards
from boots.firmware import secured
from keyservice import KeyService, program, service_image
from node import BOOT_TIMEOUT_SECONDS, PROGRESS_PORT, Boot, Node
from telling import OWNED, SECURED, Row, paint, say, speed, step, table

WORK = image.CACHE.parent / "demo-service"
DENIED, FORMATTED, UNLOCKED = "denied, exit 77", "formats both", "unlocks both"
REFUSED = "refused, exit 77"
WORDS = {FORMATTED: {"formatted"}, UNLOCKED: {"unlocked"}}
WIDTH = 110
# Enough of a digest to tell it from others.
DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def main() -> int:
    """Builds, boots four times, sums up."""
    what = ": a machine that gets its keys from a service, for what it booted, under "
    say(paint("nightlatch", "bold") + what + speed())
    image.programs(step)
    program(step)
    fleet = Fleet(WORK, service_image(image.demo(step), step))
    node = fleet.node(WORK / "node")
    step(OWNED)
    with fleet.service as service:
        step(f"nightlatchd runs here, port {service.port}; it admits no image")
        story = Story(node, service)
        story.boot("an image the service does not know", DENIED)
        if denials(service):
            fleet.admit()
            step(paint("the operator puts what the file of the image says into the policy", "blue"))
        story.boot("the same, now admitted; blank disks", FORMATTED)
        story.boot("the same once more", UNLOCKED)
        story.boot(f"the host adds {EXTRA_TEXT!r} to the command line", REFUSED, smbios=EXTRA)
        return story.table()


class Story:
    """The boots so far."""

    def __init__(self, node: Node, service: KeyService) -> None:
        self._node = node
        self._service = service
        self._rows: list[Row] = []
        self._audited = 0
        # What the first boot that came up measured.
        self._cluster = ""

    def boot(self, what: str, expected: str, smbios: str = "") -> None:
        """One boot: told from the machine's side, then from the service's, then judged."""
        say("")
        say(paint(f"boot {len(self._rows) + 1}", "bold") + f": {what}")
        node = self._node
        before = {name: node.digest(name) for name in node.paths}
        options: dict[str, Any] = {"forwards": forwards(self._service), "smbios": smbios}
        with node.machine(firmware=True, progress=True, **options) as machine:
            ended = machine.wait(BOOT_TIMEOUT_SECONDS, on_line=step, port=PROGRESS_PORT)
        boot = Boot(ended, machine.directory)
        self._tell_audit()
        same = before == {name: node.digest(name) for name in node.paths}
        happened, problems = self._judge(boot, expected, same)
        for problem in problems:
            step(paint(problem, "red"))
        step(paint(f"{happened}; {boot.seconds():.0f} s", "red" if problems else "green"))
        if problems:
            say(paint(f"    the machine's console and report: {machine.directory}", "yellow"))
        self._rows.append(Row((what, expected, happened), boot.seconds(), not problems))

    def table(self) -> int:
        """The summary, and the exit code."""
        cluster = f"{SECURED}\nPCR 15 of every boot that came up: {self._cluster}"
        more = cluster if self._cluster else ""
        return table(("what is booted", "expected", "happened"), self._rows, more)

    def _tell_audit(self) -> None:
        """What the service wrote about this boot; once what two addresses were told."""
        lines = self._service.audit()
        new = lines[self._audited :]
        self._audited = len(lines)
        for event, about, why in dict.fromkeys(map(essence, new)):
            colour = "red" if event == "denial" else "blue"
            step(paint(f"the service: {event}", colour) + f" {about}")
            self._tell_why(why)

    def _tell_why(self, why: str) -> None:
        """An explanation, one difference a line."""
        for part in DIGEST.sub(r"\1…", why).replace("\\\\", "\\").split("; "):
            for text in textwrap.wrap(part, WIDTH, subsequent_indent="  "):
                say("               " + paint(text, "yellow"))

    def _judge(self, boot: Boot, expected: str, same: bool) -> tuple[str, list[str]]:
        """What happened, in words, and what of it was not expected."""
        if expected in (DENIED, REFUSED):
            happened = f"{boot.kind}, exit {boot.exit}, disks {'un' if same else ''}changed"
            good = boot.kind == "stopped" and boot.exit == 77 and same
            return happened, [] if good else [f"expected it {expected}; {boot.sentence}"]
        ways = set(boot.opened.values())
        status = boot.verdict.get("status") or {}
        sources = {volume["source"] for volume in status.get("volumes", [])}
        cluster = boot.pcrs.get("15", "")
        self._cluster = self._cluster or cluster
        happened = f"{boot.kind}, {'+'.join(sorted(ways)) or 'nothing open'}"
        happened += f" with the key from: {'+'.join(sorted(sources)) or 'nowhere'}"
        problems = []
        if boot.kind != "booted" or ways != WORDS[expected] or sources != {"service"}:
            problems.append(f"expected it {expected} with the service's key; {boot.sentence}")
        if not cluster or cluster != self._cluster:
            problems.append(f"PCR 15: expected {self._cluster or 'a value'}, seen {cluster}")
        if boot.kind == "booted" and not secured(boot):
            problems.append("Secure Boot: expected it on, and its owner's certificate to vouch for the image")
        return happened, problems


def essence(line: dict[str, Any]) -> tuple[str, str, str]:
    """Of a line of the audit log: what happened, with what, and why."""
    about = line.get("resource") or ", ".join(line.get("volumes", []))
    return line["event"], about, line.get("why", "")


if __name__ == "__main__":
    sys.exit(main())
