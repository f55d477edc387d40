# SPDX-License-Identifier: Apache-2.0
"""The power goes while the first boot of a whole system is at work.

Once, to see that nothing in a system but nightlatch minds: `kills.py` cuts nightlatch's own work many times, and the case
`log_writes` at every flush.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from chain_firmware import FIRST, booted
from image import Image
from node import BOOT_TIMEOUT_SECONDS, Boot, Node
from outcome import Outcome, check, note


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Cut the power of a first boot at a random moment; the next boot must end well."""
    seed = os.environ.get("NIGHTLATCH_SEED") or str(random.SystemRandom().randrange(1 << 32))
    print(f"power: NIGHTLATCH_SEED={seed} repeats this moment", flush=True)
    chance = random.Random(seed)
    with outcome.case("power::the_control_boots_undisturbed"):
        control = Node(work / "control", image).boot()
        booted(control, FIRST, count=1)
        from_seconds, to_seconds = window(control)
    seconds = chance.uniform(from_seconds, to_seconds)
    with outcome.case("power::a_cut_during_the_first_boot_is_survived"):
        node = Node(work / "cut", image)
        with node.machine() as machine:
            time.sleep(seconds)
            machine.kill()
            cut = Boot(machine.wait(BOOT_TIMEOUT_SECONDS), machine.directory)
        check(cut.ended.how == "killed", "the power to be cut during the boot", cut)
        after = node.boot()
        note(f"cut after {seconds:.2f} s; then {after.kind}: {after.opened}")
        check(after.kind == "booted", "a boot to the end", after)


def window(boot: Boot) -> tuple[float, float]:
    """When nightlatch was at work, in seconds since the machine was started.

    The kernel's clock starts a little later than the machine; the boot's end, which both know, says by how much.
    """
    status, times = boot.verdict["status"], boot.verdict["times_us"]
    started = status["started_us"] / 1e6
    ended = started + max(step["end_us"] for step in status["steps"]) / 1e6
    kernel_late = max(0.0, boot.seconds() - times["FinishTimestampMonotonic"] / 1e6)
    return started, ended + min(kernel_late, 5.0)
