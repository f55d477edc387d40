# SPDX-License-Identifier: Apache-2.0
"""What check said, held against what a boot did: each way in which they differ is found."""

from __future__ import annotations

import hashlib
import json
import unittest
from pathlib import Path
from typing import Any

import next_boot
from machine import Ended
from node import Boot

PHASE = hashlib.sha256(b"enter-initrd").hexdigest()
HELD = hashlib.sha256(bytes(32) + bytes.fromhex(PHASE)).hexdigest()
LATER = hashlib.sha256(bytes.fromhex(HELD + PHASE)).hexdigest()
WORD = f"another PCR 4; {next_boot.WORD}"


def boot(**verdict: Any) -> Boot:
    """A boot with this verdict."""
    return Boot(Ended("guest-shutdown", 1.0, {"nightlatch.result": [json.dumps(verdict)]}), Path("/nowhere"))


def told(opens: str, why: str | None = None, **more: Any) -> Boot:
    """A boot in which check said of the image "next" that its volume opens so."""
    volumes = [{"name": "state", "opens": opens, "why": why}]
    pcrs = [{"pcr": 4, "next": "04"}, {"pcr": 11, "next": HELD}]
    said = {"result": "opens", "refused": None, "exit": 77, "volumes": volumes, "pcrs": pcrs, **more}
    return boot(kind="booted", checks={"next": said})


def up(source: str = "tpm", pcr_4: str = "04", pcr_11: str = PHASE) -> Boot:
    """A boot to its end."""
    log = [{"pcr": 11, "sha256": pcr_11}, {"pcr": 11, "sha256": None}, {"pcr": 11, "sha256": PHASE}]
    value = hashlib.sha256(bytes(32) + bytes.fromhex(pcr_11)).digest() + bytes.fromhex(PHASE)
    pcrs = {"4": pcr_4, "11": hashlib.sha256(value).hexdigest()}
    status = {"volumes": [{"name": "state", "source": source}]}
    return boot(kind="booted", status=status, pcrs=pcrs, log={"log": log})


class Agreement(unittest.TestCase):
    """Between a check and the next boot."""

    def test_what_was_said_has_to_be_what_was_done(self) -> None:
        """By the same source, with the same PCRs, or not at all and with the same exit code."""
        stopped, otherwise = boot(kind="stopped", exit=77), boot(kind="stopped", exit=69)
        lacking = told("tpm", volumes=[], missing=["a signature"])
        self.assertEqual(up().pcrs["11"], LATER)
        for before, after, word in (
            (told("tpm"), up(), False),
            (told("service", "stale"), up("service"), False),
            (told("nothing", WORD), stopped, False),
            (told("nothing", WORD), up("service"), True),
            (told("tpm", refused="Secure Boot is off"), stopped, False),
            (lacking, stopped, False),
        ):
            next_boot.compare(next_boot.said(before, "next"), after, has_word=word)
        for before, after, word in (
            (told("tpm"), stopped, False),
            (told("tpm"), up("service"), False),
            (told("service", "stale"), up("tpm"), False),
            (told("tpm"), up(pcr_4="05"), False),
            (told("tpm"), up(pcr_11="00" * 32), False),
            (told("nothing", "why"), up(), False),
            (told("nothing", "why"), up("service"), True),
            (told("nothing", "why"), otherwise, False),
            (told("unknown", "why"), up(), False),
            (lacking, up(), False),
            (boot(kind="booted", checks=None), up(), False),
        ):
            with self.assertRaises(AssertionError):
                next_boot.compare(next_boot.said(before, "next"), after, has_word=word)
