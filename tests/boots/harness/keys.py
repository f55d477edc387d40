# SPDX-License-Identifier: Apache-2.0
"""The keys of a volume, got outside of its machine: with its disk, its TPM's state and its PCR values.

For tests that must know the secrets to show that nobody else does. Works where the boot's log has all that the PCRs of
the seal were extended with.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import approval
from approval import Approval
from node import Boot, Node
from outcome import check
from tpm import POLL_SECONDS, START_TIMEOUT_SECONDS, STATE_FILE

SRK_HANDLE = "0x81000001"
ZERO = bytes(32)
HEADER_BYTES = 16 << 20


@dataclass(frozen=True)
class Keys:
    """Every secret of one volume, by name."""

    named: dict[str, bytes]

    @staticmethod
    def of(node: Node, volume: str, boot: Boot, work: Path, signatures: bytes = b"") -> Keys:
        """Unseals with a copy of the node's TPM, and shows that other PCR values do not do.

        Where a key signs images, `signatures` are those of the image that was booted.
        """
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        header = work / "header"
        with node.paths[volume].open("rb") as disk:
            header.write_bytes(disk.read(HEADER_BYTES))
        token = _token(header)
        # In the initrd as in the final system, except for the fence, which was zero then.
        before = {**boot.pcrs, str(boot.verdict["status"]["fence_pcr"]): ZERO.hex()}
        with _running(node, work) as tool:
            for pcr in token["tpm2-pcrs"]:
                for digest in _history(boot, pcr, before[str(pcr)]):
                    tool("tpm2_pcrextend", f"{pcr}:sha256={digest.hex()}")
            approved = None
            if signatures:
                approved = approval.of(tool, boot, token, signatures, work)
            secret = _unseal(tool, token, work, approved)
            tool("tpm2_pcrextend", f"{token['tpm2-pcrs'][-1]}:sha256={'01' * 32}")
            try:
                _unseal(tool, token, work, approved)
            except subprocess.CalledProcessError:
                closed = True
            else:
                closed = False
            check(closed, "the TPM to refuse after another extend", "it unsealed")
        passphrase = base64.b64encode(secret)
        return Keys(
            {
                "sealed secret": secret,
                "passphrase": passphrase,
                "volume key": _volume_key(header, passphrase, work),
            }
        )


def _token(header: Path) -> dict[str, Any]:
    """The volume's `systemd-tpm2` token."""
    command = ["cryptsetup", "luksDump", "--dump-json-metadata", str(header)]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    tokens = [t for t in metadata["tokens"].values() if t["type"] == "systemd-tpm2"]
    check(len(tokens) == 1, "one systemd-tpm2 token", metadata["tokens"])
    return dict(tokens[0])


def _history(boot: Boot, pcr: int, value: str) -> list[bytes]:
    """What a PCR was extended with to have this value, by the boot's log."""
    if bytes.fromhex(value) == ZERO:
        return []
    events = [event for event in boot.verdict["log"]["log"] if event["pcr"] == pcr]
    # What is in the log without having been extended: the firmware's specification.
    digests = [bytes.fromhex(event["sha256"]) for event in events if event.get("sha256")]
    replayed = ZERO
    for digest in digests:
        replayed = hashlib.sha256(replayed + digest).digest()
    check(replayed.hex() == value, f"the log to explain PCR {pcr}, which is {value}", events)
    return digests


@contextmanager
def _running(node: Node, work: Path) -> Iterator[Any]:
    """A copy of the node's TPM, just reset, and a way to call tpm2-tools on it."""
    state = work / "tpm"
    state.mkdir()
    shutil.copy2(node.tpm.state / STATE_FILE, state / STATE_FILE)
    port = _free_port()
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state.absolute()}"]
    command += ["--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"]
    environment = dict(os.environ, TPM2TOOLS_TCTI=f"swtpm:host=127.0.0.1,port={port}")

    def tool(*arguments: str) -> bytes:
        ended = subprocess.run(arguments, check=True, env=environment, capture_output=True)
        return ended.stdout

    with subprocess.Popen([*command, "--flags", "not-need-init,startup-clear"]) as process:
        try:
            _wait_for(port)
            yield tool
        finally:
            process.kill()


def _unseal(tool: Any, token: dict[str, Any], work: Path, approved: Approval | None) -> bytes:
    """What the token's blob holds, under a policy of the PCRs' current values, and of what a key has signed."""
    blob = base64.b64decode(token["tpm2-blob"])
    # TPM2B_PRIVATE, then TPM2B_PUBLIC; each begins with its size in 16 bits.
    end = 2 + int.from_bytes(blob[:2], "big")
    (work / "private").write_bytes(blob[:end])
    (work / "public").write_bytes(blob[end:])
    bank = token.get("tpm2-pcr-bank", "sha256")
    pcrs = f"{bank}:{','.join(str(pcr) for pcr in token['tpm2-pcrs'])}"
    session, loaded = str(work / "session"), str(work / "loaded")
    objects = ["-u", str(work / "public"), "-r", str(work / "private"), "-c", loaded]
    try:
        tool("tpm2_load", "-C", SRK_HANDLE, *objects)
        tool("tpm2_startauthsession", "--policy-session", "-S", session)
        if approved:
            approved.satisfy(tool, session)
        tool("tpm2_policypcr", "-S", session, "-l", pcrs)
        return bytes(tool("tpm2_unseal", "-c", loaded, "-p", f"session:{session}"))
    finally:
        for kind in ("--transient-object", "--loaded-session", "--saved-session"):
            tool("tpm2_flushcontext", kind)


def _volume_key(header: Path, passphrase: bytes, work: Path) -> bytes:
    """The volume key, which the passphrase opens."""
    key, target = work / "passphrase", work / "volume-key"
    key.write_bytes(passphrase)
    command = ["cryptsetup", "luksDump", "--batch-mode", "--dump-volume-key"]
    command += [f"--key-file={key}", f"--volume-key-file={target}", str(header)]
    subprocess.run(command, check=True, capture_output=True)
    return target.read_bytes()


def _free_port() -> int:
    """A TCP port that is free now, together with the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def _wait_for(port: int) -> None:
    """Until something listens; connecting would end swtpm, so the kernel's table is read."""
    line = f":{port:04X} 00000000:0000 0A"
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while line not in Path("/proc/net/tcp").read_text(encoding="ascii"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"starting swtpm: nothing listens on port {port}")
        time.sleep(POLL_SECONDS)


