# SPDX-License-Identifier: Apache-2.0
"""What a new systemd would bring into the initrd is seen."""

from __future__ import annotations

import subprocess
import tempfile
import unittest
from pathlib import Path

import initrd
from image import PROJECT

SYSTEM = "usr/lib/systemd/system"


class Initrds(unittest.TestCase):
    """A small tree in the place of an initrd."""

    def setUp(self) -> None:
        """A closed one with a service that reads nothing."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.tree = Path(directory.name)
        close = [str(PROJECT / "mkosi/close-initrd"), str(initrd.LISTS), str(self.tree)]
        subprocess.run(close, check=True)
        self.add("usr/lib/systemd/systemd-plain", "nothing")
        self.add(f"{SYSTEM}/plain.service", "[Service]\nExecStart=/usr/lib/systemd/systemd-plain\n")
        self.add("usr/lib/systemd/system-generators/systemd-debug-generator", "proc_cmdline_parse")
        self.add("usr/lib/udev/rules.d/64-btrfs.rules", 'IMPORT{builtin}="btrfs ready $devnode"\n')

    def add(self, name: str, text: str) -> None:
        """A file in the tree."""
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def told(self) -> str:
        """The only problem there is; empty where there is none."""
        found = initrd.problems(self.tree)
        self.assertLessEqual(len(found), 1, found)
        return "".join(found)

    def test_a_closed_initrd_has_no_problem(self) -> None:
        """The control."""
        self.assertEqual(self.told(), "")

    def test_a_generator_that_nobody_looked_at_is_seen(self) -> None:
        """Whatever it reads."""
        self.add("usr/lib/systemd/system-generators/systemd-new-generator", "")
        self.assertEqual(self.told(), "systemd-new-generator is not in the table")

    def test_a_unit_that_reads_what_the_host_says_is_seen(self) -> None:
        """By its own settings, and by the program it starts."""
        path = f"{SYSTEM}/new.service"
        said = {
            "[Unit]\nConditionKernelCommandLine=new\n": "ConditionKernelCommandLine",
            "[Service]\nImportCredential=new.*\n": "ImportCredential",
            "[Unit]\nConditionPathExists=/.extra/new\n": "ConditionPathExists",
            "[Service]\nExecStart=-systemd-reader --x\n": "SMBIOS, firmware variables",
        }
        self.add("usr/lib/systemd/systemd-reader", "efi_get_variable smbios")
        for text, what in said.items():
            self.add(path, text)
            self.assertEqual(self.told(), f"new.service reads {what} and is not in the table")

    def test_a_unit_that_loads_a_credential_in_spite_of_the_table_is_seen(self) -> None:
        """The table says of both that they are given none; one of them has the drop-in for it."""
        loads = "[Service]\nLoadCredential=sysctl.extra\n"
        self.add(f"{SYSTEM}/systemd-sysctl.service", loads)
        self.assertEqual(self.told(), "")
        self.add(f"{SYSTEM}/procps.service", loads)
        self.assertEqual(
            self.told(), "procps.service loads credentials, and the table says that it is given none"
        )

    def test_rules_that_assemble_disks_are_seen(self) -> None:
        """A comment or a condition is not a rule that does."""
        path = "usr/lib/udev/rules.d/70-new.rules"
        self.add(path, '# RUN+="mdadm"\nKERNEL!="lvm*", GOTO="end"\n')
        self.assertEqual(self.told(), "")
        self.add(path, 'ACTION=="add", RUN+="/sbin/mdadm -I $devnode"\n')
        self.assertEqual(self.told(), "70-new.rules assembles disks and is not in the list")

    def test_a_mask_that_is_missing_or_something_else_is_seen(self) -> None:
        """A link to a real unit is none."""
        for name in ("systemd/system-generators/systemd-run-generator", "udev/rules.d/64-btrfs.rules"):
            link = self.tree / "etc" / name
            link.unlink()
            self.assertEqual(self.told(), f"{link.name} is not masked")
            link.symlink_to("/usr/lib/systemd/systemd-plain")
            self.assertEqual(self.told(), f"{link.name} is not masked")
            link.unlink()
            link.symlink_to("/dev/null")

    def test_a_packed_initrd_is_unpacked_with_what_follows_left_out(self) -> None:
        """Compressed, and with modules behind it, as mkosi makes them."""
        names = b"\n".join(str(p.relative_to(self.tree)).encode() for p in self.tree.rglob("*"))
        pack = ["cpio", "--quiet", "--create", "--format=newc"]
        ended = subprocess.run(pack, check=True, cwd=self.tree, input=names, capture_output=True)
        squeeze = ["zstd", "--quiet", "--stdout"]
        packed = subprocess.run(squeeze, check=True, input=ended.stdout, capture_output=True).stdout
        for data in (ended.stdout, packed + bytes(512) + b"070701 more"):
            with tempfile.TemporaryDirectory() as directory:
                file = Path(directory) / "initrd"
                file.write_bytes(data)
                tree = initrd.unpack(file, Path(directory) / "tree")
                self.assertEqual(initrd.problems(tree), [])
                self.assertTrue((tree / SYSTEM / "plain.service").is_file())

    def test_what_is_not_an_archive_is_no_initrd(self) -> None:
        """An initrd that cannot be read is not one without problems."""
        self.add("not-an-initrd", "text")
        with self.assertRaises(RuntimeError):
            initrd.unpack(self.tree / "not-an-initrd", self.tree / "unpacked")


if __name__ == "__main__":
    unittest.main()
