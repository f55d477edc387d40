# SPDX-License-Identifier: Apache-2.0
"""What a built initrd would take from the host, compared with the table of units/doc/closed-initrd.md.

    initrd.py TREE      says what in a tree that looks like an initrd the table does not know or is not masked
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from image import PROJECT

TABLE = PROJECT / "units/doc/closed-initrd.md"
LISTS = PROJECT / "units/initrd"
GENERATORS = ("usr/lib/systemd/system-generators", "lib/systemd/system-generators")
UNITS = ("usr/lib/systemd/system", "lib/systemd/system")
RULES = ("usr/lib/udev/rules.d", "lib/udev/rules.d")
PATH = ("usr/bin", "usr/sbin", "bin", "sbin", "usr/lib/systemd", "lib/systemd")
# What a program that reads it has in its symbols or strings (systemd 252 to 262, `src/basic` and `src/shared`).
IN_PROGRAMS = {
    "the command line": (b"proc_cmdline_", b"/proc/cmdline"),
    "credentials": (b"read_credential", b"get_credentials_dir", b"/run/credentials"),
    "firmware variables": (b"efi_get_variable", b"efi_loader", b"efivars", b"/sys/firmware/efi"),
    "SMBIOS": (b"smbios", b"dmi/entries"),
    "fw_cfg": (b"fw_cfg",),
    "the ESP": (b"find_esp", b"find_xbootldr"),
}
# The same in units (systemd.unit(5), systemd.exec(5)).
IN_UNITS = re.compile(
    r"^(((Condition|Assert)(KernelCommandLine|Credential)|(Import|Load)Credential)=.+"
    r"|(Condition|Assert)Path\w+=.*(/sys/firmware|/\.extra).*)$",
    re.MULTILINE,
)
EXECUTED = re.compile(r"^Exec\w+=[-+!@:|]*(\S+)", re.MULTILINE)
# Rules of udev that put several disks together (btrfs, LVM, RAID, multipath, bcache, ZFS) run the tool.
ASSEMBLES = re.compile(
    r'^[^#]*(RUN|IMPORT|PROGRAM|SYSTEMD_WANTS)\b[^,]*(btrfs ready|pvscan|lvm|mdadm|mdmon|multipath|kpartx|dmraid|bcache'
    r"|zpool|zfs)",
    re.MULTILINE,
)
# What no setting for all services takes away, and the verdict on units that it is taken away from.
LOADS = re.compile(r"^(LoadCredential|LoadCredentialEncrypted)=", re.MULTILINE)
NO_CREDENTIAL = "given no credential"
ROW = re.compile(r"^\| (`[^|]*) \|.*\| ([^|]*) \|$", re.MULTILINE)
NAME = re.compile(r"`([^`]+)`")
COMPRESSED, ARCHIVE, TRAILER = b"\x28\xb5\x2f\xfd", b"070701", b"TRAILER!!!"


def unpack(initrd: Path, tree: Path) -> Path:
    """Unpacks the first archive of an initrd, in which everything but modules of the kernel is."""
    data = initrd.read_bytes()
    if data.startswith(COMPRESSED):
        # What follows the first archive is not compressed, and an error to zstd once that one is out.
        command = ["zstd", "--decompress", "--quiet", "--stdout", str(initrd)]
        data = subprocess.run(command, check=False, capture_output=True).stdout
    if not data.startswith(ARCHIVE) or TRAILER not in data:
        raise RuntimeError(f"{initrd} does not begin with an archive")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    command = ["cpio", "--quiet", "--extract", "--make-directories", "--no-absolute-filenames"]
    command += ["--nonmatching", "dev/*"]
    subprocess.run(command, check=True, cwd=tree, input=data, capture_output=True)
    return tree


def problems(tree: Path) -> list[str]:
    """What the table does not know of the initrd below `tree`, and what it calls masked and is not."""
    rows = dict(_rows())
    found = [f"{name} is not in the table" for name in _generators(tree) if not _known(name, rows)]
    for name, what in _readers(tree):
        if not _known(name, rows):
            found.append(f"{name} reads {', '.join(sorted(what))} and is not in the table")
    for name in listed("masked") + listed("masked-volumes"):
        if not is_masked(tree, name):
            found.append(f"{name} is not masked")
    for name in _given(tree, rows):
        found.append(f"{name} loads credentials, and the table says that it is given none")
    for name in _assembling(tree):
        if name not in listed("masked-volumes"):
            found.append(f"{name} assembles disks and is not in the list")
    imported = tree / "etc/systemd/system/service.d/99-nightlatch-closed.conf"
    if "ImportCredential=\n" not in _text(imported):
        found.append(f"{imported.relative_to(tree)} does not take credentials away")
    return found


def is_masked(tree: Path, name: str) -> bool:
    """Whether a generator, a unit or a file of rules is a link to nowhere in the initrd."""
    places = {"-generator": "systemd/system-generators", ".rules": "udev/rules.d"}
    ends = (place for end, place in places.items() if name.endswith(end))
    link = tree / "etc" / next(ends, "systemd/system") / name
    return link.is_symlink() and str(link.readlink()) == "/dev/null"


def listed(name: str) -> list[str]:
    """The lines of a list below units/initrd, without its comments."""
    lines = (line.partition("#")[0].strip() for line in _text(LISTS / name).splitlines())
    return [line for line in lines if line]


def _rows() -> Iterator[tuple[str, str]]:
    """Each name in the table, and what became of it."""
    for names, verdict in ROW.findall(_text(TABLE)):
        for name in NAME.findall(names):
            yield name, verdict


def _known(name: str, rows: dict[str, str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in rows)


def _generators(tree: Path) -> list[str]:
    """All generators in the initrd."""
    return sorted({path.name for path in _files(tree, GENERATORS)})


def _readers(tree: Path) -> Iterator[tuple[str, set[str]]]:
    """Units that read what the host says, and what of it."""
    for path in _files(tree, UNITS):
        # What another package or we ourselves have is told by the name; a link is another unit's name.
        if path.is_symlink() or path.is_dir() or path.name.startswith("nightlatch"):
            continue
        text = _text(path)
        what = {match.group(0).partition("=")[0] for match in IN_UNITS.finditer(text)}
        for program in EXECUTED.findall(text):
            what |= _read_by(_program(tree, program))
        if what:
            yield path.name, what


def _given(tree: Path, rows: dict[str, str]) -> list[str]:
    """Units that load credentials by name, that are to be given none, and that no drop-in has that for."""
    units = [path for path in _files(tree, UNITS) if not path.is_symlink() and path.is_file()]
    loading = [path.name for path in units if LOADS.search(_text(path))]
    kept = text if (text := _text(LISTS / "no-loaded-credentials.conf")) else None
    return [
        name
        for name in loading
        if any(verdict == NO_CREDENTIAL for pattern, verdict in rows.items() if fnmatchcase(name, pattern))
        and _text(tree / "etc/systemd/system" / f"{name}.d" / "99-nightlatch-closed.conf") != kept
    ]


def _read_by(program: Path | None) -> set[str]:
    """What a program reads, by its symbols and strings."""
    data = program.read_bytes() if program else b""
    return {what for what, words in IN_PROGRAMS.items() if any(word in data for word in words)}


def _program(tree: Path, name: str) -> Path | None:
    """The program that a unit starts: by its path, or by its name in the search path."""
    places = [name.lstrip("/")] if name.startswith("/") else [f"{place}/{name}" for place in PATH]
    found = (tree / place for place in places)
    return next((path for path in found if path.is_file()), None)


def _assembling(tree: Path) -> list[str]:
    """Files of rules that put disks together."""
    return sorted(path.name for path in _files(tree, RULES) if ASSEMBLES.search(_text(path)))


def _files(tree: Path, places: tuple[str, ...]) -> list[Path]:
    """All files in these directories; on a merged /usr they are the same ones."""
    directories = (tree / place for place in places if not (tree / place.split("/")[0]).is_symlink())
    return [path for place in directories if place.is_dir() for path in sorted(place.iterdir())]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


if __name__ == "__main__":
    told = problems(Path(sys.argv[1]))
    print(*told, sep="\n")
    sys.exit(1 if told else 0)
