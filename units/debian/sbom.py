# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of one program, in CycloneDX 1.6, from what cargo says of the features that it is built with.

    sbom.py TOP PROGRAM VERSION [OPTION OF CARGO ...]

It has each crate that the program's library is compiled with, also where link-time optimisation leaves nothing of it; what only
builds or tests is left out. C libraries are dependencies of the package.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# What Debian's amd64 is to rustc.
TARGET = "x86_64-unknown-linux-gnu"
Node = Mapping[str, Any]


def metadata(top: Path, options: Sequence[str]) -> Node:
    """What cargo knows of the tree with these features, without asking a registry again."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={TARGET}", *options]
    ended = subprocess.run(command, cwd=top, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(ended.stdout))


def linked(nodes: Mapping[str, Node], root: str) -> dict[str, list[str]]:
    """Each crate that the root is made of, by its identity, with those that it names itself."""
    found: dict[str, list[str]] = {}
    left = [root]
    while left:
        name = left.pop()
        if name in found:
            continue
        # An ordinary dependency has no kind; there are `build` and `dev` besides.
        ordinary = [one["pkg"] for one in nodes[name]["deps"] if any(kind["kind"] is None for kind in one["dep_kinds"])]
        found[name] = sorted(ordinary)
        left += ordinary
    return found


def purl(crate: Node) -> str:
    """The crate's name for all programs: the type `cargo` of the package URL specification."""
    return f"pkg:cargo/{crate['name']}@{crate['version']}"


def component(crate: Node, digests: Mapping[tuple[str, str], str]) -> dict[str, object]:
    """A crate, with the licence that it names and the digest that Cargo.lock has."""
    described: dict[str, object] = {"type": "library", "bom-ref": purl(crate), "name": crate["name"]}
    described |= {"version": crate["version"], "purl": purl(crate)}
    if digest := digests.get((crate["name"], crate["version"])):
        described["hashes"] = [{"alg": "SHA-256", "content": digest}]
    if licence := crate["license"]:
        # Older crates separate alternatives by a slash, which SPDX does not know.
        described["licenses"] = [{"expression": licence.replace("/", " OR ").replace("  ", " ")}]
    return described


def bill(top: Path, program: str, version: str, options: Sequence[str]) -> dict[str, object]:
    """The whole document. It names no time and no number of its own, so that the same program has the same one."""
    known = metadata(top, options)
    root = known["resolve"]["root"]
    nodes = {node["id"]: node for node in known["resolve"]["nodes"]}
    crates = {crate["id"]: crate for crate in known["packages"]}
    lock = tomllib.loads((top / "Cargo.lock").read_text(encoding="utf-8"))
    digests = {(one["name"], one["version"]): one["checksum"] for one in lock["package"] if "checksum" in one}
    parts = linked(nodes, root)
    names = {one: purl(crates[one]) for one in parts} | {root: program}
    about = {"type": "application", "bom-ref": program, "name": program, "version": version}
    about["licenses"] = [{"expression": crates[root]["license"]}]
    about["properties"] = [{"name": "cargo:features", "value": " ".join(nodes[root]["features"])}]
    ordered = sorted(parts, key=lambda one: names[one])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": about},
        "components": [component(crates[one], digests) for one in ordered if one != root],
        "dependencies": [{"ref": names[one], "dependsOn": sorted(names[part] for part in parts[one])} for one in ordered],
    }


if __name__ == "__main__":
    json.dump(bill(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]), sys.stdout, indent=1)
    print()
