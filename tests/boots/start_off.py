# SPDX-License-Identifier: Apache-2.0
"""With Secure Boot off: a kernel of the host's extends PCR 11 as the image would.

PCRs 7, 11 and 12 are then those of the image, and a stock volume that was sealed to them opens. Ours is sealed to PCRs 2
and 4 in place of 7 and 11. The machine is provisioned where its host is trusted, as the configuration says.
"""

from __future__ import annotations

from pathlib import Path

import attack
import image as images
import uki
from boots.firmware import FIRST, LATER, booted, secured
from image import Image
from machine import Kernel, Uefi
from node import VOLUMES, Node
from outcome import Outcome, check, equal


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """One first boot, the attack from a copy of what it left, and the machine without it."""
    work.mkdir(parents=True, exist_ok=True)
    config = images.without_secure_boot(images.demo_config())
    files = {images.CONFIG_PATH: config, **attack.sealing()}
    # With the firmware's variables out of reach systemd measures no phase of the boot.
    built = uki.Built(append=images.WITHOUT_SECURE_BOOT)
    ours = uki.with_initrd_files(image, files, "start-off", built)
    unified = uki.take(ours.disk, work / "image.efi")
    initrd = attack.initrd(ours, uki.measured(unified), work / "host.initrd")

    node = Node(work / "node", ours)
    off = Uefi(node.variables(secure_boot=False), secure_boot=False)
    beside = attack.beside(node.directory)
    with outcome.case("start_off::the_first_boot_seals_a_stock_volume_and_ours"):
        first = node.boot(boot=off, disks=[beside])
        booted(first, FIRST, count=1)
        check(not secured(first), "Secure Boot off in the log", first.verdict)
        equal(attack.stock(first)["attached"], {attack.BESIDE: True}, "what stock tools open")
    with outcome.case("start_off::a_kernel_that_replays_pcr_11_opens_the_stock_volume_only"):
        copied = node.copy(work / "copied")
        disk = attack.copied(beside, copied.directory)
        kernel = Kernel(image.kernel, initrd, attack.HOST_WORDS)
        boot = Uefi(copied.variables(secure_boot=False), secure_boot=False, kernel=kernel)
        attacked = copied.boot(boot=boot, disks=[disk], without="image")
        attack.opens_the_stock_volume_only(attacked, attack.stock(first), VOLUMES)
    with outcome.case("start_off::the_machine_without_an_attack_comes_up"):
        second = node.boot(boot=off, disks=[beside])
        booted(second, LATER, count=2)
        opened = dict.fromkeys((attack.BESIDE, *VOLUMES), True)
        equal(attack.stock(second)["attached"], opened, "what stock tools open in the image itself")
