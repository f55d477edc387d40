# SPDX-License-Identifier: Apache-2.0
"""Runs tests: what every change has to pass, and of the rest what is due.

    run [--core | --all | --slice N | NAME...] [--lint] [--no-record] [-- FILTER...]
    run --list | --profile

Without a name: the core, and of the rest as much as fits into the time, what is changed first and then what has not run
for longest (planner.py). NAME is a scenario, or the part of its name before a slash. What passed to its end is recorded in
tests/scenarios.tsv, unless told not to or in CI. FILTER goes to the programs of the scenarios named, and nothing is
recorded then. The last line is `N passed, N failed`, over everything that ran.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import accel
import calibration
import phases
import planner
import root
import scenarios
import tree
from budget import RUN_BYTES, Budget
from calibration import Pace
from jobs import Ended, Groups, Job, Runner
from libtest import Tally
from paths import PROJECT

# What a run leaves for people: each job's lines.
WORK = root.CACHE / "run"
# When the run began, in seconds since 1970, if somebody did something before this program.
STARTED = "NIGHTLATCH_STARTED"


@dataclass(frozen=True)
class Plan:
    """What a run takes."""

    names: list[str]
    # Those of the rest that are run because they are due, and in how many portions the rest is cut.
    due: list[planner.Due]
    portions: int
    # What would have been next for what has changed in it.
    later: list[str]


def main(words: Sequence[str]) -> int:
    """Runs what is asked for."""
    options = arguments(words)
    record = not (options.no_record or options.filter or os.environ.get("CI") == "true")
    before = tree.kept() if record else tree.committed()
    listing = tree.listing()
    if options.list or options.profile:
        print(listed(before, listing) if options.list else phases.shown(WORK))
        return 0
    try:
        plan = planned(options, before, listing, rotate=not record)
    except LookupError as error:
        print(f"tests/run: {error}", file=sys.stderr)
        return 2
    # Probed once, here, and not by each of the programs below.
    os.environ.setdefault("NIGHTLATCH_ACCEL", accel.name())
    jobs = [with_filters(job, plan.names, options.filter) for job in scenarios.with_needed(plan.names)]
    began_at = float(os.environ.get(STARTED) or time.time())
    began = time.monotonic() - (time.time() - began_at)
    with Groups() as groups:
        pace = Pace(groups.running, calibration.on_each_processor)
        due = {one.name: one.seconds for one in plan.due}
        budget = Budget(began, due, pace.figure, free=room)
        if (free := room()) < RUN_BYTES:
            print(f"{free >> 30} GiB are free on the disk; from an empty cache a run writes {RUN_BYTES >> 30}")
        runner = Runner(
            os.cpu_count() or 1,
            WORK,
            groups,
            PROJECT,
            objection=budget.objection,
            # What somebody asked for by name, or all of it, takes what it takes.
            is_over=budget.is_over if plan.due or options.core else lambda: False,
            environment=lambda: {calibration.VARIABLE: f"{pace.figure():.2f}"},
        )
        ended = runner.run(jobs)
        pace.wait()
        figure = pace.figure()
        print(pace)
    phases.keep(WORK, began_at, ended)
    if record:
        keep(ended, listing, figure, whole=not options.name)
    return told(ended, plan, budget, [] if record else strangers(before, listing))


def room() -> int:
    """What is free where a run writes, in bytes."""
    root.CACHE.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(root.CACHE).free


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What a command line asks for."""
    words, filters = list(words), []
    if "--" in words:
        at = words.index("--")
        words, filters = words[:at], words[at + 1 :]
    parser = argparse.ArgumentParser(prog="tests/run", description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="everything")
    which.add_argument("--core", action="store_true", help="only what every run has")
    which.add_argument("--slice", type=int, metavar="N", help="the core and the Nth portion of the rest")
    which.add_argument("--list", action="store_true", help="say what there is and when it last passed")
    which.add_argument("--profile", action="store_true", help="say where the time of the last run went")
    parser.add_argument("--lint", action="store_true", help="the lints as well")
    parser.add_argument("--no-record", action="store_true", help="leave tests/scenarios.tsv as it is")
    parser.add_argument("name", nargs="*", help="only these scenarios")
    options = parser.parse_args(words)
    options.filter = filters
    chosen = (options.all, options.core, options.slice is not None, options.list, options.profile)
    if options.name and any(chosen):
        parser.error("names are all that is run: they go with none of the choices")
    if filters and not options.name:
        parser.error("a filter needs the name of a scenario")
    return options


def planned(
    options: argparse.Namespace, table: planner.Table, listing: Sequence[str], rotate: bool
) -> Plan:
    """The scenarios of this run."""
    lints = scenarios.of_kind("lint") if options.lint else []
    portions = planner.slices(ordered(table, listing, rotate))
    if options.name:
        return Plan([*lints, *scenarios.matching(options.name)], [], len(portions), [])
    core = [*lints, *longest_first(scenarios.of_kind("core"), table)]
    if options.core:
        return Plan(core, [], len(portions), [])
    if options.all:
        return Plan([*core, *longest_first(scenarios.of_kind("rest"), table)], [], len(portions), [])
    number = options.slice if options.slice is not None else 1
    if not 1 <= number <= len(portions):
        raise LookupError(f"there is no slice {number}; the rest is cut into {len(portions)}")
    due = planner.starting(portions[number - 1], table)
    later = [one.name for some in portions for one in some if one.changed and one not in due]
    return Plan([*core, *(one.name for one in due)], due, len(portions), later)


def longest_first(names: Sequence[str], table: planner.Table) -> list[str]:
    """So that nothing long is begun last."""
    seconds = {name: table[name].seconds if name in table else planner.UNKNOWN_SECONDS for name in names}
    return sorted(names, key=lambda name: -seconds[name])


def ordered(table: planner.Table, listing: Sequence[str], rotate: bool) -> list[planner.Due]:
    """The scenarios of the rest, the next first."""
    every = scenarios.every()
    rest = [
        planner.due(name, planner.digest(listing, every[name].paths), table)
        for name in scenarios.of_kind("rest")
    ]
    return planner.order(rest, table, planner.digest(listing, ["."]) if rotate else "")


def with_filters(job: Job, named: Sequence[str], filters: Sequence[str]) -> Job:
    """A job with further words for its program, if it is one of those that were asked for by name."""
    if not filters or job.name not in named:
        return job
    return replace(job, command=(*job.command, *filters))


def keep(ended: Sequence[Ended], listing: Sequence[str], figure: float, whole: bool) -> None:
    """Writes the lines of what passed, if the tree is still the one that ran; the seconds are those of a quiet machine."""
    now, committed = tree.kept(), tree.committed()
    # However often a landing is run, it has one number; single scenarios make no landing of their own.
    landing = planner.highest(committed) + 1 if whole else max(1, planner.highest(now))
    later = tree.listing()
    lines = []
    for one in ended:
        scenario = scenarios.every()[one.name]
        if scenario.kind not in ("core", "rest") or not one.passed:
            continue
        digest = planner.digest(listing, scenario.paths)
        if digest == planner.digest(later, scenario.paths):
            seconds = max(one.spent_seconds, one.seconds / max(1.0, figure))
            lines.append(planner.Line(one.name, scenario.paths, digest, landing, seconds))
        else:
            print(f"{one.name} is not recorded: what it depends on was changed meanwhile")
    tree.keep(planner.with_passed(now, lines, scenarios.of_kind("core", "rest")))


def strangers(table: planner.Table, listing: Sequence[str]) -> list[str]:
    """The newest lines of the table that are of another tree: they were not run again before they were committed."""
    top = planner.highest(table)
    every = scenarios.every()
    return [
        name
        for name, line in sorted(table.items())
        if line.landing == top
        and name in every
        and line.digest != planner.digest(listing, every[name].paths)
    ]


def told(ended: Sequence[Ended], plan: Plan, budget: Budget, others: Sequence[str]) -> int:
    """The end of the run: what failed, how long each took, what was left, the result."""
    total = sum((one.result for one in ended), Tally())
    broken = [f"{one.name:>18} | {line}" for one in ended for line in one.failed]
    left = budget.left(ended)
    if left and budget.is_quiet():
        total += Tally(failed=1)
        broken.append("the slice was not run to its end on a machine that is quiet")
    # Repeated where somebody who has only the end of a long log finds it.
    if broken:
        print("== what failed", *broken, sep="\n")
    print(f"== summary (machines under {accel.name()})", *ended, sep="\n")
    print(f"the rest is cut into {plan.portions} slices, {planner.SLICES_AT_MOST} at most")
    if plan.later:
        print(f"changed, and left for later landings: {' '.join(plan.later)}")
    if others:
        print(f"the newest lines of {planner.TABLE} are of another tree for: {' '.join(others)}")
    if budget.without_room:
        print(f"no room was left on the disk for what this runs: tests/run {' '.join(sorted(budget.without_room))}")
    if left:
        print(f"no time was left for what this runs: tests/run {' '.join(left)}")
    print(total, flush=True)
    return 0 if total.failed == 0 and total != Tally() else 1


def listed(table: planner.Table, listing: Sequence[str]) -> str:
    """All there is: when it last passed, how long it took, whether what it depends on has changed since."""
    rows = [f"{'scenario':24} {'':5} {'landing':>7} {'seconds':>7}"]
    due = {one.name: one for one in ordered(table, listing, rotate=False)}
    portion = {
        one.name: number
        for number, some in enumerate(planner.slices(list(due.values())), 1)
        for one in some
    }
    for name in [*scenarios.of_kind("build", "lint", "core"), *due]:
        rows.append(row(name, table.get(name), listing, portion.get(name)))
    return "\n".join(rows)


def row(name: str, line: planner.Line | None, listing: Sequence[str], portion: int | None) -> str:
    """A scenario's line of the list."""
    scenario = scenarios.every()[name]
    text = f"{name:24} {scenario.kind:5}"
    if scenario.kind in ("build", "lint"):
        return text
    if line is None:
        text += f" {'never':>7} {'':>7}"
    else:
        changed = line.digest != planner.digest(listing, scenario.paths)
        text += f" {line.landing:>7} {line.seconds:>7.0f}{'  changed' if changed else ''}"
    return text + (f"  slice {portion}" if portion else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
