# SPDX-License-Identifier: Apache-2.0
"""What the files of the tree are now, and the table of scenarios as it was committed and as it lies there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import planner
from paths import PROJECT


def listing() -> list[str]:
    """`git ls-files -s`, as it will be once everything there is has been added."""
    with tempfile.TemporaryDirectory(prefix="nightlatch-index-") as directory:
        index = Path(directory) / "index"
        ours = Path(_git("rev-parse", "--git-path", "index").strip())
        if (PROJECT / ours).exists():
            shutil.copyfile(PROJECT / ours, index)
        environment = {**os.environ, "GIT_INDEX_FILE": str(index)}
        _git("add", "--all", environment=environment)
        return _git("ls-files", "-s", environment=environment).splitlines()


def committed() -> dict[str, planner.Line]:
    """The table of the last commit; an empty one where that has none."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:{planner.TABLE}"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    return planner.parsed(shown.stdout) if shown.returncode == 0 else {}


def kept() -> dict[str, planner.Line]:
    """The table that lies there."""
    path = PROJECT / planner.TABLE
    return planner.parsed(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(table: planner.Table) -> None:
    """Puts a table in its place."""
    path = PROJECT / planner.TABLE
    unfinished = path.with_suffix(".new")
    unfinished.write_text(planner.written(table), encoding="utf-8")
    unfinished.rename(path)


def _git(*words: str, environment: Mapping[str, str] | None = None) -> str:
    command = ["git", *words]
    return subprocess.run(
        command, cwd=PROJECT, check=True, capture_output=True, text=True, env=environment
    ).stdout
