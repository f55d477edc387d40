# SPDX-License-Identifier: Apache-2.0
"""Further reasons to stop a boot, each against a machine that was fine just before. `firmware` has one of each class.

What was booted does not matter here, so these machines have the firmware start the image's kernel, with Secure Boot off.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from attack import EXTEND
from boots.firmware import FIRST, LATER, booted, configured, refused
from calibration import limit
from image import Image, with_files
from machine import Disk
from node import DISK_BYTES, Boot, Node, copy_sparse
from outcome import Outcome, check, equal

# Long enough for the verity image below the root, which has the same time limit.
DEVICE_TIMEOUT_SECONDS = limit(25)
# What a stopped boot takes at most, under software emulation, with the wait for its device.
STOPPED_LIMIT_SECONDS = limit(120)


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Other PCRs, no TPM, no disk, other disks: refused, and left as they are."""
    node = Node(work / "node", image)
    earlier = work / "earlier.img"
    with outcome.case("refusals::the_control_formats_and_then_unlocks"):
        booted(node.boot(), FIRST, count=1)
        copy_sparse(node.paths["state"], earlier)
        booted(node.boot(), LATER, count=2)

    before = digests(node)
    with outcome.case("refusals::another_value_in_a_policy_pcr"):
        stopped(node.boot(initrd=extending(node, 12)), 77, node, before, said="PCR 12 is not zero")
    with outcome.case("refusals::a_cluster_pcr_that_was_extended_before"):
        boot = node.boot(initrd=extending(node, 15))
        stopped(boot, 77, node, before, said="is already extended")
    with outcome.case("refusals::no_tpm"):
        stopped(node.boot(initrd=impatient(node), tpm=False), 69, node, before)
    with outcome.case("refusals::a_missing_disk_within_the_device_timeout"):
        boot = node.boot(initrd=impatient(node), without="state")
        stopped(boot, 69, node, before)
        check(boot.seconds() < STOPPED_LIMIT_SECONDS, "the time limit", f"{boot.seconds():.0f} s")
    with outcome.case("refusals::a_foreign_file_system"):
        other = node.copy(work / "foreign")
        Disk.blank(other.paths["state"], DISK_BYTES, "state")
        command = ["mkfs.ext4", "-q", "-F", str(other.paths["state"])]
        subprocess.run(command, check=True)
        before = digests(other)
        stopped(other.boot(), 77, other, before)
    with outcome.case("refusals::a_blank_disk_in_the_place_of_one_the_tpm_remembers"):
        other = node.copy(work / "blank")
        Disk.blank(other.paths["state"], DISK_BYTES, "state")
        before = digests(other)
        stopped(other.boot(), 77, other, before)
    with outcome.case("refusals::the_disk_from_before_the_last_boot"):
        other = node.copy(work / "earlier")
        copy_sparse(earlier, other.paths["state"])
        before = digests(other)
        stopped(other.boot(), 77, other, before)
    with outcome.case("refusals::the_control_still_unlocks"):
        booted(node.boot(), LATER, count=3)


def digests(node: Node) -> dict[str, str]:
    """What is on the node's disks."""
    return {name: node.digest(name) for name in node.paths}


def stopped(boot: Boot, code: int, node: Node, before: dict[str, str], said: str = "") -> None:
    """Refused, with these words where the class alone does not tell, and both disks hold what they held."""
    refused(boot, code)
    check(said in boot.sentence, f"{said!r} in what it says", boot)
    for name, digest in before.items():
        equal(node.digest(name), digest, f"the disk of {name}")


def extending(node: Node, pcr: int) -> Path:
    """An initrd that extends a PCR before nightlatch starts."""
    files = {
        "usr/lib/nightlatch-test/bin/extend": f"#!/bin/bash\n{EXTEND}\nextend {pcr:02x} {'01' * 32}\n",
        "usr/lib/systemd/system/nightlatch-test-extend.service": EXTEND_UNIT,
        "usr/lib/systemd/system/nightlatch.service.requires/nightlatch-test-extend.service": (
            "-> ../nightlatch-test-extend.service"
        ),
    }
    return with_files(node.image.initrd, files, node.directory / f"extend-{pcr}.initrd")


def impatient(node: Node) -> Path:
    """An initrd whose configuration waits for devices only shortly."""
    return configured(node, f"device-timeout-s = {DEVICE_TIMEOUT_SECONDS:.0f}", "impatient")


EXTEND_UNIT = r"""[Unit]
DefaultDependencies=no
Before=nightlatch.service
Requires=dev-tpmrm0.device
After=dev-tpmrm0.device

[Service]
Type=oneshot
ExecStart=/usr/lib/nightlatch-test/bin/extend
"""
