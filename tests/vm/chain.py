# SPDX-License-Identifier: Apache-2.0
"""Layer 3: whole boots of real images, across several boots with the same disks and TPM.

    chain.py [SCENARIO...]

Without arguments every scenario runs. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import accel
import chain_dracut
import chain_firmware
import chain_power
import chain_refusals
import chain_secrets
import image
from outcome import Outcome

WORK = image.CACHE.parent / "chain"
Scenario = Callable[[Outcome, Path], None]
SCENARIOS: dict[str, Scenario] = {
    "firmware": chain_firmware.run,
    "refusals": chain_refusals.run,
    "secrets": chain_secrets.run,
    "power": chain_power.run,
    "dracut": chain_dracut.run,
}


def main(filters: list[str]) -> int:
    """Runs the scenarios with one of the filters in their name."""
    chosen = [n for n in SCENARIOS if not filters or any(f in n for f in filters)]
    outcome = Outcome()
    if chosen:
        print(f"machines run under {accel.name()}; their logs stay in {WORK}", flush=True)
        with outcome.case("images_are_built"):
            image.programs(print)
            image.demo(print)
    for name in chosen:
        started = time.monotonic()
        print(f"scenario {name}: {str(SCENARIOS[name].__doc__).splitlines()[0]}", flush=True)
        with outcome.case(f"{name}::runs_to_its_end"):
            SCENARIOS[name](outcome, WORK / name)
        print(f"scenario {name}: {time.monotonic() - started:.0f} s", flush=True)
    print(outcome)
    return 0 if chosen and outcome.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
