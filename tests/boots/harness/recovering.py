# SPDX-License-Identifier: Apache-2.0
"""An operator who gives a node that waits its keys, from the master secret and with a key of their own."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from calibration import limit
from keyservice import CONTROL, LOOPBACK, KeyService, OperatorKey, free_port
from node import BOOT_TIMEOUT_SECONDS, PROGRESS_PORT, Boot, Node

# design section 12: where a node listens.
NODE_PORT = 9999
# What the node says when it does.
WAITING = " s for an operator"
RECOVER_TIMEOUT_SECONDS = limit(120)


@dataclass(frozen=True)
class Said:
    """What a command of the operator's came to."""

    code: int
    text: str
    errors: str


@dataclass
class Operator:
    """Who may push, with what the fleet's list says of nodes and volumes."""

    service: KeyService
    key: OperatorKey
    expected: Path
    port: int = field(default_factory=free_port)

    @property
    def listens(self) -> dict[int, int]:
        """How the node's port is reached."""
        return {self.port: NODE_PORT}

    def expect(self, ek: str, uuids: list[str]) -> None:
        """The list has these volumes for this endorsement key, and no others."""
        self.expected.write_text("".join(f"{ek} {uuid}\n" for uuid in uuids), encoding="ascii")

    def recover(self, *words: str, is_read_by_people: bool = False) -> Said:
        """One push, to the node that waits."""
        command = [str(CONTROL), "recover", "--node", f"{LOOPBACK}:{self.port}"]
        command += [] if is_read_by_people else ["--json"]
        command += ["--policy", str(self.service.policy), "--master-secret", str(self.service.master_secret)]
        command += ["--identity", str(self.key.path), "--expect", str(self.expected)]
        # For one node, and what it shows is what this scenario has made.
        command += [part for word in words for part in ("--word", word)] + (["--yes"] if words else [])
        ended = subprocess.run(
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=RECOVER_TIMEOUT_SECONDS
        )
        return Said(ended.returncode, ended.stdout, ended.stderr)


def boot(
    node: Node, operator: Operator, work: Callable[[], None], on_line: Callable[[str], None] | None = None
) -> tuple[Boot, bool]:
    """One boot in which `work` is done once the node waits, beside the boot; and whether it ever waited."""
    at_work: list[threading.Thread] = []

    def listen(line: str) -> None:
        if on_line:
            on_line(line)
        if WAITING in line and not at_work:
            at_work.append(threading.Thread(target=work))
            at_work[0].start()

    try:
        with node.machine(firmware=True, listens=operator.listens, progress=True) as machine:
            ended = machine.wait(BOOT_TIMEOUT_SECONDS, on_line=listen, port=PROGRESS_PORT)
            return Boot(ended, machine.directory), bool(at_work)
    finally:
        for thread in at_work:
            thread.join()
