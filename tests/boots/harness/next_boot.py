# SPDX-License-Identifier: Apache-2.0
"""What `nightlatchctl check` says of images in a machine that is up, compared with what their next boot then does.

The images come on a disk of their own, which the report of the demo image looks for: see `report` in mkosi/demo/image.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uki
from image import Image
from machine import Disk
from node import Boot
from outcome import check, equal, note
from root import UNCOMPRESSED

SERIAL = "next"
# What the check says of a volume that somebody at the key service has to speak for.
WORD = "it takes an operator's word at the key service"


def disk(directory: Path, images: Mapping[str, Image]) -> Disk:
    """A disk with the unified kernel images of these, by name, for a boot whose report is to say what it thinks of them."""
    tree = directory / "next"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name, image in images.items():
        uki.take(image.disk, tree / name)
    target = directory / "next.img"
    command = ["mksquashfs", str(tree), str(target), "-noappend", *UNCOMPRESSED]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return Disk(target, SERIAL, readonly=True)


def said(before: Boot, name: str) -> dict[str, Any]:
    """What the check said of an image in a boot before."""
    checks = before.verdict.get("checks") or {}
    check(name in checks, f"what check says of {name}", before.verdict.get("checks"))
    return dict(checks[name])


def agrees(before: Boot, name: str, boot: Boot, *, has_word: bool = False) -> None:
    """What the check said in a boot before is what the image's boot has done.

    With `has_word` an operator has let the key service readmit the volumes of which it said that this is what they take.
    """
    verdict = said(before, name)
    opens = {volume["name"]: volume["opens"] for volume in verdict.get("volumes", [])}
    note(f"check said of {name}: {verdict['result']}, {opens or verdict.get('missing')}")
    compare(verdict, boot, has_word=has_word)


def compare(verdict: Mapping[str, Any], boot: Boot, *, has_word: bool = False) -> None:
    """Raises where a boot was another one than the verdict said."""
    volumes = verdict.get("volumes", [])
    expected = {volume["name"]: _way(volume, has_word) for volume in volumes}
    check("unknown" not in expected.values(), "a verdict", verdict)
    if not volumes or verdict["refused"] is not None or "nothing" in expected.values():
        check(boot.kind == "stopped", "a stopped boot, as check said", f"{verdict}\n{boot}")
        equal(boot.exit, verdict["exit"], "the exit code that check said")
        return
    check(boot.kind == "booted", "a boot to the end, as check said", f"{verdict}\n{boot}")
    opened = {volume["name"]: volume["source"] for volume in boot.verdict["status"]["volumes"]}
    equal(opened, expected, "by what check said that the volumes open")
    for pcr in verdict["pcrs"]:
        _held(boot, pcr["pcr"], pcr["next"])


def _way(volume: Mapping[str, Any], has_word: bool) -> str:
    """By what a volume opens."""
    is_worded = has_word and WORD in (volume["why"] or "")
    return "service" if is_worded else str(volume["opens"])


def _held(boot: Boot, pcr: int, value: str) -> None:
    """A PCR held this value while it was extended to what it has in the final system; those of the firmware hold it still."""
    now = boot.pcrs[str(pcr)]
    if pcr <= 7:
        equal(now, value, f"PCR {pcr}, as check said")
        return
    events = [entry for entry in boot.verdict["log"]["log"] if entry["pcr"] == pcr and entry.get("sha256")]
    held = [bytes(32)]
    for entry in events:
        held.append(hashlib.sha256(held[-1] + bytes.fromhex(entry["sha256"])).digest())
    equal(held[-1].hex(), now, f"PCR {pcr}, as the log explains it")
    check(value in [one.hex() for one in held], f"PCR {pcr} to have held {value}, as check said", events)
