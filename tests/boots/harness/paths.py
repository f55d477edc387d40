# SPDX-License-Identifier: Apache-2.0
"""Which files of the tree a scenario depends on: what its programs import, and what goes into its machines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent.parent
HARNESS = "tests/boots/harness"
MACHINE = "tests/machine"
# The crate without what only its own tests are made of.
CRATE = ("Cargo.toml", "Cargo.lock", "src", "-src/*/tests/*", "-src/*/tests.rs")
# Of the crate, what no program on a node has in it.
NO_SERVICE = ("-src/keyservice", "-src/keyservice.rs", "-src/bin/nightlatchd.rs")
# What test programs share, but for what starts our programs as processes.
SUPPORT = ("tests/support", "-tests/support/programs")
# What images are made of.
IMAGE = ("dracut", "mkosi", "units", "-units/man", "-units/debian")
# What runs in the machines of layer 2.
GUEST = (f"{HARNESS}/guest",)
# Which module a case or a helper names.
USED = re.compile(r"\b(?:crate|super)::(?:\{([^}]*)\}|(\w+))")


@cache
def imported(entry: str) -> tuple[str, ...]:
    """A program of the harness and all of ours that it imports, by their paths."""
    found: set[str] = set()
    left = [entry]
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"), path)
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            left += [place for name in names if (place := _place(name))]
    return tuple(sorted(found))


def _place(module: str) -> str | None:
    """Where a module of ours is."""
    below = "tests" if module.startswith("boots.") else HARNESS
    path = f"{below}/{module.replace('.', '/')}.py"
    return path if (PROJECT / path).exists() else None


def case_files() -> list[str]:
    """The files of cases, by their names: those in which there is a test."""
    files = sorted((PROJECT / MACHINE).glob("*.rs"))
    return [path.stem for path in files if "#[test]" in path.read_text(encoding="utf-8")]


def cases_of(file: str) -> list[str]:
    """The names of the cases in a file."""
    text = (PROJECT / MACHINE / f"{file}.rs").read_text(encoding="utf-8")
    tests = re.findall(r"#\[test\]\n(?:#\[[^\n]*\n)*fn (\w+)\(", text)
    return [f"{file}::{name}" for name in tests]


def modules_of(files: Iterable[str]) -> list[str]:
    """The sources of these files of cases and of all they use."""
    found: set[str] = set()
    left = list(files)
    while left:
        name = left.pop()
        path = PROJECT / MACHINE / f"{name}.rs"
        if name in found or not path.exists():
            continue
        found.add(name)
        for match in USED.finditer(path.read_text(encoding="utf-8")):
            left += re.findall(r"\w+", match[1] or match[2])
    sources = [f"{MACHINE}/{name}" for name in sorted(found)]
    listed = [f"{source}.rs" for source in sources]
    return [*listed, *(source for source in sources if (PROJECT / source).is_dir())]


def of_cases(files: Iterable[str], service: bool) -> tuple[str, ...]:
    """What a machine of layer 2 depends on."""
    crate = (*CRATE, *(() if service else NO_SERVICE))
    return (*crate, *SUPPORT, *imported(f"{HARNESS}/cases.py"), *GUEST, *modules_of(files))


def of_boots(scenario: str, service: bool) -> tuple[str, ...]:
    """What whole boots depend on."""
    crate = (*CRATE, *(() if service else NO_SERVICE))
    harness = {*imported(f"{HARNESS}/chain.py"), *imported(f"tests/boots/{scenario}.py")}
    return (*crate, *IMAGE, *sorted(harness))


def of_kms() -> tuple[str, ...]:
    """What the build with every KMS depends on: of the crate, the service and what it speaks with."""
    rooms = ("keyservice", "https", "key", "protocol")
    crate = [place for room in rooms for place in (f"src/{room}.rs", f"src/{room}")]
    examples = ("units/examples/openbao-nightlatchd.hcl", "units/examples/openbao-nightlatchd-init.hcl")
    own = ("tests/kms", *examples, *imported(f"{HARNESS}/openbao.py"))
    return ("Cargo.toml", "Cargo.lock", *crate, *SUPPORT, *own)


def of_packages() -> tuple[str, ...]:
    """What the packages depend on: of the tree's documents those that are in one."""
    harness = (*imported(f"{HARNESS}/packages.py"), f"{HARNESS}/enter-tree")
    return (*CRATE, "README.md", "CHANGELOG.md", "dracut", "mkosi", "-mkosi/demo", "units", *harness)


def of_docs() -> tuple[str, ...]:
    """What the texts' own blocks depend on: the texts, the packages, and what a KMS is spoken with by."""
    harness = sorted({*imported(f"{HARNESS}/docs.py"), f"{HARNESS}/enter-tree"})
    return (*CRATE, "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "dracut", "mkosi", "-mkosi/demo", "units", *harness)
