# SPDX-License-Identifier: Apache-2.0
"""Layer 3: whole boots of real images, across several boots with the same disks and TPM.

    chain.py [SCENARIO...]

Without arguments every scenario runs. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import accel
import boots.dracut
import boots.enrolment
import boots.firmware
import boots.power
import boots.refusals
import boots.secrets
import boots.service
import image
import keyservice
from outcome import Outcome

WORK = image.CACHE.parent / "chain"
Scenario = Callable[[Outcome, image.Image, Path], None]
# The longest first.
SCENARIOS: dict[str, Scenario] = {
    "refusals": boots.refusals.run,
    "service": boots.service.run,
    "service-enrolment": boots.enrolment.run,
    "power": boots.power.run,
    "firmware": boots.firmware.run,
    "secrets": boots.secrets.run,
    "dracut": boots.dracut.run,
}
# More would only wait for each other, and for the machines of other layers: see slots.py.
AT_ONCE = 2


def main(filters: list[str]) -> int:
    """Runs the scenarios with one of the filters in their name."""
    chosen = [n for n in SCENARIOS if not filters or any(f in n for f in filters)]
    if not chosen:
        print(f"no scenario is called that; there are: {', '.join(SCENARIOS)}")
        return 2
    print(f"machines run under {accel.name()}; their logs stay in {WORK}", flush=True)
    outcome = Outcome()
    images: dict[str, image.Image] = {}
    with outcome.case("images::they_are_built"):
        image.programs(print)
        images["demo"] = image.demo(print)
        if "dracut" in chosen:
            images["dracut"] = image.dracut(print)
        if "service" in chosen:
            images["service"] = keyservice.service_image(images["demo"], print)
        if "service-enrolment" in chosen:
            images["service-enrolment"] = keyservice.enrolling_image(images["demo"], print)

    def run(name: str) -> None:
        started = time.monotonic()
        used = images.get(name, images["demo"])
        # Counted as well, so that a scenario that ends early shows.
        failed = False
        try:
            SCENARIOS[name](outcome, used, WORK / name)
        except Exception as error:  # noqa: BLE001 - it is raised again, where it is counted
            failed = True
            with outcome.case(f"{name}::runs_to_its_end"):
                raise error
        seconds = time.monotonic() - started
        print(f"scenario {name}: {'cut short, ' if failed else ''}{seconds:.0f} s", flush=True)

    if outcome.failed == 0:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(run, chosen))
    print(outcome)
    return 0 if outcome.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
