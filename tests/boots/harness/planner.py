# SPDX-License-Identifier: Apache-2.0
"""What a run takes of the scenarios that not every run can take: pure functions over the table of when each last passed.

The table, `tests/scenarios.tsv`, has a line for each scenario: its name, the paths it depends on, the digest of what they
held when it last passed, the number of that landing, and the seconds it took on a quiet machine. A landing's number is
one more than the highest before it.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# So many landings run everything: a number that lies further behind the highest fails tests/it/scenarios.rs, which reads
# this line.
SLICES_AT_MOST = 10
# How long a slice is, in seconds on two quiet processors: what a run has left beside building, lints and the core, and
# ten of them are everything.
SLICE_SECONDS = 470
# What a scenario takes of which nothing is known yet.
UNKNOWN_SECONDS = 120.0
TABLE = "tests/scenarios.tsv"
HEAD = (
    "# A line for each scenario: name, paths, digest of what they held, landing, seconds. Written by tests/run,\n"
    "# read by tests/boots/harness/planner.py; tests/README.md says how.\n"
)


@dataclass(frozen=True)
class Line:
    """When a scenario last passed to its end."""

    name: str
    paths: tuple[str, ...]
    digest: str
    landing: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}\t{' '.join(self.paths)}\t{self.digest}\t{self.landing}\t{self.seconds:.0f}"


Table = Mapping[str, Line]


def parsed(text: str) -> dict[str, Line]:
    """The lines of a table, by name."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match line.split("\t"):
            case [name, paths, digest, landing, seconds] if landing.isdigit():
                found[name] = Line(name, tuple(paths.split()), digest, int(landing), float(seconds))
            case _:
                raise ValueError(f"{TABLE}:{number}: expected five columns, the fourth a number")
    return found


def written(table: Table) -> str:
    """A table as text, in the order of the names, so that changes are small and merge."""
    return HEAD + "".join(f"{table[name]}\n" for name in sorted(table))


def highest(table: Table) -> int:
    """The number of the last landing in the table."""
    return max((line.landing for line in table.values()), default=0)


def belongs(path: str, paths: Iterable[str]) -> bool:
    """Whether a file is among `paths`: files, directories and patterns, those with a `-` in front taken out again."""
    places = {".", path}
    at = path.rfind("/")
    while at > 0:
        places.add(path[:at])
        at = path.rfind("/", 0, at)
    inside = False
    for entry in paths:
        wanted = entry.removeprefix("-")
        if wanted in places or ("*" in wanted and fnmatch.fnmatchcase(path, wanted)):
            if wanted != entry:
                return False
            inside = True
    return inside and path != TABLE


def digest(listing: Sequence[str], paths: Sequence[str]) -> str:
    """Over the lines of `git ls-files -s` for files among `paths`: neither history nor the name of a commit is in it."""
    total = hashlib.sha256()
    for line in listing:
        described, _, path = line.partition("\t")
        if belongs(path, paths):
            total.update(f"{described}\t{path}\n".encode())
    return total.hexdigest()[:16]


@dataclass(frozen=True)
class Due:
    """A scenario of the rest, and what is known of it today."""

    name: str
    # Of what its paths hold now.
    digest: str
    # In seconds of one quiet processor.
    seconds: float
    line: Line | None

    @property
    def changed(self) -> bool:
        """Whether what it depends on is not what it last passed with."""
        return self.line is None or self.line.digest != self.digest

    @property
    def landing(self) -> int:
        """When it last passed."""
        return self.line.landing if self.line else 0


def due(name: str, digest_now: str, table: Table) -> Due:
    """What the table says of a scenario."""
    line = table.get(name)
    return Due(name, digest_now, line.seconds if line else UNKNOWN_SECONDS, line)


def order(scenarios: Sequence[Due], table: Table, tree: str = "") -> list[Due]:
    """Which comes first: what would lie too far behind otherwise, then what is changed, then the longest not run.

    Among equals the longest; or, given the digest of a tree, in a circle that begins at a place drawn from that.
    """
    begin = int(tree, 16) % max(1, len(scenarios)) if tree else 0
    named = sorted(scenarios, key=lambda one: one.name)
    place = {one.name: (number - begin) % len(named) for number, one in enumerate(named)}

    def key(one: Due) -> tuple[bool, bool, int, float]:
        equal = place[one.name] if tree else -one.seconds
        return (not overdue(one, table), not one.changed, one.landing, equal)

    return sorted(named, key=key)


def starting(portion: Sequence[Due], table: Table) -> list[Due]:
    """The order in which a portion starts: what would lie too far behind, then the longest, so that nothing long is begun
    last."""
    return sorted(portion, key=lambda one: (not overdue(one, table), -one.seconds, one.name))


def overdue(one: Due, table: Table) -> bool:
    """Whether a scenario would lie too far behind after another landing without it."""
    return one.line is not None and highest(table) + 1 - one.landing >= SLICES_AT_MOST


def slices(ordered: Sequence[Due], seconds: float = 2 * SLICE_SECONDS) -> list[list[Due]]:
    """The scenarios in portions of so many processor seconds. The first of what is left is always in the next one."""
    left = list(ordered)
    portions: list[list[Due]] = []
    while left:
        room = seconds
        portion: list[Due] = []
        for one in left:
            if not portion or one.seconds <= room:
                portion.append(one)
                room -= one.seconds
        left = [one for one in left if one not in portion]
        portions.append(portion)
    return portions


def behind(table: Table) -> list[str]:
    """The scenarios that so many landings should have run and have not."""
    top = highest(table)
    return [name for name, line in sorted(table.items()) if top - line.landing > SLICES_AT_MOST]


def with_passed(table: Table, passed: Iterable[Line], known: Iterable[str]) -> dict[str, Line]:
    """The table after a run: lines of what passed are new, those of what is no more are gone."""
    names = set(known)
    after = {line.name: line for line in (*table.values(), *passed)}
    return {name: line for name, line in after.items() if name in names}
