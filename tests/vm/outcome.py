# SPDX-License-Identifier: Apache-2.0
"""Named checks that share machines: each prints its outcome, and one that fails stops no other."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class Outcome:
    """Counts what passed and what failed."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """One check: it fails when its body raises."""
        started = time.monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the others still run
            self.failed += 1
            print(f"test {name} ... FAILED{_took(started)}")
            if not isinstance(error, AssertionError):
                traceback.print_exc(file=sys.stdout)
            print("\n".join(f"    {line}" for line in str(error).splitlines()), flush=True)
        else:
            self.passed += 1
            print(f"test {name} ... ok{_took(started)}", flush=True)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed"


def _took(started: float) -> str:
    """The time since then, where it is worth a word."""
    seconds = time.monotonic() - started
    return f" ({seconds:.0f} s)" if seconds >= 1 else ""


def check(condition: object, expected: str, seen: object) -> None:
    """Raises with what was expected and what was seen instead, unless `condition`."""
    if not condition:
        raise AssertionError(f"expected {expected}; seen:\n{seen}")


def equal(seen: object, expected: object, what: str) -> None:
    """Raises unless the two are equal."""
    if seen != expected:
        raise AssertionError(f"{what}: expected {expected!r}, seen {seen!r}")
