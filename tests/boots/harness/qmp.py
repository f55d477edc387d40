# SPDX-License-Identifier: Apache-2.0
"""Why a machine ended, from QEMU's own monitor rather than from what the guest prints."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from calibration import limit

CONNECT_TIMEOUT_SECONDS = limit(30)
POLL_SECONDS = 0.02


class Monitor:
    """A QMP connection to a machine started with `-S`: lets it run, then collects events."""

    def __init__(self, path: Path, qemu: subprocess.Popen[bytes]) -> None:
        """Connects, ends the negotiation and collects events from before the first instruction."""
        self.events: list[dict[str, Any]] = []
        self._socket = _connect(path, qemu)
        self._stream = self._socket.makefile("r", encoding="utf-8")
        self._stream.readline()  # the greeting
        self.send("qmp_capabilities")
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def send(self, command: str, **arguments: Any) -> None:
        """Sends one command; its answer ends up among the events."""
        message = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Waits for what QEMU, now ended, has still said."""
        self._thread.join(timeout=CONNECT_TIMEOUT_SECONDS)
        self._stream.close()
        self._socket.close()

    def reason(self) -> str | None:
        """QEMU's reason for the shutdown, such as `guest-shutdown`, `guest-reset`, `guest-panic`."""
        for event in reversed(self.events):
            if event.get("event") == "SHUTDOWN":
                return str(event["data"]["reason"])
        return None

    def _collect(self) -> None:
        try:
            for line in self._stream:
                self.events.append(json.loads(line))
        except (OSError, ValueError):
            return  # the other end was killed


def _connect(path: Path, qemu: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + CONNECT_TIMEOUT_SECONDS
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
            return client
        except OSError:
            client.close()
            if qemu.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
