# SPDX-License-Identifier: Apache-2.0
"""Another unified kernel image for a disk that mkosi built: the same kernel, command line and root, another initrd."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from image import Image, with_files

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
# Debian 12 does not have it in the path.
UKIFY = "/usr/lib/systemd/ukify"
# Of Debian, because Debian's modules are made for it.
PYTHON = "/usr/bin/python3"


def with_initrd_files(base: Image, files: dict[str, str], name: str) -> Image:
    """The image with files added to its initrd, or replaced there: a disk called `name` beside the old one."""
    made = beside(base, name)
    disk = made.disk
    work = disk.with_suffix(".parts")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    initrd = with_files(base.packed, files, made.initrd)
    unified = work / "unified.efi"
    _unify(base, initrd, work, unified)
    _run(["cp", "--sparse=always", "--reflink=auto", str(base.disk), str(disk)])
    _put(unified, disk)
    shutil.rmtree(work)
    return made


def beside(base: Image, name: str) -> Image:
    """What `with_initrd_files` makes, or has made."""
    disk = base.disk.with_name(f"{name}.raw")
    initrd = disk.with_suffix(".initrd")
    return replace(base, disk=disk, initrd=initrd, packed=initrd)


def _unify(base: Image, initrd: Path, work: Path, target: Path) -> None:
    """Puts a unified kernel image together from the parts of the old one."""
    old = str(work / "old.efi")
    _run(["mcopy", "-i", _esp(base.disk), _unified_images(base.disk)[0], old])
    for section in (".osrel", ".cmdline", ".uname"):
        out = str(work / section)
        _run(["objcopy", "--output-target=binary", f"--only-section={section}", old, out])
    stub = work / "stub"
    start = str(_start(base.disk, "root-x86-64"))
    with stub.open("wb") as file:
        command = ["unsquashfs", "-offset", start, "-cat", str(base.disk), STUB]
        subprocess.run(command, check=True, stdout=file)
    uname = (work / ".uname").read_text(encoding="ascii").rstrip("\0")
    ukify = shutil.which("ukify") or UKIFY
    command = [PYTHON, ukify, "build", f"--stub={stub}", f"--output={target}", "--efi-arch=x64"]
    command += [f"--linux={base.kernel}", f"--initrd={initrd}", f"--uname={uname}"]
    command += [f"--cmdline=@{work / '.cmdline'}", f"--os-release=@{work / '.osrel'}"]
    _run(command)


def _put(unified: Path, disk: Path) -> None:
    """Replaces every unified kernel image in the disk's ESP."""
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
