# SPDX-License-Identifier: Apache-2.0
"""The harness itself: a machine that fails, hangs or dies must never count as a success."""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import tempfile
import unittest
from pathlib import Path

import cases
import secure_boot
import uki
from calibration import limit
from initrd_test import Initrds  # noqa: F401 - run with the others
from libtest import Tally, failures, seen, tally
from machine import Ended
from root import loading_order
from tpm import command_codes

PASSED = ["running 1 test", "test a ... ok", "test result: ok. 1 passed; 0 failed; 0 ignored; 0"]
FAILED = [
    "running 2 tests",
    "test a ... ok",
    "test b ... FAILED",
    "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0",
]
NONE = ["running 0 tests", "test result: ok. 0 passed; 0 failed; 0 ignored; 0"]
SKIPPED = ["running 1 test", "test a ... ignored", "test result: ok. 0 passed; 0 failed; 1 ignored"]


def ended(output: list[str], how: str = "guest-shutdown", result: str = "exit 0") -> Ended:
    """A machine that ended in the given way."""
    results = [result] if result else []
    return Ended(how, 1.0, {"nightlatch.result": results, cases.OUTPUT_PORT: output})


def verdict(end: Ended) -> Tally:
    """The counts, without the explanation, which is about a failure that is wanted here."""
    with contextlib.redirect_stdout(io.StringIO()):
        return cases.verdict(end)


class Verdicts(unittest.TestCase):
    """Which ends of a machine are believed."""

    def test_a_run_whose_parts_agree_is_believed(self) -> None:
        """The control of the others, and a failure that is just a failure."""
        self.assertEqual(verdict(ended(PASSED)), Tally(passed=1))
        self.assertEqual(verdict(ended(FAILED, result="exit 101")), Tally(1, 1))

    def test_a_run_whose_parts_disagree_has_one_failure_more(self) -> None:
        """A dead machine, no status, another status, no summary, no tests."""
        doubtful = [
            ended(PASSED, how="guest-reset"),
            ended(PASSED, how="timeout"),
            ended(PASSED, result=""),
            ended(PASSED, result="exit 101"),
            ended(PASSED[:2]),
        ]
        for end in doubtful:
            self.assertEqual(verdict(end), Tally(1, 1), end)
        self.assertEqual(verdict(ended(FAILED)), Tally(1, 2))
        self.assertEqual(verdict(ended(NONE)), Tally(0, 1))

    def test_a_run_of_named_cases_has_all_of_them(self) -> None:
        """A case that is called otherwise now would be left out without a word."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(cases.verdict(ended(PASSED), 1), Tally(passed=1))
            self.assertEqual(cases.verdict(ended(PASSED), 2), Tally(1, 1))

    def test_a_skipped_case_is_a_failed_one(self) -> None:
        """Unless the environment allows it, which `.ci/run` never does."""
        self.assertEqual(verdict(ended(SKIPPED)), Tally(0, 1))


class Parsing(unittest.TestCase):
    """What is read from other programs."""

    def test_summaries_add_up_and_a_missing_one_is_noticed(self) -> None:
        """A plain `cargo test` runs several programs."""
        self.assertEqual(tally(PASSED + FAILED), Tally(2, 1))
        self.assertIsNone(tally(PASSED + FAILED[:3]))
        self.assertIsNone(tally([]))
        self.assertEqual(seen(FAILED[:3]), Tally(1, 1))

    def test_what_failed_is_found_again(self) -> None:
        """What is indented below a case of ours, and what a Rust program says at its end."""
        ours = ["test a ... ok (1 s)", "    fine", "test b ... FAILED (2 s)", "    why", "scenario: 3 s"]
        self.assertEqual(failures(ours), ["test b ... FAILED (2 s)", "    why"])
        rust = [*FAILED[:3], "failures:", "---- b stdout ----", "why", FAILED[3], "after"]
        self.assertEqual(failures(rust), rust[2:6])
        self.assertEqual(failures(PASSED), [])

    def test_tpm_commands_are_read_from_the_log(self) -> None:
        """One Startup and one GetRandom, as swtpm 0.7 writes them; answers do not count."""
        log = (
            " SWTPM_IO_Read: length 12\n 80 01 00 00 00 0C 00 00 01 44 00 00 \n"
            " SWTPM_IO_Write: length 10\n 80 01 00 00 00 0A 00 00 00 00 \n"
            " SWTPM_IO_Read: length 12\n 80 01 00 00 00 0C 00 00 01 7B 00 08 \n"
        )
        self.assertEqual(command_codes(log), [0x144, 0x17B])

    def test_modules_load_after_what_they_need(self) -> None:
        """`modules.dep` lists dependencies last first; built-in modules need no file."""
        dependencies = "fs/a-b.ko.xz: lib/c.ko.xz lib/d.ko.xz\nlib/c.ko.xz: lib/d.ko.xz\nlib/d.ko.xz:\n"
        order = loading_order(dependencies, "kernel/e.ko\n", ["e", "a_b"])
        self.assertEqual(order, ["lib/d.ko.xz", "lib/c.ko.xz", "fs/a-b.ko.xz"])


class SecureBoot(unittest.TestCase):
    """What the firmware is told, and what its log says."""

    def test_a_boot_option_is_laid_out_as_the_firmware_reads_it(self) -> None:
        """Attributes, the path's length, title, path and end of path, words."""
        made = secure_boot.boot_option("h", "\\K", "w")
        path = bytes.fromhex("0404 0a00 5c00 4b00 0000 7fff 0400")
        self.assertEqual(made, bytes.fromhex("01000000 0e00 6800 0000") + path + b"w\0\0\0")

    def test_secure_boot_is_read_from_what_was_measured(self) -> None:
        """The digests of the variable when it is on, as OVMF logs it, and when it is off."""
        on = "ccfc4bb32888a345bc8aeadaba552b627d99348c767681ab3141f5b01e40a40e"
        off = "115aa827dbccfb44d216ad9ecfda56bdea620b860a94bed5b7a27bba1c4d02d8"
        self.assertTrue(secure_boot.is_on([{"pcr": 7, "sha256": on}]))
        self.assertFalse(secure_boot.is_on([{"pcr": 7, "sha256": off}]))
        self.assertFalse(secure_boot.is_on([{"pcr": 4, "sha256": on}, {"pcr": 7}]))

    def test_the_sections_of_a_program_are_found(self) -> None:
        """Two sections, one of them shorter than where it is kept; measured in the order of systemd-stub."""
        data = bytearray(0x400)
        data[0x3C:0x40] = (0x80).to_bytes(4, "little")
        # The number of sections, and no optional header.
        data[0x86:0x88], data[0x94:0x96] = b"\x02\0", b"\0\0"
        for number, (name, content, start) in enumerate([(b".osrel", b"ID=a", 0x200), (b".linux", b"kernel", 0x300)]):
            head = name.ljust(8, b"\0") + len(content).to_bytes(4, "little") + bytes(4)
            head += (0x100).to_bytes(4, "little") + start.to_bytes(4, "little")
            data[0x98 + 40 * number : 0x98 + 40 * number + len(head)] = head
            data[start : start + len(content)] = content
        with tempfile.TemporaryDirectory() as directory:
            program = Path(directory) / "program.efi"
            program.write_bytes(data)
            self.assertEqual(uki.sections(program), {".osrel": b"ID=a", ".linux": b"kernel"})
            texts = (b".linux\0", b"kernel", b".osrel\0", b"ID=a")
            self.assertEqual(uki.measured(program), [hashlib.sha256(text).digest() for text in texts])


class Machines(unittest.TestCase):
    """Real machines that come to a bad end."""

    def end_of(self, script: str, hang_seconds: float | None = None) -> Ended:
        """Runs a script in the place of the test program."""
        with tempfile.TemporaryDirectory() as directory:
            program = Path(directory) / "program"
            program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
            program.chmod(0o755)
            work = cases.WORK.with_name("harness")
            return cases.run(work, cases.Build(program), [], limit(120), hang_seconds)

    def test_a_machine_that_dies_after_a_hopeful_summary_has_failed(self) -> None:
        """The summary is there, the exit status is not."""
        lines = "\\n".join(PASSED)
        # wait: part of the test, until the reset
        end = self.end_of(f'printf "{lines}\\n"; echo b >/proc/sysrq-trigger; sleep 60')
        self.assertEqual((end.how, end.results), ("guest-reset", []))
        self.assertEqual(verdict(end), Tally(1, 1))

    def test_a_machine_that_hangs_is_ended_and_has_failed(self) -> None:
        """The control is that it had come as far as the script."""
        # wait: part of the test
        end = self.end_of("echo hanging; sleep infinity", hang_seconds=10)
        self.assertEqual((end.how, end.results), ("silent", []))
        self.assertIn("hanging", end.ports[cases.OUTPUT_PORT])
        self.assertEqual(verdict(end), Tally(0, 1))


# What has tests of its own in files of their own.
MODULES = ("harness_test", "jobs_test", "planner_test", "phases_test", "budget_test", "next_boot_test", "texts_test")


def main() -> int:
    """Runs all or the named tests; the last line is `N passed, N failed`."""
    words = [*MODULES, *patterns(sys.argv[1:])]
    program = unittest.main(module=None, argv=[sys.argv[0], *words], exit=False)
    result = program.result
    bad = len(result.failures) + len(result.errors)
    sys.stderr.flush()
    print(Tally(result.testsRun - bad - len(result.skipped), bad, len(result.skipped)).strict())
    return 0 if result.wasSuccessful() else 1


def patterns(filters: list[str]) -> list[str]:
    """The filters as unittest's options."""
    return [word for one in filters for word in ("-k", one)]


if __name__ == "__main__":
    sys.exit(main())
