# SPDX-License-Identifier: Apache-2.0
"""How long a run may take, and what of the rest there is still time for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from calibration import QUIET_AT_MOST
from jobs import Ended, Job

# All of `.ci/run` on two quiet processors, building included.
# To be 25 minutes: building from nothing and the core take some 20, which leaves a slice too little.
QUIET_SECONDS = 35 * 60
# On a slow machine no scenario of the rest is begun that would end after this: a run may take an hour at the very worst.
SLOW_SECONDS = 55 * 60


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

    def objection(self, job: Job) -> str | None:
        """Why a job is not to begin any more: it is due and would end too late."""
        if job.name not in self.due:
            return None
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
        return [one.name for one in ended if one.name in self.due and not one.ran and not one.failed]
