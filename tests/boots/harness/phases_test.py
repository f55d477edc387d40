# SPDX-License-Identifier: Apache-2.0
"""What is read out of the logs of a run."""

from __future__ import annotations

import json
import os
import tempfile
import unittest
from pathlib import Path

import phases
from jobs import LOGS, Ended
from libtest import Tally

VERDICT = {
    "kind": "booted",
    "times_us": {
        "KernelTimestampMonotonic": 0,
        "InitRDTimestampMonotonic": 2_000_000,
        "UserspaceTimestampMonotonic": 9_000_000,
        "FinishTimestampMonotonic": 20_000_000,
    },
    "status": {"steps": [{"name": "a", "start_us": 1, "end_us": 3_000_000}]},
}


class Profile(unittest.TestCase):
    """Where the time went."""

    def test_the_phases_of_a_boot_add_up_to_its_time(self) -> None:
        """Nightlatch's part is within the initrd's."""
        found = phases.phases(VERDICT, began=100.0, reported=130.0, ended=131.5)
        self.assertEqual(found, phases.Phases(10.0, 2.0, 7.0, 3.0, 11.0, 1.5))
        self.assertIsNone(phases.phases({"kind": "stopped"}, 100.0, 130.0, 131.5))

    def test_cases_took_what_lies_between_their_lines(self) -> None:
        """The lines of a log have the job's second in front, and then the machine's."""
        log = [
            "   30.00 booting one machine (tcg), console in x",
            "   45.10     15.0s  test a::one ... ok",
            "   50.10     20.5s  test a::two ... FAILED",
            "   50.20 2 passed, 0 failed",
        ]
        self.assertEqual(phases.cases(log), {"(boot, and the first)": 15.0, "a::two": 5.5})

    def test_builds_of_the_crate_are_counted(self) -> None:
        """And those of others are not."""
        log = [
            "    1.00    Compiling nightlatch v0.1.0 (/x)",
            "    2.00     Checking nightlatch v0.1.0 (/x)",
            "    3.00    Compiling nix v0.31.0",
            "    4.00    Compiling nightlatch v0.1.0 (/x)",
        ]
        self.assertEqual(phases.compiled(log), {"Compiling": 2, "Checking": 1})

    def test_a_profile_has_the_jobs_and_the_machines_of_its_run_only(self) -> None:
        """A machine of an earlier run is left out."""
        with tempfile.TemporaryDirectory() as directory:
            work = Path(directory) / "run"
            (work / LOGS).mkdir(parents=True)
            (work / LOGS / "boots.firmware.log").write_text("    1.00 hm\n", encoding="utf-8")
            for name, began in (("new", 100), ("old", 50)):
                place = Path(directory) / "chain" / name
                place.mkdir(parents=True)
                (place / "times").write_text(f"{began} {began + 31.5}\n", encoding="ascii")
                port = place / "port-nightlatch.result"
                port.write_text(f"{json.dumps(VERDICT)}\n", encoding="ascii")
                os.utime(port, (began + 30, began + 30))
            ended = [Ended("boots/firmware", Tally(1), 40.0, 35.0), Ended("deny", Tally(), 0.0, ran=False)]
            phases.keep(work, 90, ended)
            text = phases.shown(work)
        self.assertRegex(text, r"boots/firmware +40\.0 +35\.0")
        self.assertRegex(text, r"chain/new +10\.0 +2\.0 +7\.0 +3\.0 +11\.0 +1\.5")
        self.assertNotIn("chain/old", text)
        self.assertNotIn("deny", text)
