# SPDX-License-Identifier: Apache-2.0
"""Another unified kernel image for a disk that mkosi built: the same kernel, command line and root, another initrd."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import secure_boot
from image import Image, with_files
from pcr_key import PcrKey
from secure_boot import Owner

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
# Debian 12 does not have it in the path.
UKIFY = "/usr/lib/systemd/ukify"
# In the order in which systemd-stub measures them (its src/fundamental/uki.h), as far as they may be in our images.
MEASURED = (".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat")
# Of Debian, because Debian's modules are made for it.
PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Built:
    """How a unified kernel image is put together and signed."""

    signer: Owner = field(default_factory=secure_boot.owner)
    # As mkosi has it by itself: whoever takes the kernel out has a program that the owner signed.
    sign_kernel: bool = False
    # After the command line of the old one, and its release.
    append: str = ""
    os_release: str = ""
    # Who signs what PCR 11 will be; and sections that are there besides, by name.
    pcr_key: PcrKey | None = None
    sections: Mapping[str, bytes] = field(default_factory=dict)


def with_initrd_files(base: Image, files: dict[str, str], name: str, built: Built | None = None) -> Image:
    """The image with files added to its initrd, or replaced there: a disk called `name` beside the old one."""
    made = beside(base, name)
    disk = made.disk
    work = disk.with_suffix(".parts")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    initrd = with_files(base.packed, files, made.initrd)
    unified = work / "unified.efi"
    _unify(base, initrd, work, unified, built or Built())
    _put(unified, base.disk, disk)
    shutil.rmtree(work)
    return made


def beside(base: Image, name: str) -> Image:
    """What `with_initrd_files` makes, or has made."""
    disk = base.disk.with_name(f"{name}.raw")
    initrd = disk.with_suffix(".initrd")
    return replace(base, disk=disk, initrd=initrd, packed=initrd)


def resigned(base: Image, signer: Owner, name: str) -> Image:
    """The image with another signature on the very same unified kernel image: a disk called `name` beside the old one."""
    disk = base.disk.with_name(f"{name}.raw")
    unified = take(base.disk, disk.with_suffix(".efi"))
    signer.sign(unified, unified)
    _put(unified, base.disk, disk)
    unified.unlink()
    return replace(base, disk=disk)


def take(disk: Path, target: Path) -> Path:
    """A copy of the unified kernel image in a disk's ESP."""
    target.unlink(missing_ok=True)
    _run(["mcopy", "-i", _esp(disk), _unified_images(disk)[0], str(target)])
    return target


def sections(unified: Path) -> dict[str, bytes]:
    """What the sections of an EFI program hold, by name: Microsoft's PE format, "COFF file header" and "Section table"."""
    data = unified.read_bytes()
    header = int.from_bytes(data[0x3C:0x40], "little") + 4
    count, optional = (int.from_bytes(data[header + at : header + at + 2], "little") for at in (2, 16))
    found = {}
    for number in range(count):
        entry = data[header + 20 + optional + 40 * number :][:40]
        size, _, stored, start = (int.from_bytes(entry[at : at + 4], "little") for at in (8, 12, 16, 20))
        content = data[start : start + min(size, stored)]
        found[entry[:8].rstrip(b"\0").decode()] = content.ljust(size, b"\0")
    return found


def measured(unified: Path) -> list[bytes]:
    """The digests that PCR 11 is extended with by systemd-stub, of each section its name and what it holds."""
    held = sections(unified)
    texts = [text for name in MEASURED if held.get(name) for text in (f"{name}\0".encode(), held[name])]
    return [hashlib.sha256(text).digest() for text in texts]


def _unify(base: Image, initrd: Path, work: Path, target: Path, built: Built) -> None:
    """Puts a unified kernel image together from the parts of the old one."""
    old = take(base.disk, work / "old.efi")
    held = sections(old)
    (work / "osrel").write_bytes(held[".osrel"].rstrip(b"\0") + built.os_release.encode())
    stub = work / "stub"
    start = str(_start(base.disk, "root-x86-64"))
    with stub.open("wb") as file:
        command = ["unsquashfs", "-offset", start, "-cat", str(base.disk), STUB]
        subprocess.run(command, check=True, stdout=file)
    uname, words = (held[name].rstrip(b"\0").decode() for name in (".uname", ".cmdline"))
    words = f"{words} {built.append}".strip()
    ukify = shutil.which("ukify") or UKIFY
    command = [PYTHON, ukify, "build", f"--stub={stub}", f"--output={target}", "--efi-arch=x64"]
    command += [f"--linux={base.kernel}", f"--initrd={initrd}", f"--uname={uname}"]
    command += [f"--cmdline={words}", f"--os-release=@{work / 'osrel'}"]
    for name, content in built.sections.items():
        (work / name).write_bytes(content)
        command += [f"--section={name}:@{work / name}"]
    programs = built.signer.programs
    signing = [f"--secureboot-private-key={programs.key}", f"--secureboot-certificate={programs.certificate}"]
    signing += ["--sign-kernel" if built.sign_kernel else "--no-sign-kernel"]
    if built.pcr_key is None:
        _run([*command, *signing])
        return
    # Signatures of PCR values are a part of what is signed for Secure Boot.
    _run(command)
    built.pcr_key.sign(target, programs.certificate)
    built.signer.sign(target, target)


def _put(unified: Path, base: Path, disk: Path) -> None:
    """A copy of a disk with another unified kernel image in the place of every one in its ESP."""
    _run(["cp", "--sparse=always", "--reflink=auto", str(base), str(disk)])
    paths = _unified_images(disk)
    # First all of them away: there is no room for two generations.
    for path in paths:
        _run(["mdel", "-i", _esp(disk), path])
    for path in paths:
        _run(["mcopy", "-i", _esp(disk), str(unified), path])


def _unified_images(disk: Path) -> list[str]:
    """The unified kernel images in the disk's ESP."""
    listed = _run(["mdir", "-b", "-/", "-i", _esp(disk), "::/EFI"]).splitlines()
    found = [path for path in listed if path.lower().endswith(".efi")]
    if not found:
        raise RuntimeError(f"{disk}: no unified kernel image in {listed}")
    return found


def _esp(disk: Path) -> str:
    """The disk's ESP, as mtools want it."""
    return f"{disk}@@{_start(disk, 'esp')}"


def _start(disk: Path, partition: str) -> int:
    """Where a partition begins, in bytes."""
    table = json.loads(_run(["sfdisk", "--json", str(disk)]))["partitiontable"]
    starts = {entry["name"]: entry["start"] for entry in table["partitions"]}
    return int(starts[partition]) * table["sectorsize"]


def _run(command: list[str]) -> str:
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {ended.returncode}\n{ended.stdout}{ended.stderr}")
    return ended.stdout
