# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: made twice and alike, looked at, and installed, used, upgraded and removed in a Debian 13.

    packages.py

The programs in them are those that the run has built. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import debian_tree
import image
import packages_life
import root
from image import PROJECT
from outcome import Outcome, check, equal, lighten, note

WORK = root.CACHE / "packages"
NAMES = ("nightlatch", "nightlatch-dracut", "nightlatch-tools", "nightlatchd")
MAKE = ("dpkg-buildpackage", "--build=binary", "--no-check-builddeps", "--unsigned-changes", "--unsigned-buildinfo")
# What of these is in no package: pages for who changes the code, what others have copies of, what this is made by.
LEFT_OUT = ("units/debian/", "units/doc/internals.md", "units/man/boot.svg", "mkosi/demo/")


@dataclass(frozen=True)
class Surroundings:
    """What a build must not depend on."""

    # Where its copy of the tree is.
    place: str
    umask: int
    zone: str
    # Of what programs take for now; the kernel's stays, and with it the times of files that are written.
    clock: Sequence[str] = ()
    # What time the sources have, in seconds since 1970; now, where it is not given.
    times: int | None = None


HERE = Surroundings("a", 0o022, "UTC")
# A clock before the time of the last commit, and sources that are older, so that no time is right by being lowered.
ELSEWHERE = Surroundings(
    "another/deep er/place", 0o077, "Pacific/Auckland", ("faketime", "2021-02-03 04:05:06"), 1_577_836_800
)
# Nothing but what asks for the time is told another one.
CLOCK_ONLY = ("NO_FAKE_STAT=1", "FAKE_UTIME=0")


def time_of_commit() -> int:
    """When the tree was committed, in seconds since 1970."""
    command = ["git", "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout)


def archived() -> bytes:
    """The tree as git would have it, as tar writes it."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=PROJECT, check=True, capture_output=True).stdout
    there = b"\0".join(name for name in names.split(b"\0") if name and os.path.lexists(PROJECT / os.fsdecode(name)))
    command = ["tar", "--create", "--directory", str(PROJECT), "--null", "--files-from=-"]
    return subprocess.run(command, input=there, check=True, capture_output=True).stdout


def unpacked(archive: bytes, target: Path, surroundings: Surroundings) -> None:
    """Puts a copy of the tree into a directory, with the modes that the mask gives."""
    target.mkdir(parents=True)
    command = ["tar", "--extract", "--no-same-permissions", "--touch", "--directory", str(target)]
    subprocess.run(command, input=archive, check=True, umask=surroundings.umask)
    if surroundings.times is not None:
        for path in target.rglob("*"):
            os.utime(path, (surroundings.times, surroundings.times), follow_symlinks=False)


def made(archive: bytes, surroundings: Surroundings, work: Path) -> Path:
    """The directory with the packages that are made of a copy of the tree."""
    place = work / surroundings.place
    with tempfile.TemporaryDirectory(prefix="nightlatch-packages-") as directory:
        tree = Path(directory) / surroundings.place / "tree"
        unpacked(archive, tree, surroundings)
        words = [str(tree / "units/debian/build"), "--stage", str(place)]
        environment = {"SOURCE_DATE_EPOCH": str(time_of_commit()), "NIGHTLATCH_PROGRAMS": str(image.PROGRAMS)}
        masked = ["sh", "-c", f'umask {surroundings.umask:o}; exec "$@"', "sh"]
        debian_tree.said([*masked, *words], {**environment, "TZ": surroundings.zone})
        inside = f"/build/{surroundings.place}"
        maker = debian_tree.fresh(debian_tree.tools(), work / "maker", {place: inside})
        script = f'umask {surroundings.umask:o}; cd "$1/source"; shift; exec "$@"'
        clock = [*surroundings.clock, "env", f"TZ={surroundings.zone}", *CLOCK_ONLY]
        maker.run("sh", "-c", script, "sh", inside, *clock, *MAKE)
    return place


def older(newer: Path, work: Path) -> Path:
    """The directory with packages of the same files and of a version that comes before."""
    target = work / "older"
    debian_tree.emptied(target)
    for name, path in packages(newer).items():
        tree = target / name
        debian_tree.said(["dpkg-deb", "--raw-extract", str(path), str(tree)])
        control = tree / "DEBIAN/control"
        described = control.read_text(encoding="utf-8")
        [version] = [line.split()[1] for line in described.splitlines() if line.startswith("Version: ")]
        control.write_text(described.replace(version, f"{version}~before"), encoding="utf-8")
        debian_tree.said(["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), f"{target}/{name}.deb"])
        shutil.rmtree(tree)
    return target


def packages(directory: Path) -> dict[str, Path]:
    """The packages in a directory, by their names."""
    return {path.stem.split("_")[0]: path for path in sorted(directory.glob("*.deb"))}


def digests(directory: Path) -> dict[str, str]:
    """A digest of each package."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in packages(directory).items()}


def contents(package: Path) -> list[str]:
    """The files in a package, from the root."""
    listed = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], check=True, capture_output=True).stdout
    named = subprocess.run(["tar", "--list"], input=listed, check=True, capture_output=True).stdout.decode()
    return [name.removeprefix(".") for name in named.splitlines() if not name.endswith("/")]


def sources() -> Iterable[str]:
    """The files of the tree that a package has to have."""
    listed = ["git", "ls-files", "--", "units", "mkosi", "dracut"]
    names = subprocess.run(listed, cwd=PROJECT, check=True, capture_output=True, text=True).stdout.splitlines()
    return (name for name in names if not name.startswith(LEFT_OUT))


def missing(found: Mapping[str, Sequence[str]]) -> list[str]:
    """What of the tree is in no package, by its file's name: a manual may be compressed."""
    there = {Path(path).name.removesuffix(".gz") for paths in found.values() for path in paths}
    # debhelper names these by their package.
    there |= {"nightlatchd.sysusers"} if "nightlatchd.conf" in there else set()
    return [name for name in sources() if Path(name).name not in there]


def looked_at(outcome: Outcome, directory: Path, work: Path) -> None:
    """What can be said of packages that are not installed."""
    found = {name: contents(path) for name, path in packages(directory).items()}
    with outcome.case("packages::all_that_the_tree_installs_is_in_one_of_four"):
        equal(sorted(found), sorted(NAMES), "the packages")
        equal(missing(found), [], "files of the tree in no package")
        check(missing({**found, "nightlatch": []}), "a package without its files to be noticed", "nothing")
        every = [path for paths in found.values() for path in paths]
        equal(sorted(every), sorted(set(every)), "files that two packages have")
    with outcome.case("packages::the_device_of_the_tpm_is_taken_only_where_an_initrd_is_made"):
        rules = "/usr/lib/udev/rules.d/90-nightlatch-tpm.rules"
        equal([name for name in found if rules in found[name]], ["nightlatch-dracut"], rules)
    with outcome.case("packages::the_bill_of_materials_names_what_was_linked"):
        for name, crate in (("nightlatch", "zbus"), ("nightlatch-tools", "clap"), ("nightlatchd", "axum")):
            path = f"usr/share/doc/{name}/{name}.cdx.json"
            bill = json.loads(taken_out(packages(directory)[name], path))
            equal((bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.6"), path)
            parts = {part["name"] for part in bill["components"]}
            check(crate in parts, f"{crate} in {path}", sorted(parts))
            equal("axum" in parts, name == "nightlatchd", f"the server's crates in {path}")
            references = {part["bom-ref"] for part in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
            edges = {ref for one in bill["dependencies"] for ref in (one["ref"], *one["dependsOn"])}
            equal(edges - references, set(), "what is depended on and not described")
    with outcome.case("packages::lintian_finds_no_error"):
        # Errors that are none are named with their reasons in units/debian/*.lintian-overrides.
        tree = debian_tree.fresh(debian_tree.tools(), work / "maker", {directory: "/build"})
        said = tree.run("sh", "-c", "lintian --allow-root --fail-on error --tag-display-limit 0 /build/*.changes")
        for tag, count in Counter(line.split()[2] for line in said.splitlines() if line.startswith("W: ")).items():
            note(f"{count} warnings: {tag}")


def taken_out(package: Path, path: str) -> bytes:
    """The content of one file in a package."""
    archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], check=True, capture_output=True).stdout
    command = ["tar", "--extract", "--to-stdout", f"./{path}"]
    return subprocess.run(command, input=archive, check=True, capture_output=True).stdout


def main() -> int:
    """All of it."""
    outcome = Outcome()
    debian_tree.emptied(WORK)
    with outcome.case("packages::two_builds_of_one_tree_are_byte_equal_wherever_and_whenever"):
        archive = archived()
        first, second = made(archive, HERE, WORK), made(archive, ELSEWHERE, WORK)
        equal(digests(second), digests(first), "digests of the packages")
        for name, path in packages(first).items():
            note(f"{name}: {path.stat().st_size} bytes")
    if outcome.failed == 0:
        looked_at(outcome, first, WORK)
        packages_life.follow(outcome, older(first, WORK), first, WORK / "life")
    if outcome.failed == 0:
        lighten(WORK)
    print(outcome)
    return 0 if outcome.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
