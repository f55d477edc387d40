# SPDX-License-Identifier: Apache-2.0
"""The power goes while the first boot of a whole system is at work.

Once, to see that nothing in a system but nightlatch minds: `kills.py` cuts nightlatch's own work many times, and the case
`log_writes` at every flush. What was booted does not matter to that, so the firmware starts the image's kernel, with Secure
Boot off.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from boots.firmware import FIRST, booted
from image import Image
from machine import Ended
from node import BOOT_TIMEOUT_SECONDS, PROGRESS_PORT, VOLUMES, Boot, Node
from outcome import Outcome, check, equal, note

# What nightlatch tells when the first disk was found blank, and when its work is done.
BEGUN, DONE = "it will be formatted", "handed over to systemd"
POLL_SECONDS = 0.01
# A boot that is quicker than the one before may be done when the power goes: then another one is cut.
DRAWS = 5


@dataclass
class Telling:
    """What nightlatch told while a machine ran, and when it told it, in seconds of that machine."""

    lines: list[tuple[float, str]] = field(default_factory=list)

    def hear(self, seconds: float, lines: list[str]) -> None:
        """Lines that came at that time."""
        self.lines += [(seconds, line) for line in lines]

    def when(self, words: str) -> float | None:
        """When it first told that."""
        return next((seconds for seconds, line in self.lines if words in line), None)

    def takes(self) -> float | None:
        """How long the work took that came to its end."""
        begun, done = self.when(BEGUN), self.when(DONE)
        return None if begun is None or done is None else done - begun

    def is_at_work(self) -> bool:
        """Whether the work had begun and was not done."""
        return self.when(BEGUN) is not None and self.when(DONE) is None

    def formatted(self) -> int:
        """How many volumes had complete headers."""
        return sum(line.startswith("formatted ") for _, line in self.lines)


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Cut the power of a first boot at a random moment; the next boot must end well."""
    seed = os.environ.get("NIGHTLATCH_SEED") or str(random.SystemRandom().randrange(1 << 32))
    print(f"power: NIGHTLATCH_SEED={seed} repeats this moment", flush=True)
    chance = random.Random(seed)
    takes: float | None = None
    with outcome.case("power::the_control_boots_undisturbed"):
        ended, telling, directory = first_boot(Node(work / "control", image), None)
        booted(Boot(ended, directory), FIRST, count=1)
        equal(telling.formatted(), len(VOLUMES), "volumes told to be formatted")
        takes = telling.takes()
    with outcome.case("power::a_cut_during_the_first_boot_is_survived"):
        check(takes is not None, "the control to tell how long its work takes", takes)
        node, telling = cut(chance, takes or 0.0, image, work)
        after = node.boot()
        note(f"then {after.kind}: {after.opened}")
        check(after.kind == "booted", "a boot to the end", after)
        kept = list(after.opened.values()).count("unlocked")
        check(kept >= telling.formatted(), f"{telling.formatted()} volumes to be kept", after)


def cut(chance: random.Random, takes: float, image: Image, work: Path) -> tuple[Node, Telling]:
    """A node whose power went while nightlatch was at work, and what it had told by then."""
    for draw in range(1, DRAWS + 1):
        node = Node(work / f"cut{draw}", image)
        delay = chance.uniform(0, takes)
        ended, telling, _ = first_boot(node, delay)
        last = telling.lines[-1][1] if telling.lines else "nothing"
        note(f"cut {delay:.2f} s after the first blank disk was told of; told last: {last}")
        if ended.how == "killed" and telling.is_at_work():
            return node, telling
        takes = min(takes, telling.takes() or takes)
    raise AssertionError(f"expected a cut while nightlatch is at work; none of {DRAWS} was")


def first_boot(node: Node, delay: float | None) -> tuple[Ended, Telling, Path]:
    """One boot, cut so long after its work began, or not."""
    telling = Telling()
    with node.machine(progress=True) as machine:
        with machine.follow(PROGRESS_PORT) as follower:
            while machine.is_running() and machine.seconds() < BOOT_TIMEOUT_SECONDS:
                telling.hear(machine.seconds(), follower.lines(last=False))
                begun = telling.when(BEGUN)
                due = None if delay is None or begun is None else begun + delay
                if due is not None and machine.seconds() >= due:
                    machine.kill()
                time.sleep(POLL_SECONDS)
            # What was on its way when the power went was told before it.
            telling.hear(machine.seconds(), follower.lines(last=True))
        return machine.wait(0), telling, machine.directory
