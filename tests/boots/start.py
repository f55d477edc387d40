# SPDX-License-Identifier: Apache-2.0
"""With Secure Boot on: the owner's kernel with an initrd of the host's, and the owner's image with a signature of the host's.

Either has PCRs 7, 11 and 12 of a boot in which something was sealed, and opens a stock volume that was sealed to these.
Ours is sealed to PCR 4 as well, and to nothing before it is known who vouched for the image.

A certificate of the host's is in db from the beginning: it does not matter to who is started as the owner has it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import attack
import secure_boot
import uki
from boots.firmware import FIRST, LATER, booted, refused, secured
from image import Image
from machine import Disk
from node import VOLUMES, Boot, Node
from outcome import Outcome, check, equal
from secure_boot import Owner

# What systemd-pcrphase-initrd.service extends PCR 11 with: systemd-pcrphase.service(8).
PHASE = hashlib.sha256(b"enter-initrd").digest()


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """One first boot; then each attack from a copy of what it left, and the machine without one."""
    work.mkdir(parents=True, exist_ok=True)
    host = Owner.called("host")
    # As mkosi has it by itself. Without, there is no such kernel to take.
    ours = uki.with_initrd_files(image, attack.sealing(), "start", uki.Built(sign_kernel=True))
    unified = uki.take(ours.disk, work / "image.efi")
    kernel = work / "kernel.efi"
    kernel.write_bytes(uki.sections(unified)[".linux"])
    initrd = attack.initrd(ours, [*uki.measured(unified), PHASE], work / "host.initrd")
    with outcome.case("start::the_kernel_inside_the_image_is_not_signed_by_the_owner"):
        unsigned = work / "unsigned.efi"
        unsigned.write_bytes(uki.sections(uki.take(image.disk, work / "demo.efi"))[".linux"])
        owner = secure_boot.owner()
        signed = {path.name: owner.has_signed(path) for path in (work / "demo.efi", unsigned, kernel)}
        expected = {"demo.efi": True, "unsigned.efi": False, "kernel.efi": True}
        equal(signed, expected, "what the owner has signed")

    node = Node(work / "node", ours)
    secure_boot.owner().variables(node.variables(secure_boot=True), host.programs.certificate)
    beside = attack.beside(node.directory)
    with outcome.case("start::the_first_boot_seals_a_stock_volume_and_ours"):
        first = node.boot(firmware=True, disks=[beside])
        booted(first, FIRST, count=1)
        check(secured(first), "Secure Boot on in the log, and the owner's certificate", first.verdict)
        equal(attack.stock(first)["attached"], {attack.BESIDE: True}, "what stock tools open")
    with outcome.case("start::the_owners_kernel_with_an_initrd_of_the_hosts_opens_the_stock_volume_only"):
        copied = node.copy(work / "copied")
        attacked = by_the_host(copied, kernel, initrd, attack.copied(beside, copied.directory))
        attack.opens_the_stock_volume_only(attacked, attack.stock(first), VOLUMES)
    with outcome.case("start::the_machine_without_an_attack_comes_up"):
        second = node.boot(firmware=True, disks=[beside])
        booted(second, LATER, count=2)
        opened = dict.fromkeys((attack.BESIDE, *VOLUMES), True)
        equal(attack.stock(second)["attached"], opened, "what stock tools open in the image itself")

    robbed = Node(work / "robbed", uki.resigned(ours, host, "start-resigned"))
    secure_boot.owner().variables(robbed.variables(secure_boot=True), host.programs.certificate)
    beside = attack.beside(robbed.directory)
    blank = {name: robbed.digest(name) for name in VOLUMES}
    with outcome.case("start::the_image_that_another_signed_gets_no_disk_and_no_seal"):
        signed_anew = robbed.boot(firmware=True, disks=[beside])
        refused(signed_anew, 77)
        equal({name: robbed.digest(name) for name in VOLUMES}, blank, "the disks")
        seen, before = attack.stock(signed_anew), attack.stock(first)
        equal(seen["attached"], {attack.BESIDE: True}, "what stock tools open")
        for pcr, same in (("4", True), ("11", True), ("7", False)):
            equal(seen["pcrs"][pcr] == before["pcrs"][pcr], same, f"PCR {pcr} of the genuine one")
    with outcome.case("start::what_the_host_signs_then_opens_the_stock_volume_only"):
        host.sign(image.kernel, kernel)
        attacked = by_the_host(robbed, kernel, initrd, beside)
        attack.opens_the_stock_volume_only(attacked, attack.stock(signed_anew), ())


def by_the_host(node: Node, kernel: Path, initrd: Path, *disks: Disk) -> Boot:
    """One boot of a kernel that the host has the firmware start, in the place of the image."""
    secure_boot.boot_from(node.variables(secure_boot=True), [attack.option()])
    disks = (*disks, attack.disk(node.directory, kernel, initrd))
    return node.boot(firmware=True, disks=disks, without="image")
