# SPDX-License-Identifier: Apache-2.0
"""Debian's changelog, from CHANGELOG.md and the version in Cargo.toml.

    changelog.py TOP SECONDS

TOP is the top of the tree, SECONDS the time of the change, since 1970. A version that is not released gets that time behind
a tilde: a later build is an upgrade, and so is the release (Debian Policy, 5.6.12).
"""

from __future__ import annotations

import re
import sys
import textwrap
import tomllib
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

# A line of that file, and that words, such as options, are not taken apart.
WIDTH = 78
WHOLE = {"break_long_words": False, "break_on_hyphens": False}
# `## 0.1.0, not released`
HEADING = re.compile(r"^## (\S+?)(, not released)?$", re.MULTILINE)


def entry(top: Path, seconds: int) -> str:
    """The entry of the newest version, as deb-changelog(5) wants it."""
    version = tomllib.loads((top / "Cargo.toml").read_text(encoding="utf-8"))["package"]["version"]
    text = (top / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = list(HEADING.finditer(text))
    if not headings or headings[0][1] != version:
        raise ValueError(f"CHANGELOG.md begins with another version than {version}, which Cargo.toml has: make them one")
    end = headings[1].start() if len(headings) > 1 else len(text)
    time = datetime.fromtimestamp(seconds, UTC)
    if headings[0][2]:
        version, suite = f"{version}~{time:%Y%m%d%H%M%S}", "UNRELEASED"
    else:
        suite = "unstable"
    lines = [f"nightlatch ({version}) {suite}; urgency=medium", "", *changes(text[headings[0].end() : end]), ""]
    return "\n".join([*lines, f" -- {maintainer(top)}  {format_datetime(time)}", ""])


def changes(text: str) -> list[str]:
    """The items of a section of CHANGELOG.md, with their headings."""
    lines: list[str] = []
    item: list[str] = []
    # A heading at the end has the last item written.
    for line in [*text.splitlines(), "### "]:
        if line.startswith(("- ", "### ")):
            lines += textwrap.wrap(" ".join(item), WIDTH, initial_indent="  * ", subsequent_indent="    ", **WHOLE)
            item = []
        if line.startswith("### ") and line != "### ":
            lines.append(f"  [ {line.removeprefix('### ')} ]")
        elif line.startswith(("- ", "  ")):
            item.append(line.removeprefix("- ").strip())
    return lines


def maintainer(top: Path) -> str:
    """Who the packages are of, as their description says."""
    control = (top / "units/debian/control").read_text(encoding="utf-8")
    [name] = re.findall(r"^Maintainer: (.+)$", control, re.MULTILINE)
    return name


if __name__ == "__main__":
    sys.stdout.write(entry(Path(sys.argv[1]), int(sys.argv[2])))
