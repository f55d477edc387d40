# SPDX-License-Identifier: Apache-2.0
"""An initrd that dracut made, and a volume that is the whole root.

Nobody signs that kernel and its initrd together, so the firmware starts them with Secure Boot off.
"""

from __future__ import annotations

from pathlib import Path

from boots.firmware import FIRST, LATER, booted, closed
from image import Image
from node import Node
from outcome import Outcome, check, equal


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """A plain root: filled at the first boot, booted from at the second."""
    node = Node(work / "node", image)
    with outcome.case("dracut::the_initrd_takes_nothing_from_the_host_but_what_the_table_says"):
        closed(image, work / "initrd")
    with outcome.case("dracut::the_first_boot_formats_both_volumes"):
        first = node.boot()
        booted(first, FIRST, count=1)
    with outcome.case("dracut::the_volume_is_the_root"):
        mounts = {mount["target"]: mount for mount in first.verdict["mounts"]}
        equal(mounts["/"]["source"], "/dev/mapper/system", "the root")
        equal(mounts["/var/lib/state"]["source"], "/dev/mapper/state", "the state volume")
    with outcome.case("dracut::the_second_boot_unlocks_and_finds_its_files"):
        second = node.boot()
        booted(second, LATER, count=2)
        equal(second.pcrs["15"], first.pcrs["15"], "PCR 15")
    with outcome.case("dracut::the_final_system_cannot_unseal_the_key"):
        more = second.verdict["more"]
        check(more["loaded"], "the sealed key to load", more)
        # TPM_RC_POLICY_FAIL, from session 1: TPM 2.0 Library, part 2, 6.6.
        check("0x99d" in more["unsealing"].lower(), "the TPM to refuse its policy", more)
