# SPDX-License-Identifier: Apache-2.0
"""Layer kills: the power goes at random instants, again and again, and each next boot has the same disk and TPM.

    kills.py CHAIN

CHAIN is a number: each has instants of its own. `NIGHTLATCH_SEED` repeats them. The last line is `N passed, N failed`.

The machines are those of layer 2, with the case `power::one_boot` in them. What a guest had written when its power went
stays written: killing QEMU loses nothing that its disks had taken. Writes that a disk had taken and lost are the business
of the case `log_writes` in layer 2.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import accel
import cases
import root
from calibration import limit
from machine import Disk, Kernel, Machine, Tpm
from outcome import Outcome, check, equal, lighten, note

WORK = root.CACHE / "kills"
CASE = "power::one_boot"
OUTPUT_PORT = cases.OUTPUT_PORT
DISK_BYTES = 136 << 20
MEMORY_MIB = 1024
BOOT_TIMEOUT_SECONDS = limit(400)
POLL_SECONDS = 0.01
# Files that a boot leaves which is not cut, and more than one that is cut gets to.
FILES, FILES_CUT = 2, 1000
# In each chain, of all phases.
CUTS_AT_LEAST = 15
# In each chain. A boot that goes on where a cut left a volume may be through before its own cut is due, so how many cuts
# the plans below bring to each phase is chance; nodes are added for what is missing.
CUTS_IN_EACH_PHASE = 3
NODES_ADDED_AT_MOST = 12

FIRST, UNLOCK, WORKING = "the first boot", "an unlock", "work and checkpoints"
# The line with which a phase begins. The next phase begins where it ends.
BEGINS = {FIRST: "opening", UNLOCK: "opening", WORKING: "working"}
ENDS = {FIRST: "opened", UNLOCK: "opened", WORKING: "done"}
# What the nodes of a chain go through: in which phase each boot is cut, or not. What a cut left shows at the next boot
# that gets to its volume, at the latest at the last one. The first boot says how long the first phase takes.
NODES: tuple[tuple[str | None, ...], ...] = (
    (None, WORKING, UNLOCK, WORKING, UNLOCK, None),
    (FIRST, FIRST, WORKING, UNLOCK, UNLOCK, None),
    (FIRST, FIRST, FIRST, WORKING, UNLOCK, WORKING, None),
)
# What a further node goes through for a cut in this phase.
ADDED: dict[str, tuple[str | None, ...]] = {
    FIRST: (FIRST, None),
    UNLOCK: (None, UNLOCK, None),
    WORKING: (None, WORKING, None),
}


@dataclass(frozen=True)
class System:
    """What all machines boot, unchanged by any."""

    kernel: Path
    initrd: Path
    disks: tuple[Disk, ...]


@dataclass
class Boot:
    """What a boot printed, and when each word came first, in seconds."""

    lines: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    # When the power was cut after the phase began, if it was.
    cut_after: float | None = None
    how: str = ""

    def hear(self, line: str, seconds: float) -> None:
        """One line."""
        self.lines.append(line)
        self.times.setdefault(line.split(" ")[0], seconds)

    def said(self, word: str) -> list[str]:
        """What followed `word`, each time it began a line."""
        return [line[len(word) + 1 :] for line in self.lines if line.split(" ")[0] == word]

    def numbers(self, word: str) -> set[int]:
        """The same as numbers."""
        return {int(number) for number in self.said(word)}


class Node:
    """A disk and a TPM, and what its boots have promised."""

    def __init__(self, work: Path, system: System) -> None:
        self.work = work
        self.system = system
        self.disk = Disk.blank(work / "node.img", DISK_BYTES, "node")
        self.tpm = Tpm(work / "tpm")
        self.boots = 0
        self.was_open = False
        self.durable: set[int] = set()

    def boot(self, phase: str | None, delay_seconds: float, with_tpm: bool) -> Boot:
        """One boot, cut so long after the beginning of the phase, or not."""
        self.boots += 1
        boot = Boot()
        files = FILES if phase is None else FILES_CUT
        append = f"quiet panic=-1 nohibernate efi=noruntime NIGHTLATCH_FILES={files}"
        with Machine(
            self.work / f"boot{self.boots}",
            Kernel(self.system.kernel, self.system.initrd, append),
            disks=[*self.system.disks, self.disk],
            tpm=self.tpm,
            memory_mib=MEMORY_MIB,
            ports=("nightlatch.result", OUTPUT_PORT),
        ) as machine:
            with machine.follow(OUTPUT_PORT) as follower:
                due = None
                while machine.is_running() and machine.seconds() < BOOT_TIMEOUT_SECONDS:
                    for line in follower.lines(last=False):
                        boot.hear(line, machine.seconds())
                    begun = boot.times.get(BEGINS[phase]) if phase else None
                    due = begun + delay_seconds if begun is not None else None
                    if due is not None and machine.seconds() >= due:
                        machine.kill(with_tpm=with_tpm)
                        boot.cut_after = delay_seconds
                    else:
                        time.sleep(POLL_SECONDS)
                for line in follower.lines(last=True):
                    boot.hear(line, machine.seconds())
            boot.how = machine.wait(0).how
        return boot

    def judge(self, boot: Boot) -> None:
        """What must hold of every boot, as far as it got."""
        shown = "\n".join([*boot.lines, f"ended by {boot.how}"])
        check(not boot.said("failed"), "a boot that nothing stops", shown)
        expected = "killed" if boot.cut_after is not None else "guest-shutdown"
        check(boot.how == expected, f"an end by {expected}", shown)
        if boot.said("opened") == ["formatted"]:
            check(not self.was_open, "a volume that was open once never to be formatted", shown)
        if "working" in boot.times:
            lost = self.durable - boot.numbers("found")
            check(not lost, f"no file to be lost; lost are {sorted(lost)}", shown)
        self.was_open |= "opened" in boot.times
        self.durable |= boot.numbers("durable")

    def phase_of(self, boot: Boot) -> str:
        """Where the cut fell. To be asked before `judge`."""
        if "opened" in boot.times:
            return WORKING
        return UNLOCK if self.was_open else FIRST


class Chain:
    """Nodes one after the other."""

    def __init__(self, number: int, work: Path, system: System, seed: str) -> None:
        self.number = number
        self.work = work
        self.system = system
        self.chance = random.Random(f"{seed} {number}")
        self.cuts: Counter[str] = Counter()
        # How long each phase takes on this machine today.
        self.takes: dict[str, float] = {}

    def run(self, outcome: Outcome) -> None:
        """All of them."""
        for index, plan in enumerate(NODES, 1):
            with outcome.case(f"kills::chain_{self.number}_node_{index}_survives_every_cut"):
                self.live(index, plan)
        with outcome.case(f"kills::chain_{self.number}_is_cut_in_every_phase"):
            for index in range(NODES_ADDED_AT_MOST):
                missing = [phase for phase in ADDED if self.cuts[phase] < CUTS_IN_EACH_PHASE]
                if not missing:
                    break
                self.live(len(NODES) + 1 + index, ADDED[missing[0]])
            fewest = min(self.cuts[phase] for phase in ADDED)
            check(fewest >= CUTS_IN_EACH_PHASE, f"{CUTS_IN_EACH_PHASE} in each", self.cuts)

    def live(self, index: int, plan: tuple[str | None, ...]) -> None:
        """One node, from its first boot to its last."""
        node = Node(self.work / f"node{index}", self.system)
        for phase in plan:
            self.boot(node, phase)
        node.disk.path.unlink()

    def boot(self, node: Node, phase: str | None) -> None:
        """One boot, and whether it kept what the ones before it promised."""
        delay = self.chance.uniform(0, self.takes[phase]) if phase in self.takes else 0.0
        with_tpm = self.chance.random() < 0.5
        boot = node.boot(phase, delay, with_tpm)
        fell = node.phase_of(boot)
        self.learn(boot, fell)
        what = ", ".join(boot.said("opened")) or "not open yet"
        found = f"{len(boot.said('found'))} files found, {len(boot.said('durable'))} left"
        if boot.cut_after is not None:
            self.cuts[fell] += 1
            tpm = " and that of the TPM" if with_tpm else ""
            cut = f"power{tpm} cut in {fell}, {delay:.2f} s after '{BEGINS[phase or fell]}'"
        else:
            cut = "not cut"
        note(f"boot {node.boots}: {what}, {found}; {cut}")
        node.judge(boot)
        if phase is None:
            equal(len(boot.numbers("anchored")), FILES, "checkpoints of a boot that is not cut")

    def learn(self, boot: Boot, fell: str) -> None:
        """How long the phases took that came to their ends. The phase of an opening depends on what it did."""
        opened = {"formatted": FIRST, "unlocked": UNLOCK}
        phases = [opened[how] for how in boot.said("opened")] + [fell]
        for phase in phases:
            if BEGINS[phase] in boot.times and ENDS[phase] in boot.times:
                took = boot.times[ENDS[phase]] - boot.times[BEGINS[phase]]
                # The shortest, so that a cut falls into its phase however busy the machine is.
                self.takes[phase] = min(took, self.takes.get(phase, took))


def prepare(work: Path) -> System:
    """Root, initrd and payload."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    system = root.prepare()
    initrd = work / "initrd.img"
    root.initrd(system, initrd)
    payload = cases.pack(work, cases.build(), ["--test-threads=1", "--nocapture", "--exact", CASE])
    disks = (Disk(system.image, "root", readonly=True), Disk(payload, "payload", readonly=True))
    return System(system.kernel, initrd, disks)


def main(number: int) -> int:
    """Runs one chain and says where the cuts fell."""
    work = WORK / str(number)
    system = prepare(work)
    seed = os.environ.get("NIGHTLATCH_SEED") or str(random.SystemRandom().randrange(1 << 32))
    print(f"machines run under {accel.name()}; their logs stay in {work}")
    print(f"NIGHTLATCH_SEED={seed} repeats these moments", flush=True)
    outcome = Outcome()
    chain = Chain(number, work, system, seed)
    started = time.monotonic()
    chain.run(outcome)
    with outcome.case(f"kills::the_power_was_cut_often_enough_in_chain_{number}"):
        for phase in ADDED:
            note(f"{chain.cuts[phase]:3} {'#' * chain.cuts[phase]} {phase}")
        note(f"{chain.cuts.total()} cuts in {time.monotonic() - started:.0f} s")
        check(chain.cuts.total() >= CUTS_AT_LEAST, f"{CUTS_AT_LEAST} cuts", chain.cuts)
    if outcome.failed == 0:
        lighten(work)
    print(outcome)
    return 0 if outcome.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
