# SPDX-License-Identifier: Apache-2.0
"""The demo image, from firmware with Secure Boot on: four boots, with a tampered header at the third; one refusal of each class.

The classes are the disk, the policy, the TPM and the configuration. `refusals` has further ones.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import image as images
import initrd
import next_boot
import secure_boot
import uki
from image import Image, with_files
from machine import Tpm
from node import Boot, Node
from outcome import Outcome, check, equal, note

ZERO_PCR = "0" * 64
# Inside the JSON area of the first header copy (LUKS2 on-disk format: a binary header of 4 KiB, then JSON).
# In keyslot 0, which the TPM's way does not read: only the header's MAC covers it.
HEADER_OFFSET = 32768 + 100
# No key is called that.
UNKNOWN_KEY = "no-such-key"
FIRST = {"state": "formatted", "system": "formatted"}
LATER = {"state": "unlocked", "system": "unlocked"}


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Format, unlock, refuse, unlock, with firmware and a measured unified kernel image."""
    node = Node(work / "node", image)
    with outcome.case("firmware::the_initrd_takes_nothing_from_the_host_but_what_the_table_says"):
        closed(image, work / "initrd")
    first = node.boot(firmware=True)
    with outcome.case("firmware::the_first_boot_formats_both_volumes"):
        booted(first, FIRST, count=1)
    with outcome.case("firmware::secure_boot_is_on_and_the_owner_vouched_for_what_ran"):
        check(secured(first), "Secure Boot on in the log, and the owner's certificate", first.verdict["log"])
    with outcome.case("firmware::the_root_is_a_verity_image_below_an_encrypted_volume"):
        overlaid(first)
    with outcome.case("firmware::the_cluster_is_measured_before_the_hand_over"):
        measured(first)
    with outcome.case("firmware::systemd_pcrlock_accepts_the_event_log"):
        logged(first)

    second = node.boot(firmware=True)
    with outcome.case("firmware::the_second_boot_unlocks_and_finds_its_files"):
        booted(second, LATER, count=2)
    with outcome.case("firmware::the_cluster_measures_the_same_at_every_boot"):
        check(second.pcrs["15"] != ZERO_PCR, "PCR 15 to be extended", second)
        equal(second.pcrs["15"], first.pcrs["15"], "PCR 15")
    with outcome.case("firmware::the_policy_is_closed_after_the_hand_over"):
        equal(second.verdict["status"].get("fence_pcr"), 12, "the fence")
        check(second.pcrs["12"] != ZERO_PCR, "PCR 12 to be extended", second.pcrs["12"])

    before = node.digest("state")
    with outcome.case("firmware::one_changed_byte_in_the_header_is_refused"):
        node.flip("state", HEADER_OFFSET)
        tampered = node.digest("state")
        check(before != tampered, "the digest to show the changed byte", before)
        third = node.boot(firmware=True)
        refused(third, 77)
        equal(node.digest("state"), tampered, "the refused disk")

    # Signed by the same owner, and another file.
    another = uki.with_initrd_files(image, {"etc/another": "image\n"}, "another-chain")
    with outcome.case("firmware::the_same_disk_with_the_byte_restored_is_unlocked"):
        node.flip("state", HEADER_OFFSET)
        fourth = node.boot(firmware=True, disks=[next_boot.disk(node.directory, {"another": another})])
        booted(fourth, LATER, count=3)

    with outcome.case("firmware::the_same_disks_and_tpm_with_another_boot_chain_stay_closed"):
        other = node.copy(work / "other-chain")
        other.image = another
        before = other.digest("state")
        stopped = other.boot(firmware=True)
        refused(stopped, 77)
        equal(other.digest("state"), before, "the refused disk")
        next_boot.agrees(fourth, "another", stopped)
    with outcome.case("firmware::the_same_disks_with_another_tpm_stay_closed"):
        other = node.copy(work / "other-tpm")
        other.tpm = Tpm(work / "other-tpm" / "new")
        before = other.digest("state")
        refused(other.boot(firmware=True), 77)
        equal(other.digest("state"), before, "the refused disk")
    with outcome.case("firmware::a_configuration_with_an_unknown_key_stops_the_boot"):
        other = node.copy(work / "other-configuration")
        before = other.digest("state")
        boot = other.boot(initrd=configured(other, f"{UNKNOWN_KEY} = 1", "unknown-key"))
        refused(boot, 78)
        check(UNKNOWN_KEY in boot.sentence, "the key to be named", boot)
        equal(other.digest("state"), before, "the refused disk")


def configured(node: Node, line: str, name: str) -> Path:
    """An initrd called `name` whose configuration begins with this line."""
    text = images.without_secure_boot(images.demo_config())
    files = {images.CONFIG_PATH: f"{line}\n{text}"}
    return with_files(node.image.initrd, files, node.directory / f"{name}.initrd")


def closed(image: Image, tree: Path) -> None:
    """Every generator, and every unit that reads what the host says, is masked or in the table with its reason."""
    equal(initrd.problems(initrd.unpack(image.packed, tree)), [], "problems of the initrd")


def booted(boot: Boot, opened: dict[str, str], count: int) -> None:
    """The boot came up, opened its volumes in that way, and is number `count` on both."""
    check(boot.kind == "booted", "a boot to the end", boot)
    equal(boot.opened, opened, "how the volumes were opened")
    equal(boot.verdict["boots"], {"state": count, "root": count}, "the boots counted in files")
    equal(boot.verdict["failed"], [], "failed units")


def refused(boot: Boot, code: int) -> None:
    """The boot was stopped with this exit code, and one sentence says why."""
    check(boot.kind == "stopped", "a stopped boot", boot)
    check(boot.exit == code, f"exit code {code}", boot)
    check(boot.sentence, "a sentence in the journal", boot)
    note(f"exit {boot.exit}: {boot.sentence}")


def secured(boot: Boot) -> bool:
    """Whether the log has Secure Boot on, and the certificate of the machine's owner as what vouched for a program."""
    log = (boot.verdict.get("log") or {}).get("log", [])
    certificate = secure_boot.owner().programs.certificate
    return secure_boot.is_on(log) and secure_boot.vouched(log, certificate)


def overlaid(boot: Boot) -> None:
    """The mounts of the final system are what the configuration says."""
    mounts = {mount["target"]: mount for mount in boot.verdict["mounts"]}
    root = mounts["/"]
    equal(root["fstype"], "overlay", "the root's file system")
    check("lowerdir=/run/nightlatch/lower" in root["options"], "the image below", root)
    check("upperdir=/run/nightlatch/system/upper" in root["options"], "the volume above", root)
    equal(mounts["/run/nightlatch/lower"]["source"], "/dev/mapper/root", "the lower layer")
    equal(mounts["/run/nightlatch/system"]["source"], "/dev/mapper/system", "the upper layer")
    equal(mounts["/var/lib/state"]["source"], "/dev/mapper/state", "the state volume")


def measured(boot: Boot) -> None:
    """PCR 15 is SHA-256 over zeros and the hash of the clusterID, as design section 8 has it."""
    cluster = bytes.fromhex(boot.verdict["status"]["cluster_id"])
    expected = hashlib.sha256(bytes(32) + hashlib.sha256(cluster).digest()).hexdigest()
    equal(boot.pcrs["15"], expected, "PCR 15")


def logged(boot: Boot) -> None:
    """What systemd-pcrlock calculates from the logs is what the TPM holds, for the PCRs that nightlatch extends."""
    log = boot.verdict["log"]
    check(log, "a log from systemd-pcrlock", boot.verdict["log_said"])
    summaries = {summary["pcr"]: summary for summary in log["pcrs"]}
    for pcr in (12, 15):
        summary = summaries[pcr]
        equal(summary["count"], 1, f"events in the log for PCR {pcr}")
        check(summary["hashMatchesEventLog"], f"PCR {pcr} to match the log", summary)
        equal(summary["calculatedSHA256"], boot.pcrs[str(pcr)], f"PCR {pcr}")
