# SPDX-License-Identifier: Apache-2.0
"""A node of the boot-chain tests: disks and a TPM that outlive its boots, and what a boot said."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from calibration import limit
from image import Image
from machine import Disk, Ended, Kernel, Machine, Tpm, Uefi

JOURNAL_PORT = "nightlatch.journal"
PROGRESS_PORT = "nightlatch.progress"
RESULT_PORT = "nightlatch.result"
VOLUMES = ("state", "system")
DISK_BYTES = 4 << 30
# A boot takes some 40 s under software emulation.
BOOT_TIMEOUT_SECONDS = limit(400)
BLOCK_BYTES = 1 << 16
# What a failed check shows of a verdict; all of it is in the machine's directory.
TOLD = ("kind", "exit", "result", "state", "boots", "failed", "line")


@dataclass
class Boot:
    """One boot's outcome, as the machine reported it."""

    ended: Ended
    directory: Path

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of the result port."""
        return [json.loads(line) for line in self.ended.results if line.startswith("{")]

    @cached_property
    def verdict(self) -> dict[str, Any]:
        """The line that says how the boot ended; empty where there is none."""
        return next((line for line in self.lines if "kind" in line), {})

    @property
    def kind(self) -> str:
        """`booted`, `stopped` in the initrd, or how the machine ended without a word."""
        return str(self.verdict.get("kind", f"silent ({self.ended.how})"))

    @property
    def exit(self) -> int | None:
        """What nightlatch ended with, where the boot was stopped."""
        return self.verdict.get("exit")

    @property
    def said(self) -> list[str]:
        """Nightlatch's journal lines, where the boot was stopped."""
        return [text for line in self.lines if isinstance(text := line.get("MESSAGE"), str)]

    @property
    def sentence(self) -> str:
        """What nightlatch itself said last."""
        own = [
            line["MESSAGE"]
            for line in self.lines
            if line.get("_COMM") == "nightlatch" and isinstance(line.get("MESSAGE"), str)
        ]
        return own[-1] if own else ""

    @property
    def opened(self) -> dict[str, str]:
        """How each volume was opened: `formatted` or `unlocked`."""
        status = self.verdict.get("status") or {}
        return {volume["name"]: volume["how"] for volume in status.get("volumes", [])}

    @property
    def pcrs(self) -> dict[str, str]:
        """The SHA-256 PCRs of the final system."""
        return dict(self.verdict.get("pcrs", {}))

    @property
    def journal(self) -> bytes:
        """The whole journal, byte by byte, where the boot had a port for it."""
        return (self.directory / f"port-{JOURNAL_PORT}").read_bytes()

    def seconds(self) -> float:
        """How long the machine ran."""
        return self.ended.seconds

    def __str__(self) -> str:
        """For the message of a failed check."""
        verdict = {k: v for k, v in self.verdict.items() if k in TOLD}
        return "\n".join([f"{self.kind}, {self.seconds():.0f} s", json.dumps(verdict), *self.said])


class Node:
    """Two volumes, a TPM, firmware variables, and the image to boot from."""

    def __init__(self, directory: Path, image: Image) -> None:
        """A new machine: blank disks, a TPM fresh from the factory."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.directory = directory
        self.image = image
        self.tpm = Tpm(directory / "tpm")
        self.paths = {name: directory / f"{name}.img" for name in VOLUMES}
        for name in VOLUMES:
            Disk.blank(self.paths[name], DISK_BYTES, name)
        self._boots = 0

    def variables(self, secure_boot: bool) -> Path:
        """What the firmware keeps, for boots with Secure Boot on and for those without."""
        return self.directory / ("vars.fd" if secure_boot else "vars-off.fd")

    def machine(
        self,
        *,
        append: str = "",
        boot: Kernel | Uefi | None = None,
        disks: Sequence[Disk] = (),
        firmware: bool = False,
        forwards: Mapping[str, int] | None = None,
        initrd: Path | None = None,
        journal: bool = False,
        listens: Mapping[int, int] | None = None,
        progress: bool = False,
        smbios: str = "",
        tpm: bool = True,
        without: str = "",
    ) -> Machine:
        """Starts one boot: of the image's disk with Secure Boot on (`firmware`), of its kernel with `append` and
        `initrd` with Secure Boot off, or as `boot` says. There may be more `disks` than the node's.

        `smbios` is what the host says to the firmware in a string of type 11.
        """
        self._boots += 1
        if boot is None and firmware:
            boot = Uefi(self.variables(secure_boot=True))
        elif boot is None:
            command_line = f"{self.image.append} {append}"
            kernel = Kernel(self.image.kernel, initrd or self.image.initrd, command_line)
            # By way of the firmware, so that there is a log of what was started, and PCRs that agree with it.
            boot = Uefi(self.variables(secure_boot=False), secure_boot=False, kernel=kernel)
        # The boot order's first place is the kernel's, where QEMU hands one over.
        from_disk = isinstance(boot, Uefi) and boot.kernel is None
        own = [Disk(self.image.disk, "image", discard_writes=True, first=from_disk)]
        own += [Disk(path, name) for name, path in self.paths.items()]
        disks = [disk for disk in own if disk.serial != without] + list(disks)
        ports = [RESULT_PORT]
        ports += [JOURNAL_PORT] if journal else []
        ports += [PROGRESS_PORT] if progress else []
        return Machine(
            self.directory / f"boot{self._boots}",
            boot,
            disks=disks,
            tpm=self.tpm if tpm else None,
            ports=ports,
            forwards=forwards,
            listens=listens,
            extra=["-smbios", f"type=11,value={smbios}"] if smbios else [],
        )

    def boot(self, **options: Any) -> Boot:
        """One boot to its end."""
        with self.machine(**options) as machine:
            return Boot(machine.wait(BOOT_TIMEOUT_SECONDS), machine.directory)

    def copy(self, directory: Path) -> Node:
        """Another node in this one's state."""
        other = Node(directory, self.image)
        for name, path in self.paths.items():
            copy_sparse(path, other.paths[name])
        for secure_boot in (True, False):
            if self.variables(secure_boot).exists():
                shutil.copyfile(self.variables(secure_boot), other.variables(secure_boot))
        self.tpm.snapshot(other.tpm.state)
        return other

    def flip(self, volume: str, offset: int) -> None:
        """Changes one byte; doing it again changes it back."""
        with self.paths[volume].open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0xFF]))

    def digest(self, volume: str) -> str:
        """What is on a disk: a hash over every block that is not zero, and where it is."""
        return content_digest(self.paths[volume])


def content_digest(path: Path) -> str:
    """The same for the same content, however sparse the file."""
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    zero = bytes(BLOCK_BYTES)
    with path.open("rb") as file:
        for start, end in _extents(file.fileno(), path.stat().st_size):
            offset = start - start % BLOCK_BYTES
            while offset < end:
                file.seek(offset)
                block = file.read(BLOCK_BYTES)
                if block != zero[: len(block)]:
                    digest.update(offset.to_bytes(8, "big") + block)
                offset += BLOCK_BYTES
    return digest.hexdigest()


def _extents(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Where a sparse file has data, in whole blocks that do not overlap."""
    found: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            break  # a hole up to the end
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        first = start - start % BLOCK_BYTES
        last = min(size, position + -position % BLOCK_BYTES)
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def copy_sparse(source: Path, target: Path) -> None:
    """Copies an image without its holes."""
    command = ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)]
    subprocess.run(command, check=True)
