# SPDX-License-Identifier: Apache-2.0
"""What Rust's test programs print, as counts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

CASE = re.compile(r"^test (?P<name>\S+)(?: - should panic)? \.\.\. (?P<outcome>ok|FAILED|ignored)")
SUMMARY = re.compile(
    r"^test result: \S+ (?P<passed>\d+) passed; (?P<failed>\d+) failed; (?P<ignored>\d+) ignored"
)


@dataclass(frozen=True)
class Tally:
    """How many tests passed, failed and were left out."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def __str__(self) -> str:
        """The line people and the runner read."""
        return f"{self.passed} passed, {self.failed} failed"

    def strict(self) -> Tally:
        """A skipped test is a failed one, unless `ALLOW_SKIPS=1`."""
        if os.environ.get("ALLOW_SKIPS") == "1":
            return self
        return Tally(self.passed, self.failed + self.skipped)


def tally(lines: Sequence[str]) -> Tally | None:
    """The sum of all summaries; nothing where a test program did not get to its summary."""
    summaries = [match for match in map(SUMMARY.match, lines) if match]
    started = sum(1 for line in lines if re.match(r"^running \d+ tests?$", line))
    if not summaries or started != len(summaries):
        return None
    total = Tally()
    for summary in summaries:
        total += Tally(int(summary["passed"]), int(summary["failed"]), int(summary["ignored"]))
    return total


def seen(lines: Sequence[str]) -> Tally:
    """The cases whose outcome was printed, for a program that died before its summary."""
    outcomes = [match["outcome"] for match in map(CASE.match, lines) if match]
    return Tally(outcomes.count("ok"), outcomes.count("FAILED"), outcomes.count("ignored"))


def failures(lines: Sequence[str]) -> list[str]:
    """What was printed of the cases that failed: what is indented below them, and what a Rust program says at its end."""
    kept: list[str] = []
    below = summary = False
    for line in lines:
        case = CASE.match(line)
        summary = not SUMMARY.match(line) and (summary or line == "failures:")
        below = case["outcome"] == "FAILED" if case else below and line.startswith("    ")
        if below or summary:
            kept.append(line)
    return kept
