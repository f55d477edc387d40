# SPDX-License-Identifier: Apache-2.0
"""Where images are built: between the blocks of image.md, what its sentences say."""

from __future__ import annotations

from docs_machines import Machines
from outcome import check

MADE = ("PK.key", "PK.pem", "KEK.key", "KEK.pem", "db.key", "db.pem", "pcr.key", "pcr.pem", "owner", "variables.fd")


def packages_handed_over(machines: Machines) -> None:
    """To the machine that images are built on, which has no clone."""
    machines.hand_over(machines.packages("nightlatch", "nightlatch-tools"), machines.here("."))


def keys_made(machines: Machines, _said: str) -> None:
    """All that `./make-keys` makes."""
    there = {path.name for path in machines.here("keys").iterdir()}
    check(there == set(MADE), "the keys of an owner", there)
