# SPDX-License-Identifier: Apache-2.0
"""What an initrd gets because of us, in bytes."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from root import Root

# As dracut and mkosi can be told to, and close to what they do anyway.
COMPRESSION = ["zstd", "-19", "--quiet", "--stdout"]


@dataclass(frozen=True)
class Sizes:
    """The program and its libraries, and what mkfs adds where volumes are formatted."""

    program: int
    libraries: dict[str, int]
    # The program and the libraries as a compressed archive.
    added: int
    mkfs: dict[str, int]
    # Those too.
    added_with_mkfs: int


def measure(work: Path, system: Root, program: Path, records: list[dict[str, Any]]) -> Sizes:
    """Takes the files the machine named out of its image and compresses them."""
    [files] = [record for record in records if record["kind"] == "files"]
    named = files["libraries"] + files["mkfs"]
    work.mkdir(parents=True)
    tree = work / "tree"
    command = ["unsquashfs", "-quiet", "-no-progress", "-no-xattrs", "-dest", str(tree)]
    command += [str(system.image), *(name.lstrip("/") for name in named)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    target = tree / "usr/lib/nightlatch/nightlatch"
    target.parent.mkdir(parents=True)
    shutil.copy2(program, target)

    def lengths(names: list[str]) -> dict[str, int]:
        return {Path(n).name: (tree / n.lstrip("/")).stat().st_size for n in names}

    with_libraries = [str(target.relative_to(tree))]
    with_libraries += [name.lstrip("/") for name in files["libraries"]]
    everything = with_libraries + [name.lstrip("/") for name in files["mkfs"]]
    return Sizes(
        target.stat().st_size,
        lengths(files["libraries"]),
        compressed(tree, with_libraries),
        lengths(files["mkfs"]),
        compressed(tree, everything),
    )


def compressed(tree: Path, names: list[str]) -> int:
    """The length of an initrd archive with these files."""
    command = ["cpio", "--quiet", "--create", "--format=newc", "--owner=+0:+0"]
    archive = subprocess.run(
        command, cwd=tree, input="\n".join(names).encode(), stdout=subprocess.PIPE, check=True
    )
    ended = subprocess.run(COMPRESSION, input=archive.stdout, stdout=subprocess.PIPE, check=True)
    return len(ended.stdout)
