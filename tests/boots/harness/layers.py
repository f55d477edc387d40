# SPDX-License-Identifier: Apache-2.0
"""Runs the layers of tests and adds them up.

    run [--layer NAME] [FILTER...]

All layers run at once, each line with its layer's name in front: images are built while layer 1
runs, and when that is done the machines of all layers take turns (see slots.py). The last line is
`N passed, N failed`, over all layers. A layer that did not run is a failure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import accel
import slots
from libtest import Tally, failures, seen, tally

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent.parent
# Of a layer that failed and did not say in which test.
LAST_LINES = 40
Say = Callable[[str], None]
Layer = Callable[[list[str], Say], Tally]


def unprivileged(filters: list[str], say: Say) -> Tally:
    """Layer 1: everything that needs neither root nor a machine."""
    lines: list[str] = []
    command = ["cargo", "test", "--locked", "--no-fail-fast", "--", *filters]
    with heard(command) as cargo:
        assert cargo.stdout is not None
        for line in cargo.stdout:
            lines.append(line.rstrip())
            if line.strip() and not line.rstrip().endswith("... ok"):
                say(line.rstrip())
    total = tally(lines)
    if total is None:
        return seen(lines).strict() + Tally(failed=1)
    if cargo.returncode != 0 and total.failed == 0:
        total += Tally(failed=1)
    return total.strict()


def harness(filters: list[str], say: Say) -> Tally:
    """Layer harness: machines that come to a bad end."""
    return counted([sys.executable, str(HERE / "harness_test.py"), *filters], say)


def cases(filters: list[str], say: Say) -> Tally:
    """Layer 2: many cases in one machine."""
    return counted([sys.executable, str(HERE / "cases.py"), *filters], say)


def kills(filters: list[str], say: Say) -> Tally:
    """Layer kills: machines whose power goes at random instants."""
    if filters:
        say("layer kills is one chain of events: it takes no filter")
        return Tally(failed=1)
    return counted([sys.executable, str(HERE / "kills.py")], say)


def chain(filters: list[str], say: Say) -> Tally:
    """Layer 3: whole boots."""
    return counted([sys.executable, str(HERE / "chain.py"), *filters], say)


LAYERS: dict[str, Layer] = {
    "1": unprivileged,
    "harness": harness,
    "2": cases,
    "kills": kills,
    "3": chain,
}


def heard(command: list[str], errors: int | None = None) -> subprocess.Popen[str]:
    """A program whose output is read, whatever bytes it has."""
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        errors="replace",
    )


def counted(command: list[str], say: Say) -> Tally:
    """Runs a program whose last line is `N passed, N failed`; without one it has failed."""
    last = ""
    # With what it says of errors: what failed is told again at the end.
    with heard(command, errors=subprocess.STDOUT) as program:
        assert program.stdout is not None
        for line in program.stdout:
            last = line.strip() or last
            say(line.rstrip("\n"))
    match last.split():
        case [passed, "passed,", failed, "failed"] if passed.isdigit() and failed.isdigit():
            total = Tally(int(passed), int(failed))
        case _:
            say(f"{command[1]}: ended with {program.returncode} and without a result")
            return Tally(failed=1)
    if program.returncode != 0 and total.failed == 0:
        say(f"{command[1]}: ended with {program.returncode}, but says that nothing failed")
        total += Tally(failed=1)
    return total


@dataclass(frozen=True)
class Ended:
    """What one layer came to."""

    result: Tally
    # Its line of the summary.
    line: str
    # What it said of what failed.
    failed: list[str]


def ended(name: str, filters: list[str], say: Say) -> Ended:
    """Runs one layer to its end, however it ends."""
    said: list[str] = []

    def hear(text: str) -> None:
        said.extend(text.splitlines())
        say(text)

    hear(f"== {LAYERS[name].__doc__}")
    started = time.monotonic()
    try:
        result = LAYERS[name](filters, hear)
    except Exception:  # noqa: BLE001 - a layer that breaks is one that failed, and the others go on
        hear(traceback.format_exc())
        result = Tally(failed=1)
    if result == Tally():
        hear(f"layer {name}: nothing ran")
        result = Tally(failed=1)
    line = f"layer {name:8} {result!s:26} {time.monotonic() - started:6.0f} s"
    failed = (failures(said) or said[-LAST_LINES:]) if result.failed else []
    return Ended(result, line, [f"{name:>7} | {line}" for line in failed])


def all_at_once(threads: ThreadPoolExecutor) -> list[Ended]:
    """Runs every layer, machines only after layer 1: its tests have time limits of their own.

    Only layer 3 begins with it: it builds images first, and what it compiles is not in the place
    of what layer 1 runs.
    """

    def start(name: str) -> Future[Ended]:
        return threads.submit(ended, name, [], prefixed(name))

    with slots.all_taken():
        begun = {"3": start("3")}
        begun["1"] = start("1")
        wait([begun["1"]])
    begun |= {name: start(name) for name in LAYERS if name not in begun}
    return [begun[name].result() for name in LAYERS]


def plain(line: str) -> None:
    """A line as it is."""
    print(line, flush=True)


def prefixed(name: str) -> Say:
    """Lines of one of several layers."""

    def say(text: str) -> None:
        with PRINTING:
            for line in text.splitlines():
                print(f"{name:>7} | {line}", flush=True)

    return say


PRINTING = threading.Lock()


def main() -> int:
    """Runs the layers asked for."""
    parser = argparse.ArgumentParser(prog="run", description=__doc__.splitlines()[0])
    parser.add_argument("--layer", choices=LAYERS, help="run only this one")
    parser.add_argument("filter", nargs="*", help="with --layer: only tests with it in their name")
    options = parser.parse_args()
    if options.filter and not options.layer:
        parser.error("a filter needs --layer")
    # Probed once, here, and not by each of the programs below.
    os.environ.setdefault("NIGHTLATCH_ACCEL", accel.name())
    if options.layer:
        results = [ended(options.layer, options.filter, plain)]
    else:
        with ThreadPoolExecutor(len(LAYERS)) as threads:
            results = all_at_once(threads)
    total = sum((layer.result for layer in results), Tally())
    # Repeated where somebody who has only the end of a long log finds it.
    if any(layer.failed for layer in results):
        print("== what failed", *(line for layer in results for line in layer.failed), sep="\n")
    table = [layer.line for layer in results]
    print(f"== summary (machines under {accel.name()})", *table, total, sep="\n", flush=True)
    return 0 if total.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
