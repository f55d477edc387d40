# SPDX-License-Identifier: Apache-2.0
"""How many machines run at once, over all layers and threads: one for each processor.

A machine without hardware to run on keeps a processor busy for as long as it lives. More of them at once end no sooner,
and each of them later than its time limits allow. `NIGHTLATCH_MACHINES` is another number.

A place is a lock on a file, so one whose holder died is free.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PLACES = Path(__file__).resolve().parent.parent.parent / ".cache" / "slots"
POLL_SECONDS = 0.2


def count() -> int:
    """How many there are."""
    return int(os.environ.get("NIGHTLATCH_MACHINES") or os.cpu_count() or 1)


def take() -> IO[bytes]:
    """Waits for a place; it is held until what is returned is closed."""
    while True:
        for number in range(count()):
            if held := _tried(number):
                return held
        time.sleep(POLL_SECONDS)


@contextmanager
def all_taken() -> Iterator[None]:
    """No machine starts meanwhile."""
    held: list[IO[bytes]] = []
    try:
        while len(held) < count():
            held.append(take())
        yield
    finally:
        for place in held:
            place.close()


def _tried(number: int) -> IO[bytes] | None:
    PLACES.mkdir(parents=True, exist_ok=True)
    # Opened anew for each: a lock belongs to what was opened, not to who opened it. Not inherited by what we start.
    place = (PLACES / str(number)).open("ab")
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        place.close()
        return None
    return place
