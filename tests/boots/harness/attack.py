# SPDX-License-Identifier: Apache-2.0
"""A host that starts systems of its own, and a stock volume beside ours that shows whether an attack on the seal works.

The volume is sealed by systemd-cryptenroll to PCRs 7, 11 and 12, which say "this image" and nothing of what else may
extend them, in the initrd of the very boot in which nightlatch seals.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import secure_boot
from image import Image, with_files
from machine import Disk
from node import Boot, copy_sparse
from outcome import check, equal, note

BESIDE = "beside"
# PCRs that are equal in an attack and in the boot that sealed.
EQUAL = ("2", "7", "11", "12", "13", "15")
# What systemd-cryptsetup says when a TPM does not unseal because of its PCRs.
MISMATCH = "Failed to unseal secret using TPM2: Operation not permitted"
BESIDE_BYTES = 32 << 20
PASSPHRASE = "only for enrolling"
# Where the host puts its kernel and initrd, and what it has the firmware start.
KERNEL, INITRD = "KERNEL.EFI", "HOST.IMG"
HOST_DISK_BYTES = 128 << 20
INIT = "usr/lib/nightlatch-test/bin/init"
# What the host's kernel is told.
HOST_WORDS = f"rdinit=/{INIT} console=ttyS0 quiet no_timer_check"


def beside(directory: Path) -> Disk:
    """A disk with the stock volume, which has a passphrase for now."""
    disk = Disk.blank(directory / f"{BESIDE}.img", BESIDE_BYTES, BESIDE)
    command = ["cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--key-file=-"]
    # The passphrase protects nothing.
    command += ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", str(disk.path)]
    subprocess.run(command, check=True, input=PASSPHRASE.encode())
    return disk


def copied(beside: Disk, directory: Path) -> Disk:
    """The same disk for another machine."""
    path = directory / beside.path.name
    copy_sparse(beside.path, path)
    return Disk(path, beside.serial)


def sealing() -> dict[str, str]:
    """Files for the initrd of the image: before nightlatch starts, the stock volume is sealed, or opened like ours."""
    unit = "nightlatch-test-beside.service"
    units = "usr/lib/systemd/system"
    return {
        "usr/lib/nightlatch-test/bin/beside": "#!/bin/bash\n" + ATTACH + SEAL,
        "usr/lib/nightlatch-test/passphrase": PASSPHRASE,
        f"{units}/{unit}": SEAL_UNIT,
        f"{units}/nightlatch.service.requires/{unit}": f"-> ../{unit}",
    }


def initrd(image: Image, digests: Sequence[bytes], target: Path) -> Path:
    """The host's initrd: it extends PCR 11 with these digests, then opens what there is with stock tools."""
    extends = "".join(f"extend 0b {digest.hex()}\n" for digest in digests)
    init = "#!/bin/bash\n" + SYSTEM + ATTACH + EXTEND + extends + ATTACK
    return with_files(image.packed, {INIT: init}, target)


def disk(directory: Path, kernel: Path, initrd: Path) -> Disk:
    """A disk of the host's, with a kernel that the firmware can start and an initrd beside it."""
    made = Disk.blank(directory / "host.img", HOST_DISK_BYTES, "host")
    subprocess.run(["mkfs.vfat", str(made.path)], check=True, stdout=subprocess.DEVNULL)
    for source, name in ((kernel, KERNEL), (initrd, INITRD)):
        subprocess.run(["mcopy", "-i", str(made.path), str(source), f"::/{name}"], check=True)
    return made


def option() -> bytes:
    """The boot option for that disk."""
    return secure_boot.boot_option("host", f"\\{KERNEL}", f"initrd=\\{INITRD} {HOST_WORDS}")


def stock(boot: Boot) -> dict[str, Any]:
    """What stock tools did in the initrd of the image, and what the PCRs were then."""
    return next((line for line in boot.lines if "by" in line), {})


def opens_the_stock_volume_only(boot: Boot, sealed: Mapping[str, Any], volumes: Sequence[str]) -> None:
    """An attack on the seal that works, and does not open these volumes of ours."""
    check(boot.kind == "attacked", "the host's system to run", boot)
    seen, before = boot.verdict["pcrs"], sealed["pcrs"]
    differ = [number for number in EQUAL if seen[number] != before[number]]
    equal(differ, [], "PCRs that differ from those of the boot that sealed")
    check(seen["4"] != before["4"], "another PCR 4", seen)
    expected = {BESIDE: True, **dict.fromkeys(volumes, False)}
    attached, said = boot.verdict["attached"], boot.verdict["said"]
    equal({name: attached[name] for name in expected}, expected, f"what is open now: {said}")
    for name in volumes:
        check(MISMATCH in said[name], f"the TPM's policy to keep {name} closed", said)
        note(f"{name}: {said[name].strip()}")


# In the initrd of the image and in the host's. `attach` tells of each volume whether the stock tool opens it with the TPM.
ATTACH = r"""
set -uo pipefail
export PATH=/usr/bin:/usr/sbin SYSTEMD_LOG_TARGET=console SYSTEMD_COLORS=no
attach() {
    local name sep='' said='' opened
    printf '"attached": {'
    for name in "$@"; do
        said+="$sep\"$name\": \"$(systemd-cryptsetup attach "stock-$name" "/dev/disk/by-id/virtio-$name" - \
            tpm2-device=auto,headless=1 2>&1 </dev/null | tr -c '[:alnum:] .:,' ' ')\""
        opened=false
        [ ! -e "/dev/mapper/stock-$name" ] || opened=true
        printf '%s"%s": %s' "$sep" "$name" "$opened"
        sep=', '
    done
    printf '}, "said": {%s}, "pcrs": {' "$said"
    sep=''
    for name in {0..15}; do
        printf '%s"%s": "%s"' "$sep" "$name" "$(tr A-F a-f <"/sys/class/tpm/tpm0/pcr-sha256/$name")"
        sep=', '
    done
    printf '}'
}
"""

# What the image's initrd does with it.
SEAL = r"""
result=/dev/virtio-ports/nightlatch.result
# wait: limit
udevadm wait --timeout=60 "$result" /dev/disk/by-id/virtio-{beside,state,system} /dev/tpmrm0
volumes=(beside state system)
if [[ $(systemd-cryptenroll /dev/disk/by-id/virtio-beside) != *tpm2* ]]; then
    systemd-cryptenroll --unlock-key-file=/usr/lib/nightlatch-test/passphrase --tpm2-device=auto \
        --tpm2-pcrs=7+11+12 /dev/disk/by-id/virtio-beside
    # Ours are not there yet.
    volumes=(beside)
fi
printf '{"by": "the image", %s}\n' "$(attach "${volumes[@]}")" >"$result"
for name in "${volumes[@]}"; do
    [ ! -e "/dev/mapper/stock-$name" ] || systemd-cryptsetup detach "stock-$name"
done
udevadm settle
"""
SEAL_UNIT = r"""[Unit]
DefaultDependencies=no
Before=nightlatch.service
After=tpm2.target systemd-pcrphase-initrd.service systemd-udevd.service cryptsetup-pre.target
After=systemd-tpm2-setup-early.service

[Service]
Type=oneshot
ExecStart=/usr/lib/nightlatch-test/bin/beside
"""

# The host's system: a shell as its first process.
SYSTEM = r"""
export PATH=/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
modprobe -a virtio_pci virtio_blk virtio_console tpm_crb dm-crypt dm-integrity authenc hmac sha256 xts
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add
udevadm settle
"""

# TPM2_PCR_Extend with an empty password session and a digest for the SHA-256 bank: TPM 2.0 Library, part 3, 22.2. The
# answer's code is in bytes 6 to 10.
EXTEND = r"""
extend() { # PCR DIGEST, both in hexadecimal
    local command="80020000004100000182000000$1" answer
    command+=00000009400000090000000000 command+=00000001000b$2
    # In one piece, which the shell's own output is not where there is a line end in it.
    printf "$(sed 's/../\\x&/g' <<<"$command")" >/run/extend
    exec 3<>/dev/tpmrm0
    cat /run/extend >&3
    answer=$(head --bytes=10 <&3 | tail --bytes=4 | od -An -tx1 | tr -d ' ')
    exec 3<&-
    [ "$answer" = 00000000 ]
}
"""

ATTACK = r"""
printf '{"kind": "attacked", %s}\n' "$(attach beside state system)" >/dev/virtio-ports/nightlatch.result
systemctl poweroff --force --force
sleep infinity
"""
