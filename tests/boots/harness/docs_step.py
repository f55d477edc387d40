# SPDX-License-Identifier: Apache-2.0
"""One block of the texts, followed: what comes before it, and what has to be so after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import texts
from docs_machines import Machines


@dataclass(frozen=True)
class Step:
    """One block: what comes before it, and what has to be so after it has said what it said."""

    block: str
    before: Callable[[Machines], None] | None = None
    after: Callable[[Machines, str], None] | None = None
    # In place of running it as it is: for what does not end by itself.
    instead: Callable[[Machines, str], None] | None = None
    # What is different, where it is run once more.
    again: str = ""

    @property
    def name(self) -> str:
        """For a report: without spaces."""
        return self.block + (f"-{self.again}" if self.again else "")

    def follow(self, machines: Machines) -> None:
        """Runs the block."""
        block = texts.called(self.block)
        if self.before:
            self.before(machines)
        if self.instead:
            self.instead(machines, block.text)
            return
        said = machines.shell(block.machine or "").run(block.text)
        if self.after:
            self.after(machines, said)
