# SPDX-License-Identifier: Apache-2.0
"""Where the time of the last run went: `tests/run --profile`.

Of each job what the clock says, what the processors say, and how long its machines ran. Of each boot that came up: until the
kernel began (QEMU, firmware, loader), until PID 1, the initrd and how much of it was nightlatch, the system up to its report,
and the shutdown. Of each case of layer 2 what it took. And how often cargo compiled the crate.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import LOGS, Ended
from machine import RESULT_PORT, TIMES

# What a run leaves for this program, beside its jobs' lines.
LAST = "last.json"
CASE = re.compile(r"^ *[\d.]+ +(?P<at>\d+\.\d)s  test (?P<name>\S+) \.\.\. ")
BOOTED = re.compile(r"^ *[\d.]+ booting one machine ")
CRATE = re.compile(r"^ *[\d.]+ +(Compiling|Checking|Documenting) nightlatch v")
SLOWEST = 12


@dataclass(frozen=True)
class Phases:
    """Of one boot, in seconds."""

    firmware: float
    kernel: float
    initrd: float
    nightlatch: float
    system: float
    shutdown: float

    def __str__(self) -> str:
        return (
            f"{self.firmware:8.1f} {self.kernel:8.1f} {self.initrd:8.1f} {self.nightlatch:10.1f} "
            f"{self.system:8.1f} {self.shutdown:8.1f}"
        )


def keep(work: Path, began: float, ended: Iterable[Ended]) -> None:
    """What `shown` needs of a run that began then."""
    jobs = {one.name: (one.seconds, one.spent_seconds) for one in ended if one.ran}
    text = json.dumps({"began": began, "jobs": jobs})
    (work / LAST).write_text(text, encoding="utf-8")


def phases(verdict: dict[str, Any], began: float, reported: float, ended: float) -> Phases | None:
    """Of a boot that came up, from its report and from when the machine began, the report came and the machine ended."""
    times = verdict.get("times_us")
    if not times:
        return None
    initrd, system, done = (
        times[f"{name}TimestampMonotonic"] / 1e6 for name in ("InitRD", "Userspace", "Finish")
    )
    status = verdict.get("status") or {}
    steps = [step["end_us"] for step in status.get("steps", [])]
    return Phases(
        firmware=max(0.0, reported - began - done),
        kernel=initrd,
        initrd=system - initrd,
        nightlatch=max(steps, default=0) / 1e6,
        system=done - system,
        shutdown=ended - reported,
    )


def boot(directory: Path) -> Phases | None:
    """Of the machine that ran in this directory."""
    port = directory / f"port-{RESULT_PORT}"
    began, ended = map(float, (directory / TIMES).read_text(encoding="ascii").split())
    for line in port.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{") and '"kind"' in line:
            return phases(json.loads(line), began, port.stat().st_mtime, ended)
    return None


def cases(log: Sequence[str]) -> dict[str, float]:
    """What each case of a machine of layer 2 took, and `(boot)` until the first began, from the lines of its job.

    A case's line comes when it ends, and they run one after the other, so each took what lies between two lines; the first
    one's is in the boot.
    """
    took: dict[str, float] = {}
    before: float | None = None
    for match in filter(None, map(CASE.match, log)):
        at = float(match["at"])
        took["(boot, and the first)" if before is None else match["name"]] = at - (before or 0.0)
        before = at
    return took


def compiled(log: Iterable[str]) -> Counter[str]:
    """How often cargo began with the crate, by what it did."""
    return Counter(match[1] for match in map(CRATE.match, log) if match)


def machines(cache: Path, began: float) -> dict[Path, float]:
    """The directories of the machines of a run that began then, and how long each ran."""
    found = {}
    for path in sorted(cache.rglob(TIMES)):
        start, end = map(float, path.read_text(encoding="ascii").split())
        if start >= began:
            found[path.parent] = end - start
    return found


def shown(work: Path) -> str:
    """The profile of the run whose place is `work`."""
    kept = json.loads((work / LAST).read_text(encoding="utf-8"))
    logs = {
        name: (work / LOGS / f"{name.replace('/', '.')}.log").read_text(encoding="utf-8").splitlines()
        for name in kept["jobs"]
    }
    rows = [f"{'job':24} {'clock':>8} {'processors':>10}   cargo on the crate"]
    for name, (seconds, spent) in sorted(kept["jobs"].items(), key=lambda job: -job[1][0]):
        often = ", ".join(f"{word.lower()} {number}" for word, number in compiled(logs[name]).items())
        rows.append(f"{name:24} {seconds:8.1f} {spent:10.1f}   {often}")
    rows += ["", f"{'boot':40} {'firmware':>8} {'kernel':>8} {'initrd':>8} nightlatch {'system':>8} shutdown"]
    for directory, seconds in machines(work.parent, kept["began"]).items():
        name = str(directory.relative_to(work.parent))
        known = boot(directory)
        rows.append(f"{name:40} {known}" if known else f"{name:40} {seconds:8.1f} in all")
    took = Counter({case: s for log in logs.values() for case, s in cases(log).items()})
    rows += ["", "the slowest cases of layer 2"]
    rows += [f"{seconds:8.1f} {case}" for case, seconds in took.most_common(SLOWEST)]
    return "\n".join(rows)
