# SPDX-License-Identifier: Apache-2.0
"""Layer 3: a whole boot of a real image, or several with the same disks and TPM.

    chain.py SCENARIO

SCENARIO is a module of tests/boots; its image has to be there, see builds.py. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import accel
import builds
import image
import uki
from outcome import Outcome, lighten

WORK = image.CACHE.parent / "chain"


def demo() -> image.Image:
    """The demo image."""
    return image.demo(builds.say)


# The others boot the demo image.
IMAGES: dict[str, Callable[[], image.Image | None]] = {
    "dracut": lambda: image.dracut(builds.say),
    "enrolment": lambda: uki.beside(demo(), "enrolling"),
    "recovery": lambda: uki.beside(demo(), "recovering"),
    "owners": lambda: uki.beside(demo(), "service"),
    "updates": lambda: uki.beside(demo(), "service"),
    "service": lambda: uki.beside(demo(), "service"),
    # It builds its own.
    "template": lambda: None,
}


def main(name: str) -> int:
    """Runs the scenario."""
    print(f"machines run under {accel.name()}; their logs stay in {WORK / name}", flush=True)
    run = importlib.import_module(f"boots.{name}").run
    used = IMAGES.get(name, demo)()
    outcome = Outcome()
    # Counted as well, so that a scenario that ends early shows.
    try:
        run(outcome, used, WORK / name)
    except Exception as error:  # noqa: BLE001 - it is raised again, where it is counted
        with outcome.case(f"{name}::runs_to_its_end"):
            raise error
    if outcome.failed == 0:
        lighten(WORK / name)
    print(outcome)
    return 0 if outcome.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
