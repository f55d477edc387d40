# SPDX-License-Identifier: Apache-2.0
"""Where images are built: between the blocks of image.md, what its sentences say."""

from __future__ import annotations

import docs_machines
import texts
from docs_machines import BESIDE, Machines
from outcome import check

MADE = ("PK.key", "PK.pem", "KEK.key", "KEK.pem", "db.key", "db.pem", "pcr.key", "pcr.pem", "owner", "variables.fd")


def packages_handed_over(machines: Machines) -> None:
    """To the machine that images are built on, which has no clone."""
    machines.hand_over(machines.packages("nightlatch", "nightlatch-tools"), machines.here("."))


def keys_made(machines: Machines, _said: str) -> None:
    """All that `./make-keys` makes."""
    there = {path.name for path in machines.here("keys").iterdir()}
    check(there == set(MADE), "the keys of an owner", there)


def prepared_to_build(machines: Machines) -> None:
    """Where mkosi's packages come from, as on this machine."""
    for name in ("initrd", "image"):
        docs_machines.told_of_mirror(machines.here(f"{name}/mkosi.sandbox"))


def built(machines: Machines, said: str) -> None:
    """It says so, and there is what a key service wants."""
    check("out/image.raw is built" in said, "an image that is built", said)
    check(machines.here("out/policy.toml").stat().st_size, "a table for a policy", "nothing")


def checked(_machines: Machines, said: str) -> None:
    """What the image has."""
    check("by the key of the configuration" in said, "the signature of PCR 11 to be found", said)


def certificates_converted(machines: Machines, _said: str) -> None:
    """As DER, beside the others."""
    for name in ("PK", "KEK", "db"):
        check(machines.here(f"keys/{name}.der").read_bytes()[:1] == b"\x30", f"{name}.der to be DER", "another")


def to_dracut(machines: Machines) -> None:
    """A machine with the packages, a configuration and a certificate."""
    certificate = machines.here("keys/db.pem")
    machines.image.directory = f"{BESIDE}/own-initrd"
    machines.hand_over([certificate], machines.here("."))
    names = ("nightlatch", "nightlatch-tools", "nightlatch-dracut")
    machines.hand_over(machines.packages(*names), machines.here("."))
    configuration = texts.called("image.md#configuration/1", "toml").text
    machines.here("nightlatch.toml").write_text(configuration, encoding="utf-8")


def in_dracut(machines: Machines, said: str) -> None:
    """A line for each kernel, as the text asks for; and back to the project."""
    printed = [line for line in said.splitlines() if "initrd-root-fs.target.requires/nightlatch.service" in line]
    kernels = list((machines.work / "image-machine/upper/boot").glob("initrd.img-*"))
    check(kernels and len(printed) >= len(kernels), "a line for each kernel", said[-4000:])
    machines.image.directory = f"{BESIDE}/my-image"
