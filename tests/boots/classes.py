# SPDX-License-Identifier: Apache-2.0
"""One refusal of each class, in every run: the policy, the TPM, the disk, the configuration. `refusals` has further ones.

Firmware does not matter here, so these machines start from the image's kernel and initrd.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from boots.firmware import FIRST, LATER, booted
from boots.refusals import configured, digests, extending, stopped
from image import Image
from machine import Disk, Tpm
from node import DISK_BYTES, Node
from outcome import Outcome, check

# No key is called that.
UNKNOWN_KEY = "no-such-key"


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """A machine that formats its disks, is refused for each reason, and unlocks them all the same."""
    node = Node(work / "node", image)
    with outcome.case("classes::the_control_formats"):
        booted(node.boot(), FIRST, count=1)
    before = digests(node)
    with outcome.case("classes::another_value_in_a_policy_pcr"):
        stopped(node.boot(initrd=extending(node, 12)), 77, node, before)
    with outcome.case("classes::another_tpm"):
        other = node.copy(work / "other-tpm")
        other.tpm = Tpm(work / "other-tpm" / "new")
        stopped(other.boot(), 77, other, before)
    with outcome.case("classes::a_foreign_file_system"):
        other = node.copy(work / "foreign")
        Disk.blank(other.paths["state"], DISK_BYTES, "state")
        command = ["mkfs.ext4", "-q", "-F", str(other.paths["state"])]
        subprocess.run(command, check=True)
        stopped(other.boot(), 77, other, digests(other))
    with outcome.case("classes::a_configuration_with_an_unknown_key"):
        boot = node.boot(initrd=configured(node, f"{UNKNOWN_KEY} = 1", "unknown-key"))
        stopped(boot, 78, node, before)
        check(UNKNOWN_KEY in boot.sentence, "the key to be named", boot)
    with outcome.case("classes::the_control_still_unlocks"):
        booted(node.boot(), LATER, count=2)
