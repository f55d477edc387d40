# SPDX-License-Identifier: Apache-2.0
"""Which accelerator runs a guest on this machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

QEMU = "qemu-system-x86_64"
# Without the promise that `rep movsb` is fast: where it is emulated byte by byte, it is what kernels should not copy with.
TCG = ["-accel", "tcg,thread=multi", "-cpu", "max,erms=off,fsrm=off"]
KVM = ["-accel", "kvm", "-cpu", "host"]
# wait: limit, and reached where there is no KVM that works; before anything is known of the machine.
PROBE_TIMEOUT_SECONDS = 5
# A boot sector: finit; mov al, 0x21; mov dx, 0xf4; out dx, al; hlt; jmp to the hlt. The x87
# instruction is where a KVM without hardware behind it, emulating all it is given, stops.
PROBE_CODE = bytes.fromhex("9bdbe3b021baf400eef4ebfd")
# SeaBIOS does not boot a disk of a single sector.
PROBE_DISK_BYTES = 1 << 20
# isa-debug-exit ends QEMU with (value << 1) | 1.
PROBE_STATUS = 0x21 << 1 | 1


@cache
def arguments() -> tuple[str, ...]:
    """QEMU's arguments for KVM where it really runs a guest, else for software emulation.

    `/dev/kvm` being there proves little: nested or paravirtual ones may stop on the first
    unusual instruction. `NIGHTLATCH_ACCEL` (`kvm` or `tcg`) overrides the probe.
    """
    choice = os.environ.get("NIGHTLATCH_ACCEL")
    if choice not in (None, "kvm", "tcg"):
        raise ValueError(f"NIGHTLATCH_ACCEL: expected kvm or tcg, found {choice!r}")
    use_kvm = choice == "kvm" or (choice is None and runs_a_guest(KVM))
    return tuple(KVM if use_kvm else TCG)


def name() -> str:
    """`kvm` or `tcg`, for summaries."""
    return "kvm" if tuple(KVM) == arguments() else "tcg"


def runs_a_guest(accel: list[str]) -> bool:
    """Boots a few instructions through the firmware, with a time limit."""
    if accel == KVM and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.TemporaryDirectory(prefix="nightlatch-probe-") as directory:
        disk = Path(directory) / "probe.img"
        disk.write_bytes(PROBE_CODE.ljust(510, b"\0") + b"\x55\xaa")
        os.truncate(disk, PROBE_DISK_BYTES)
        command = [QEMU, "-machine", "q35", *accel, "-m", "64", "-nodefaults", "-display", "none"]
        command += ["-drive", f"file={disk},format=raw,if=virtio"]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-no-reboot"]
        try:
            ended = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PROBE_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return False
        return ended.returncode == PROBE_STATUS
