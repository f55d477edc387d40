# SPDX-License-Identifier: Apache-2.0
"""A node that is sealed to its builder's key: each image with a signature by it opens the volumes, and no other does.

There is no key service and nobody to ask. The images differ as an update does: kernel command line, release and initrd.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import image as images
import next_boot
import secure_boot
import uki
from boots.firmware import FIRST, LATER, booted, refused, secured
from image import Image
from keys import Keys
from node import VOLUMES, Boot, Node
from outcome import Outcome, check, equal
from pcr_key import PcrKey
from secure_boot import Owner
from uki import Built

# With ukify, from systemd's packages.
MEASURE = "/usr/lib/systemd/systemd-measure"
# The parts of an image; systemd-measure has an option for each.
PARTS = ("linux", "osrel", "cmdline", "initrd", "uname", "sbat")
# What an update changes, beside the signatures.
NEWS = {"etc/nightlatch-release": "2\n"}
UPDATE = Built(append="nightlatch.test=2", os_release="\nVERSION_ID=2\n")


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Two images in turn; then those that are refused, and the second one again."""
    work.mkdir(parents=True, exist_ok=True)
    builder = PcrKey.called("builder")
    first = made(image, {}, "signed", Built(pcr_key=builder))
    second = made(image, NEWS, "signed-2", replace(UPDATE, pcr_key=builder))
    signatures = uki.sections(uki.take(first.disk, work / "first.efi"))[".pcrsig"]
    with outcome.case("signed::the_signatures_are_those_that_systemd_measure_makes"):
        measures_alike(work / "first.efi", builder, work)
    with outcome.case("signed::openssl_verifies_them_and_objdump_sees_their_section"):
        verified(signatures, builder, work)
        listed = told(["objdump", "-h", str(work / "first.efi")])
        check(" .pcrsig " in listed, "the section", listed)

    host = Owner.called("host")
    node = Node(work / "node", first)
    # So that the firmware starts what the host has signed, and who may vouch is for the image to say.
    secure_boot.owner().variables(node.variables(secure_boot=True), host.programs.certificate)

    def up(**asked: Image) -> Boot:
        """One boot, whose machine is asked about these images while it is up."""
        return node.boot(firmware=True, disks=[next_boot.disk(node.directory, asked)])

    with outcome.case("signed::the_first_image_formats_both_volumes"):
        made_them = up(second=second)
        booted(made_them, FIRST, count=1)
        check(secured(made_them), "Secure Boot on in the log, and the owner's certificate", made_them.verdict)
    with outcome.case("signed::the_tpm_gives_the_key_for_a_signature_and_to_the_same_pcrs_only"):
        Keys.of(node, "state", made_them, work / "keys", signatures)
    with outcome.case("signed::another_image_with_a_signature_opens_them_and_asks_nobody"):
        node.image = second
        updated = up(first=first)
        alone(updated, count=2)
        next_boot.agrees(made_them, "second", updated)
        for pcr, same in (("4", False), ("11", False), ("7", True), ("15", True)):
            equal(updated.pcrs[pcr] == made_them.pcrs[pcr], same, f"PCR {pcr} of the first image")

    others = refusable(image, second, signatures, host)
    with outcome.case("signed::and_the_first_one_opens_them_again"):
        node.image = first
        back = up(second=second, **{name: other for name, (other, _) in others.items()})
        alone(back, count=3)
        next_boot.agrees(updated, "first", back)
    for name, (other, words) in others.items():
        with outcome.case(f"signed::an_image_{name}_is_refused_and_changes_nothing"):
            node.image = other
            before = {volume: node.digest(volume) for volume in VOLUMES}
            boot = node.boot(firmware=True)
            refused(boot, 77)
            check(words in boot.sentence, words, boot.sentence)
            equal({volume: node.digest(volume) for volume in VOLUMES}, before, "the disks")
            next_boot.agrees(back, name, boot)
        other.disk.unlink()
    with outcome.case("signed::the_second_one_opens_them_after_that"):
        node.image = second
        again = node.boot(firmware=True)
        alone(again, count=4)
        next_boot.agrees(back, "second", again)


def refusable(image: Image, second: Image, signatures: bytes, host: Owner) -> dict[str, tuple[Image, str]]:
    """Images that are as the second one but for who signed what, each with the words that refuse it."""
    foreign = PcrKey.called("foreign")
    by_another = replace(UPDATE, pcr_key=foreign, sections={".pcrpkey": foreign.public.read_bytes()})
    of_another = replace(UPDATE, sections={".pcrsig": signatures})
    others = {
        name: (made(image, NEWS, f"signed-{name}", built), words)
        for name, built, words in (
            ("with_a_signature_by_another_key", by_another, "by the key of the configuration"),
            ("without_a_signature", UPDATE, "carries none"),
            ("with_the_signatures_of_another_image", of_another, "are of other values"),
        )
    }
    return {**others, "of_another_authority": (uki.resigned(second, host, "signed-resigned"), "boot.authorities")}


def made(image: Image, files: dict[str, str], name: str, built: Built) -> Image:
    """An image whose configuration has the builder's key."""
    public = PcrKey.called("builder").public.read_text(encoding="ascii")
    config = {images.CONFIG_PATH: images.signed(images.demo_config()), images.PCR_KEY_PATH: public}
    return uki.with_initrd_files(image, {**config, **files}, name, built)


def alone(boot: Boot, count: int) -> None:
    """The boot opened what was there, by itself and with nothing accepted."""
    booted(boot, LATER, count)
    accepted = {volume.get("accepted") for volume in boot.verdict["status"]["volumes"]}
    equal(accepted, {None}, "what was accepted")


def measures_alike(unified: Path, key: PcrKey, work: Path) -> None:
    """Byte for byte what systemd-measure makes of the image's parts."""
    held = uki.sections(unified)
    command = [MEASURE, "sign", "--bank=sha256", "--phase=:", "--phase=enter-initrd"]
    command += [f"--private-key={key.private}", f"--public-key={key.public}"]
    for name in PARTS:
        if f".{name}" in held:
            part = work / f"part.{name}"
            part.write_bytes(held[f".{name}"])
            command.append(f"--{name}={part}")
    theirs = told(command).strip()
    equal(held[".pcrsig"].decode(), theirs, "the section")


def verified(signatures: bytes, key: PcrKey, work: Path) -> None:
    """Each signature is the key's over its policy."""
    for number, entry in enumerate(json.loads(signatures)["sha256"]):
        message, signature = work / f"policy-{number}", work / f"signature-{number}"
        message.write_bytes(bytes.fromhex(entry["pol"]))
        signature.write_bytes(base64.b64decode(entry["sig"]))
        command = ["openssl", "dgst", "-sha256", "-verify", str(key.public), "-signature", str(signature)]
        told([*command, str(message)])


def told(command: list[str]) -> str:
    """What a program says that ends well."""
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    check(ended.returncode == 0, "status 0", f"{' '.join(command)}: {ended.returncode}\n{ended.stdout}{ended.stderr}")
    return ended.stdout
