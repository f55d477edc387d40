# SPDX-License-Identifier: Apache-2.0
"""Nothing secret is in the journal of a boot at debug level.

The keys are the actual ones: taken from the disk with the machine's own TPM, replayed outside of the machine. The words
for it are on the kernel's command line, which a signed image does not have; so the firmware starts the image's kernel, with
Secure Boot off.
"""

from __future__ import annotations

import base64
import binascii
import secrets as randomness
from collections.abc import Callable
from pathlib import Path

from boots.firmware import FIRST, LATER, booted
from image import Image
from keys import Keys
from node import Node
from outcome import Outcome, check, equal

# Long enough not to be found by chance, short enough to find parts of a key.
WINDOW_BYTES = 9
# The forms a key may leak in. The controls are printable, so that a kernel command line carries them raw as well.
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "base64": base64.b64encode,
    "hexadecimal": binascii.hexlify,
    "raw": bytes,
}
DEBUG = (
    "systemd.setenv=NIGHTLATCH_DEBUG=1 systemd.log_level=debug "
    "systemd.journald.max_level_store=debug"
)


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Search a debug-level journal of both boots for the actual keys."""
    node = Node(work / "node", image)
    planted = {form: randomness.token_hex(16).encode() for form in FORMS}
    written = ",".join(FORMS[form](key).decode() for form, key in planted.items())
    append = f"{DEBUG} nightlatch.test.planted={written}"
    first = node.boot(append=append, journal=True)
    second = node.boot(append=append, journal=True)
    with outcome.case("secrets::the_boots_at_debug_level_work"):
        booted(first, FIRST, count=1)
        booted(second, LATER, count=2)
    with outcome.case("secrets::the_tpm_gives_the_keys_away_to_the_same_pcrs_only"):
        keys = Keys.of(node, "state", second, work / "keys")
    for name, journal in (("format", first.journal), ("unlock", second.journal)):
        with outcome.case(f"secrets::the_control_is_found_in_the_journal_of_the_{name}"):
            for form, key in planted.items():
                equal(leaks(journal, key), [form], "the forms found of a planted key")
            check(b"volume state: keying" in journal, "nightlatch at debug level", journal[:1000])
        with outcome.case(f"secrets::no_key_is_in_the_journal_of_the_{name}"):
            for what, key in keys.named.items():
                found = leaks(journal, key)
                check(not found, f"nothing of the {what}", found)


def leaks(journal: bytes, key: bytes) -> list[str]:
    """In which forms any part of the key is in the journal: raw, hexadecimal, base64."""
    lowered = journal.lower()
    found = set()
    # Of the windows, every third begins where base64 of the whole, or of what contains it, begins a group.
    for start in range(len(key) - WINDOW_BYTES + 1):
        part = key[start : start + WINDOW_BYTES]
        if base64.b64encode(part) in journal or base64.urlsafe_b64encode(part) in journal:
            found.add("base64")
        if part.hex().encode() in lowered:
            found.add("hexadecimal")
        if part in journal:
            found.add("raw")
    return sorted(found)
