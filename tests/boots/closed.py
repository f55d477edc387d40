# SPDX-License-Identifier: Apache-2.0
"""A host that speaks to the initrd in firmware variables and SMBIOS, and the same initrd with its masks taken out.

Secure Boot is off and the command line lacks what would keep such words away, so that nothing but the masks does. Each
attack is seen to work on the initrd without them.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from boots.firmware import FIRST, booted
from image import Image, with_files
from machine import Disk, Kernel, Uefi
from node import Boot, Node
from outcome import Outcome, check, equal, note

# systemd's vendor identifier for variables (systemd, src/basic/efivars.h, EFI_VENDOR_SYSTEMD).
VENDOR = "8cf2644b-4b0b-428f-9387-6d876050dc67"
# Kept, readable at boot and at run time (UEFI specification, 8.2).
KEPT = 7
HOST_DISK_BYTES = 16 << 20
SWAP_BYTES = 3 << 30
SWAP_UUID = "b3e5f0a2-4d7c-4c1e-9a57-2f4f0c6d8e11"
# A disk of the host's over our program.
OVER = "/dev/disk/by-id/virtio-hostfs:/usr/lib/nightlatch:ext4:ro"
FSTAB = "/dev/disk/by-id/virtio-hostfs /usr/lib/nightlatch ext4 ro,x-initrd.mount 0 0\n"
# Without `nohibernate`, `efi=noruntime` and `systemd.import_credentials=no`.
BARE = "quiet systemd.gpt_auto=no no_timer_check"
MASKS = "etc/systemd/system-generators"
PROGRAMS = "usr/lib/systemd/system-generators"
RESUME = "systemd-hibernate-resume.service"
# Our program waits for the mount over it, where there is one.
ORDER = {"etc/systemd/system/nightlatch.service.d/50-test.conf": "[Unit]\nAfter=usr-lib-nightlatch.mount\n"}
# Else it has ended before the disk with the memory image is there, since it refuses such a command line.
RESUME_FIRST = {"etc/systemd/system/nightlatch.service.d/50-test.conf": f"[Unit]\nAfter={RESUME}\n"}
# The masks taken out that are between the host and each attack.
MOUNTS = {
    f"{MASKS}/systemd-fstab-generator": f"-> /{PROGRAMS}/systemd-fstab-generator",
    "etc/systemd/system.conf.d/99-nightlatch-closed.conf": "[Manager]\n",
    **ORDER,
}
RESUMES = {
    f"{MASKS}/systemd-hibernate-resume-generator": f"-> /{PROGRAMS}/systemd-hibernate-resume-generator",
    # It masks the unit once more.
    f"{MASKS}/nightlatch-generator": "-> /dev/null",
    f"etc/systemd/system/{RESUME}": f"-> /usr/lib/systemd/system/{RESUME}",
    **RESUME_FIRST,
}
INIT = "usr/lib/nightlatch-test/bin/init"


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Each attack on the initrd without the masks, and on the one that is built."""
    work.mkdir(parents=True, exist_ok=True)
    mounting = with_files(image.initrd, MOUNTS, work / "mounting.initrd")
    closed = with_files(image.initrd, ORDER, work / "closed.initrd")
    said = {"SystemdOptions": text(f"rd.systemd.mount-extra={OVER}")}
    with outcome.case("closed::a_variable_mounts_the_hosts_program_where_nothing_is_masked"):
        ran(Host(work / "variable-open", image).boot(mounting, variables=said), "host")
    with outcome.case("closed::a_variable_mounts_nothing_in_the_initrd_that_is_built"):
        kept(Host(work / "variable", image).boot(closed, variables=said))

    smbios = "io.systemd.credential.binary:fstab.extra.initrd=" + base64.b64encode(FSTAB.encode()).decode()
    with outcome.case("closed::a_credential_mounts_the_hosts_program_where_nothing_is_masked"):
        ran(Host(work / "credential-open", image).boot(mounting, smbios=smbios), "host")
    with outcome.case("closed::a_credential_mounts_nothing_and_the_boot_goes_on"):
        host = Host(work / "credential", image)
        booted(host.boot(closed, smbios=smbios, words="efi=noruntime nohibernate"), FIRST, count=1)

    with outcome.case("closed::a_memory_image_of_the_hosts_is_resumed_where_nothing_is_masked"):
        swap = hibernated(image, work / "hibernating")
        resuming = with_files(image.initrd, RESUMES, work / "resuming.initrd")
        ran(Host(work / "resume-open", image).boot(resuming, variables=LOCATION, disks=[swap]), "resumed")
    with outcome.case("closed::a_memory_image_is_left_alone_by_the_initrd_that_is_built"):
        waiting = with_files(image.initrd, RESUME_FIRST, work / "waiting.initrd")
        kept(Host(work / "resume", image).boot(waiting, variables=LOCATION, disks=[swap]))


class Host:
    """A machine whose host says something to it."""

    def __init__(self, directory: Path, image: Image) -> None:
        """With blank disks for the volumes, and one of the host's that has a program of ours on it."""
        self.node = Node(directory, image)
        self._disk = program(directory)

    def boot(
        self,
        initrd: Path,
        *,
        variables: dict[str, bytes] | None = None,
        smbios: str = "",
        words: str = "",
        disks: Sequence[Disk] = (),
    ) -> Boot:
        """One boot, with Secure Boot off."""
        node = self.node
        kept = node.variables(secure_boot=False)
        append = f"{node.image.root} {BARE} {words}"
        firmware = Uefi(kept, secure_boot=False, kernel=Kernel(node.image.kernel, initrd, append))
        firmware.arguments()  # makes the variables of a machine that has none
        put(kept, variables or {})
        return node.boot(boot=firmware, disks=[self._disk, *disks], smbios=smbios)


def ran(boot: Boot, kind: str) -> None:
    """The host's own code ran in the place of ours, as root."""
    check(boot.kind == kind, f"the host's code to say {kind}", boot)
    equal(boot.verdict["uid"], 0, "who it ran as")
    note(f"it ran in {boot.verdict['in']}")


def kept(boot: Boot) -> None:
    """The host's code did not run; ours did, whatever it says of a command line that keeps nothing away."""
    check(boot.kind in ("booted", "stopped"), "nightlatch to run", boot)
    note(f"{boot.kind}: {boot.sentence}")


def program(directory: Path) -> Disk:
    """A disk with a program in the place of nightlatch."""
    tree = directory / "hostfs"
    tree.mkdir(parents=True)
    script = tree / "nightlatch"
    script.write_text(HOST, encoding="utf-8")
    script.chmod(0o755)
    disk = Disk.blank(directory / "hostfs.img", HOST_DISK_BYTES, "hostfs")
    command = ["mkfs.ext4", "-q", "-F", "-d", str(tree), str(disk.path)]
    subprocess.run(command, check=True)
    return disk


def hibernated(image: Image, directory: Path) -> Disk:
    """A swap disk with the memory of a system of the host's, of the same kernel on the same machine."""
    node = Node(directory, image)
    swap = Disk.blank(directory / "swap.img", SWAP_BYTES, "swap")
    initrd = with_files(image.initrd, {INIT: HIBERNATE}, directory / "host.initrd")
    words = f"rdinit=/{INIT} console=ttyS0 quiet no_timer_check"
    kernel = Kernel(image.kernel, initrd, words)
    firmware = Uefi(node.variables(secure_boot=False), secure_boot=False, kernel=kernel)
    # As many disks as when it is resumed, so that the machine is the same.
    boot = node.boot(boot=firmware, disks=[program(directory), swap])
    equal(boot.ended.how, "guest-shutdown", "how the hibernating machine ended")
    check(boot.kind == f"silent ({boot.ended.how})", "nothing said yet", boot)
    return swap


def text(words: str) -> bytes:
    """A string in a variable of systemd's."""
    return (words + "\0").encode("utf-16-le")


def put(kept: Path, variables: dict[str, bytes]) -> None:
    """Writes variables into what the firmware keeps, as who has the file may."""
    described = [
        {"name": name, "guid": VENDOR, "attr": KEPT, "data": value.hex()}
        for name, value in variables.items()
    ]
    if not described:
        return
    file = kept.with_suffix(".json")
    file.write_text(json.dumps({"version": 2, "variables": described}), encoding="utf-8")
    command = ["virt-fw-vars", "--inplace", str(kept), "--set-json", str(file)]
    subprocess.run(command, check=True, capture_output=True)


# What systemd-hibernate-resume reads (systemd, src/hibernate-resume/hibernate-resume-config.c).
LOCATION = {
    "HibernateLocation": text(
        json.dumps(
            {"uuid": SWAP_UUID, "offset": 0, "osReleaseId": "debian", "osReleaseImageId": "nightlatch-initrd"}
        )
    )
}

# In the place of our program. It ends like a failed boot, which reports and powers off.
HOST = r"""#!/bin/bash
result=/dev/virtio-ports/nightlatch.result
# wait: limit, for the port's device
udevadm wait --timeout=60 "$result"
printf '{"kind": "host", "uid": %d, "in": "%s"}\n' "$EUID" "$(cut -d: -f3 /proc/self/cgroup)" >"$result"
exit 77
"""

# The host's system: a shell as its first process. It goes on where it was when somebody resumes it.
HIBERNATE = rf"""#!/bin/bash
export PATH=/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
modprobe -a virtio_pci virtio_blk virtio_console tpm_crb
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add
udevadm settle
mkswap --uuid {SWAP_UUID} /dev/disk/by-id/virtio-swap
swapon /dev/disk/by-id/virtio-swap
echo shutdown >/sys/power/disk
echo disk >/sys/power/state
printf '{{"kind": "resumed", "uid": %d, "in": "a memory image", "pcr15": "%s"}}\n' "$EUID" \
    "$(cat /sys/class/tpm/tpm0/pcr-sha256/15)" >/dev/virtio-ports/nightlatch.result
systemctl poweroff --force --force
sleep infinity
"""
