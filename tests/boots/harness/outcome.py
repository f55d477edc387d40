# SPDX-License-Identifier: Apache-2.0
"""Named checks that share machines: each prints its outcome, and one that fails stops no other.

Several threads may run checks at once; what belongs to one check is printed together.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What is kept of a run that passed: logs, what machines reported, and whatever is small; not disks and images.
KEPT = (".log", "port-")
KEPT_BYTES_AT_MOST = 2 << 20
_here = threading.local()


class Outcome:
    """Counts what passed and what failed."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self._lock = threading.Lock()

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """One check: it fails when its body raises. Checks do not nest."""
        started = time.monotonic()
        _here.notes = []
        failure: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the others still run
            failure = error
        with self._lock:
            self.passed += failure is None
            self.failed += failure is not None
            word = "ok" if failure is None else "FAILED"
            lines = [f"test {name} ... {word}{_took(started)}", *map(_indented, _here.notes)]
            if failure and not isinstance(failure, AssertionError):
                lines.append(_indented("".join(traceback.format_exception(failure))))
            elif failure:
                lines.append(_indented(str(failure)))
            print("\n".join(lines), flush=True)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed"


def lighten(directory: Path) -> None:
    """Removes what is large in the directory of a run that passed: together they would fill a disk."""
    for path in directory.rglob("*"):
        is_kept = path.is_symlink() or not path.is_file() or any(part in path.name for part in KEPT)
        if not is_kept and path.stat().st_size > KEPT_BYTES_AT_MOST:
            path.unlink(missing_ok=True)


def note(text: str) -> None:
    """Something worth reading about the check that runs."""
    _here.notes.append(text)


def check(condition: object, expected: str, seen: object) -> None:
    """Raises with what was expected and what was seen instead, unless `condition`."""
    if not condition:
        raise AssertionError(f"expected {expected}; seen:\n{seen}")


def equal(seen: object, expected: object, what: str) -> None:
    """Raises unless the two are equal."""
    if seen != expected:
        raise AssertionError(f"{what}: expected {expected!r}, seen {seen!r}")


def _took(started: float) -> str:
    """The time since then, where it is worth a word."""
    seconds = time.monotonic() - started
    return f" ({seconds:.0f} s)" if seconds >= 1 else ""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
