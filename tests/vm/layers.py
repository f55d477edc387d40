# SPDX-License-Identifier: Apache-2.0
"""Runs the layers of tests and adds them up.

    run [--layer NAME] [FILTER...]

The last line is `N passed, N failed`, over all layers. A layer that did not run is a failure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import accel
from libtest import Tally, seen, tally

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent


def unprivileged(filters: list[str]) -> Tally:
    """Layer 1: everything that needs neither root nor a machine."""
    lines: list[str] = []
    command = ["cargo", "test", "--locked", "--no-fail-fast", "--", *filters]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as cargo:
        assert cargo.stdout is not None
        for line in cargo.stdout:
            lines.append(line.rstrip())
            if line.strip() and not line.rstrip().endswith("... ok"):
                print(line, end="")
    total = tally(lines)
    if total is None:
        return seen(lines).strict() + Tally(failed=1)
    if cargo.returncode != 0 and total.failed == 0:
        total += Tally(failed=1)
    return total.strict()


def harness(filters: list[str]) -> Tally:
    """Layer harness: machines that come to a bad end."""
    return counted([sys.executable, str(HERE / "harness_test.py"), *filters])


def cases(filters: list[str]) -> Tally:
    """Layer 2: many cases in one machine."""
    return counted([sys.executable, str(HERE / "cases.py"), *filters])


def kills(filters: list[str]) -> Tally:
    """Layer kills: machines whose power goes at random instants."""
    if filters:
        print("layer kills is one chain of events: it takes no filter")
        return Tally(failed=1)
    return counted([sys.executable, str(HERE / "kills.py")])


def chain(filters: list[str]) -> Tally:
    """Layer 3: whole boots."""
    return counted([sys.executable, str(HERE / "chain.py"), *filters])


LAYERS: dict[str, Callable[[list[str]], Tally]] = {
    "1": unprivileged,
    "harness": harness,
    "2": cases,
    "kills": kills,
    "3": chain,
}


def counted(command: list[str]) -> Tally:
    """Runs a program whose last line is `N passed, N failed`; without one it has failed."""
    last = ""
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for line in program.stdout:
            last = line.strip() or last
            print(line, end="", flush=True)
    match last.split():
        case [passed, "passed,", failed, "failed"] if passed.isdigit() and failed.isdigit():
            total = Tally(int(passed), int(failed))
        case _:
            print(f"{command[1]}: ended with {program.returncode} and without a result")
            return Tally(failed=1)
    if program.returncode != 0 and total.failed == 0:
        print(f"{command[1]}: ended with {program.returncode}, but says that nothing failed")
        total += Tally(failed=1)
    return total


def main() -> int:
    """Runs the layers asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="run", description=__doc__.splitlines()[0])
    parser.add_argument("--layer", choices=LAYERS, help="run only this one")
    parser.add_argument("filter", nargs="*", help="with --layer: only tests with it in their name")
    options = parser.parse_args()
    if options.filter and not options.layer:
        parser.error("a filter needs --layer")
    # Probed once, here, and not by each of the programs below.
    os.environ.setdefault("NIGHTLATCH_ACCEL", accel.name())
    total, table = Tally(), []
    for name in [options.layer] if options.layer else LAYERS:
        print(f"== {LAYERS[name].__doc__}", flush=True)
        started = time.monotonic()
        result = LAYERS[name](options.filter)
        if result == Tally():
            print(f"layer {name}: nothing ran")
            result = Tally(failed=1)
        table.append(f"layer {name:8} {result!s:26} {time.monotonic() - started:6.0f} s")
        total += result
    print(f"== summary (machines under {accel.name()})", *table, total, sep="\n", flush=True)
    return 0 if total.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
