# SPDX-License-Identifier: Apache-2.0
"""A software TPM (swtpm) whose state outlives it and whose commands can be counted."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import Counter
from functools import cache
from pathlib import Path

from calibration import limit

# The command codes of TPM 2.0 Library, part 2, table 12, as the TSS headers spell them.
TSS_HEADER = Path("/usr/include/tss2/tss2_tpm2_types.h")
# swtpm keeps the permanent state in this one file; the volatile one belongs to a running TPM.
STATE_FILE = "tpm2-00.permall"
START_TIMEOUT_SECONDS = limit(30)
# It ends with its machine, unless it is writing down what it keeps.
STOP_TIMEOUT_SECONDS = limit(30)
POLL_SECONDS = 0.02
# swtpm_setup writes these names into its certificates; nobody checks them.
LOCAL_CA_OPTIONS = """\
--platform-manufacturer Nightlatch
--platform-version 1
--platform-model test
"""


@cache
def command_names() -> dict[int, str]:
    """Command code to name; empty where the TSS headers are not installed."""
    if not TSS_HEADER.exists():
        return {}
    pattern = re.compile(r"#define TPM2_CC_(\w+)\s+\(\(TPM2_CC\) (0x[0-9a-fA-F]+)\)")
    names = pattern.findall(TSS_HEADER.read_text(encoding="utf-8"))
    return {int(code, 16): name for name, code in names if name not in ("FIRST", "LAST")}


class Tpm:
    """One TPM: a state directory, and a process for as long as a machine runs."""

    def __init__(self, state: Path, log: bool = False) -> None:
        """Uses `state` (created if absent); `log` records every command."""
        # swtpm resolves relative paths only after changing directory.
        self.state = state.absolute()
        self.log = self.state / "commands.log" if log else None
        self.socket = self.state / "control.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def manufacture(self, authority: Path) -> None:
        """Gives a new TPM certificates for its EK, from a local CA kept in `authority`."""
        self.state.mkdir(parents=True, exist_ok=True)
        authority = authority.absolute()
        authority.mkdir(parents=True, exist_ok=True)
        ca_config, ca_options = authority / "localca.conf", authority / "localca.options"
        config = authority / "setup.conf"
        ca_options.write_text(LOCAL_CA_OPTIONS, encoding="utf-8")
        ca_config.write_text(
            f"statedir = {authority}\nsigningkey = {authority}/signkey.pem\n"
            f"issuercert = {authority}/issuercert.pem\ncertserial = {authority}/certserial\n",
            encoding="utf-8",
        )
        config.write_text(
            f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
            f"create_certs_tool_config = {ca_config}\n"
            f"create_certs_tool_options = {ca_options}\n",
            encoding="utf-8",
        )
        command = ["swtpm_setup", "--tpm2", "--tpmstate", str(self.state), "--config", str(config)]
        command += ["--create-ek-cert", "--create-platform-cert", "--overwrite"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Starts the TPM; it ends with the machine that connects to it, or with `stop`."""
        self.stop()
        self.state.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        command = ["swtpm", "socket", "--tpm2", "--terminate"]
        command += ["--tpmstate", f"dir={self.state}", "--ctrl", f"type=unixio,path={self.socket}"]
        if self.log:
            command += ["--log", f"level=20,file={self.log}"]
        with (self.state / "swtpm.log").open("wb") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"starting swtpm: no socket, see {self.state}/swtpm.log")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Ends the process, which `--terminate` has usually done already."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout=STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Cuts its power, whatever it is doing. What it keeps it replaces whole."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def snapshot(self, directory: Path) -> None:
        """Copies the permanent state of a stopped TPM."""
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy2(self.state / STATE_FILE, directory / STATE_FILE)

    def restore(self, directory: Path) -> None:
        """Puts a snapshot in the place of the permanent state of a stopped TPM."""
        self.state.mkdir(parents=True, exist_ok=True)
        shutil.copy2(directory / STATE_FILE, self.state / STATE_FILE)

    def commands(self) -> list[str]:
        """Every command the TPM was sent, in order, since its log began."""
        if self.log is None or not self.log.exists():
            return []
        names = command_names()
        codes = command_codes(self.log.read_text(encoding="ascii", errors="replace"))
        return [names.get(code, f"{code:#010x}") for code in codes]

    def counts(self) -> Counter[str]:
        """How often each command was sent."""
        return Counter(self.commands())


def command_heads(log: str) -> list[bytes]:
    """The first 16 bytes of each block that swtpm has read, in a `level=20` log."""
    heads = []
    for block in log.split("SWTPM_IO_Read: length")[1:]:
        lines = block.splitlines()[1:2]
        heads.append(bytes.fromhex(lines[0].strip()) if lines else b"")
    return heads


def command_codes(log: str) -> list[int]:
    """The command codes in such a log: bytes 6 to 10."""
    return [int.from_bytes(head[6:10], "big") for head in command_heads(log) if len(head) >= 10]
