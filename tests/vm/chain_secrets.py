# SPDX-License-Identifier: Apache-2.0
"""Nothing secret is in the journal of a boot at debug level.

The keys are the actual ones: taken from the disk with the machine's own TPM, replayed outside of the machine.
"""

from __future__ import annotations

import base64
import secrets as randomness
from pathlib import Path

import image
from chain_firmware import FIRST, LATER, booted
from keys import Keys
from node import Node
from outcome import Outcome, check

# Long enough not to be found by chance, short enough to find parts of a key.
WINDOW_BYTES = 9
DEBUG = "systemd.setenv=NIGHTLATCH_DEBUG=1 systemd.log_level=debug systemd.journald.max_level_store=debug"


def run(outcome: Outcome, work: Path) -> None:
    """Search a debug-level journal of both boots for the actual keys."""
    node = Node(work / "node", image.demo(print))
    planted = randomness.token_bytes(32)
    append = f"{DEBUG} nightlatch.test.planted={planted.hex()}"
    first = node.boot(append=append, journal=True)
    second = node.boot(append=append, journal=True)
    with outcome.case("secrets::the_boots_at_debug_level_work"):
        booted(first, FIRST, count=1)
        booted(second, LATER, count=2)
    with outcome.case("secrets::the_tpm_gives_the_keys_away_to_the_same_pcrs_only"):
        keys = Keys.of(node, "state", second, work / "keys")
    for name, journal in (("format", first.journal), ("unlock", second.journal)):
        with outcome.case(f"secrets::the_control_is_found_in_the_journal_of_the_{name}"):
            check(leaks(journal, planted), "the planted bytes to be found", f"{len(journal)} bytes")
            check(b"nightlatch" in journal, "lines of nightlatch", f"{len(journal)} bytes")
        with outcome.case(f"secrets::no_key_is_in_the_journal_of_the_{name}"):
            for what, key in keys.named.items():
                found = leaks(journal, key)
                check(not found, f"nothing of the {what}", found)


def leaks(journal: bytes, key: bytes) -> list[str]:
    """In which forms any part of the key is in the journal: raw, hexadecimal, base64."""
    lowered = journal.lower()
    found = set()
    for start in range(len(key) - WINDOW_BYTES + 1):
        part = key[start : start + WINDOW_BYTES]
        if part in journal:
            found.add("raw")
        if part.hex().encode() in lowered:
            found.add("hexadecimal")
        if base64.b64encode(part) in journal or base64.urlsafe_b64encode(part) in journal:
            # Every third window begins where an encoder of the whole, or of a part, begins a group.
            found.add("base64")
    return sorted(found)
