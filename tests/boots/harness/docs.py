# SPDX-License-Identifier: Apache-2.0
"""Follows the texts: each of their command blocks, as it stands there, on the machine that it says it is for.

    docs.py

What is done between the blocks is what the sentences around them say. The last line is `N passed, N failed`.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

import debian_tree
import docs_machines
import docs_steps
import root
from outcome import Outcome, lighten

WORK = root.CACHE / "docs"


def follow(outcome: Outcome) -> None:
    """One block after the other, until one fails: what comes later goes by what came before."""
    with ExitStack() as running:
        with outcome.case("docs::the_machines_are_there"):
            machines = docs_machines.Machines(WORK, running)
        for step in docs_steps.STEPS:
            if outcome.failed:
                return
            with outcome.case(f"docs::{step.name}"):
                step.follow(machines)


def main() -> int:
    """All of it."""
    outcome = Outcome()
    debian_tree.emptied(WORK)
    follow(outcome)
    if outcome.failed == 0:
        lighten(WORK)
    print(outcome)
    return 0 if outcome.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
