# SPDX-License-Identifier: Apache-2.0
"""How long a run may take, and what of the rest there is still time for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from calibration import QUIET_AT_MOST
from jobs import Ended, Job

# All of `.ci/run` on two quiet processors, building included.
# To be 25 minutes: building from nothing and the core take some 22, and a slice 15 more, with five files of layer 2 that are new.
QUIET_SECONDS = 40 * 60
# On a slow machine no scenario of the rest is begun that would end after this: a run may take an hour at the very worst.
SLOW_SECONDS = 55 * 60
# After this everything is ended, so that what hung is named: nobody waits much longer for a run.
OVER_SECONDS = 82 * 60
# What has to be free on the disk for a scenario of the rest to begin: the largest of them writes half of it.
ROOM_BYTES = 1 << 30
# What a run from an empty cache writes, as measured.
RUN_BYTES = 8 << 30


def allowed_seconds(figure: float) -> float:
    """What a run may take on a machine with this figure of calibration.py."""
    return min(QUIET_SECONDS * max(1.0, figure), SLOW_SECONDS)


@dataclass
class Budget:
    """The time of one run."""

    # When it began, as time.monotonic() has it; what it has to run of the rest, and what each takes on a quiet machine.
    started: float
    due: Mapping[str, float]
    figure: Callable[[], float]
    now: Callable[[], float] = time.monotonic
    # What is free on the disk, in bytes.
    free: Callable[[], int] = lambda: ROOM_BYTES
    # What there was no room for.
    without_room: set[str] = field(default_factory=set)

    def objection(self, job: Job) -> str | None:
        """Why a job is not to begin any more: it is due, and would end too late or fill the disk."""
        if job.name not in self.due:
            return None
        if (free := self.free()) < ROOM_BYTES:
            self.without_room.add(job.name)
            return f"not run: {free >> 20} MiB are free on the disk, and it takes {ROOM_BYTES >> 20}"
        figure = self.figure()
        ends = self.now() - self.started + self.due[job.name] * max(1.0, figure)
        allowed = allowed_seconds(figure)
        if ends <= allowed:
            return None
        return f"not run: it would end after {ends / 60:.0f} of {allowed / 60:.0f} minutes"

    def is_quiet(self) -> bool:
        """Whether this machine has to keep the time."""
        return self.figure() <= QUIET_AT_MOST

    def left(self, ended: Sequence[Ended]) -> list[str]:
        """What there was no time for."""
        return [
            one.name
            for one in ended
            if one.name in self.due and not one.ran and not one.failed and one.name not in self.without_room
        ]

    def is_over(self) -> bool:
        """Whether the run has taken all the time there can be."""
        return self.now() - self.started > OVER_SECONDS
