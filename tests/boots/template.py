# SPDX-License-Identifier: Apache-2.0
"""mkosi/template as a user has it: copied, its keys and image made, and that booted in a machine as `boot` would start.

What a user would not have is what reports from inside, beside the user's own files, and where packages come from.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import image as images
import secure_boot
import uki
from boots.firmware import FIRST, LATER, booted, refused
from image import PROGRAMS, PROJECT, Image
from machine import Uefi
from node import VOLUMES, Node
from outcome import Outcome, check, equal, note
from secure_boot import Owner

TEMPLATE = PROJECT / "mkosi/template"
DEMO = PROJECT / "mkosi/demo"
# What the report in the final system is written with.
PACKAGE = "[Content]\nPackages=jq\n"
MADE = ("PK.key", "PK.pem", "KEK.key", "KEK.pem", "db.key", "db.pem", "pcr.key", "pcr.pem", "owner", "variables.fd")


def run(outcome: Outcome, _image: None, work: Path) -> None:
    """Copy, keys, build, format, unlock; then the same image with a signature of another owner."""
    with tempfile.TemporaryDirectory(prefix="nightlatch-template-") as place:
        follow(outcome, Path(place) / "my-image", work)


def follow(outcome: Outcome, project: Path, work: Path) -> None:
    """The steps, in an empty directory outside of the sources."""
    shutil.copytree(TEMPLATE, project)
    (project / "nightlatch").symlink_to(PROJECT)
    with outcome.case("template::a_command_without_what_it_needs_says_which_one_comes_first"):
        told(project, ["./build"], 1, "./make-keys")
        told(project, ["./boot"], 1, "./make-keys")
    with outcome.case("template::the_keys_are_made_once"):
        told(project, ["./make-keys"], 0, "./build")
        kept = {name: (project / "keys" / name).read_bytes() for name in MADE}
        told(project, ["./make-keys"], 1, "keys is there already")
        equal(sorted(os.listdir(project / "keys")), sorted(MADE), "the files in keys")
        for name, content in kept.items():
            check((project / "keys" / name).read_bytes() == content, f"{name} as it was", name)
        modes = {(project / "keys" / f"{name}.key").stat().st_mode & 0o077 for name in ("PK", "KEK", "db", "pcr")}
        equal(modes, {0}, "what others may do with secret keys")
    with outcome.case("template::the_image_is_built_and_judged"):
        reporting(project)
        options = [*images.package_options(), f"--environment={images.UNCOMPRESSED}"]
        told(project, ["./build", *options], 0, "out/image.raw is built")
        check((project / "out/policy.toml").stat().st_size, "a table for a policy", "nothing")
        found = (project / "out/check.log").read_text(encoding="utf-8")
        check("signature of PCR 11: by the key of the configuration" in found, "that keys/pcr.key signed it", found)
    disk, kernel, initrd = (project / "out" / name for name in ("image.raw", "image.vmlinuz", "initrd.cpio.zst"))
    built = Image(disk, kernel, initrd, initrd, root="")

    node = Node(work / "node", built)
    variables = node.variables(secure_boot=True)
    shutil.copyfile(project / "keys/variables.fd", variables)
    with outcome.case("template::boot_starts_a_machine_as_these_are"):
        alike(printed(project), node, Uefi(variables))
    with outcome.case("template::the_first_boot_formats_both_volumes"):
        first = node.boot(firmware=True)
        booted(first, FIRST, count=1)
    with outcome.case("template::secure_boot_is_on_with_the_keys_that_were_made"):
        log = (first.verdict.get("log") or {}).get("log", [])
        guid = uuid.UUID((project / "keys/owner").read_text(encoding="ascii").strip())
        check(secure_boot.is_on(log), "Secure Boot on in the log", log)
        check(secure_boot.vouched(log, project / "keys/db.pem", guid), "keys/db.pem in the log", log)
    with outcome.case("template::the_second_boot_unlocks_and_finds_its_files"):
        booted(node.boot(firmware=True), LATER, count=2)

    with outcome.case("template::the_image_with_anothers_signature_gets_no_disk"):
        host = Owner.called("host")
        # The control is the first boot: the same image as its owner signed it, and disks as blank as these.
        robbed = Node(work / "robbed", uki.resigned(built, host, "resigned"))
        variables = robbed.variables(secure_boot=True)
        shutil.copyfile(project / "keys/variables.fd", variables)
        # Else the firmware does not start it at all.
        trusting(variables, host)
        blank = {name: robbed.digest(name) for name in VOLUMES}
        anew = robbed.boot(firmware=True)
        refused(anew, 77)
        check("boot.authorities" in anew.sentence, "the list to be named that has no such key", anew)
        equal({name: robbed.digest(name) for name in VOLUMES}, blank, "the refused disks")


def told(project: Path, command: Sequence[str], status: int, words: str) -> str:
    """Runs a command of the template's as a user does; it ends with this status and says these words."""
    environment: Mapping[str, str] = {**os.environ, "NIGHTLATCH_PROGRAMS": str(PROGRAMS.absolute())}
    ended = subprocess.run(
        command, check=False, cwd=project, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    said = ended.stdout + ended.stderr
    check(ended.returncode == status and words in said, f"status {status} and {words!r}", f"{ended.returncode}\n{said}")
    note(f"{command[0]}: {said.strip().splitlines()[-1]}")
    return ended.stdout


def reporting(project: Path) -> None:
    """Adds what reports to the user's own files, as a user adds files and packages."""
    for name in ("initrd", "image"):
        source, target = DEMO / name / "mkosi.extra", project / name / "mkosi.extra"
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
    # The configuration is the template's own.
    shutil.rmtree(project / "initrd/mkosi.extra/etc/nightlatch")
    drop_in = project / "image/mkosi.conf.d/report.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(PACKAGE, encoding="ascii")


def printed(project: Path) -> list[str]:
    """The words of the command that starts the machine, as `boot` prints it."""
    ended = subprocess.run(
        ["./boot", "--print", "--without-kvm"], check=True, cwd=project, capture_output=True, text=True
    )
    commands = [shlex.split(line) for line in ended.stdout.splitlines()]
    equal([command[0] for command in commands], ["swtpm", "qemu-system-x86_64"], "the printed commands")
    check("--tpm2" in commands[0], "a TPM 2.0", commands[0])
    return commands[1]


def alike(words: Sequence[str], node: Node, firmware: Uefi) -> None:
    """What `boot` prints has the firmware, the TPM and the disks of the machines that are started here."""
    ours = [*firmware.machine, *firmware.arguments()]
    for wanted in firmware.machine:
        check(wanted in words, wanted, words)
    code = next(word for word in ours if "unit=0" in word).rsplit("file=", 1)[1]
    drives = [dict(part.partition("=")[::2] for part in word.split(",")) for word in words if word.startswith("if=")]
    flash = {drive["unit"]: drive for drive in drives if drive["if"] == "pflash"}
    equal((flash["0"]["file"], flash["0"]["readonly"]), (code, "on"), "the firmware")
    equal((flash["1"]["file"], flash["1"].get("readonly")), ("machine/variables.fd", None), "its variables")
    disks = [word for word in words if word.startswith("virtio-blk-pci,")]
    serials = {word.rsplit("serial=", 1)[1] for word in disks if "serial=" in word}
    equal(serials, set(node.paths), "the disks' serial numbers")
    equal([word for word in disks if "bootindex=0" in word], [disks[0]], "the disk that is tried first")
    check(any(word.startswith("tpm-crb,") for word in words), "the TPM", words)


def trusting(variables: Path, other: Owner) -> None:
    """Has the firmware start what another owner signed, too."""
    certificate = str(other.programs.certificate)
    command = ["virt-fw-vars", "--inplace", str(variables)]
    command += ["--add-db", str(secure_boot.SIGNATURE_OWNER), certificate]
    subprocess.run(command, check=True, capture_output=True)
