# SPDX-License-Identifier: Apache-2.0
"""What a TPM is shown of an image's signatures, with tpm2-tools: that a key has signed the value of PCR 11."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node import Boot


@dataclass(frozen=True)
class Approval:
    """What a TPM gave for a signature of a policy, and whose key that is by: files of tpm2-tools."""

    policy: Path
    ticket: Path
    name: Path

    def satisfy(self, tool: Any, session: str) -> None:
        """Has a session satisfy what was signed, and go on to what the key stands for."""
        tool("tpm2_policypcr", "-S", session, "-l", "sha256:11")
        signed = ["-i", str(self.policy), "-n", str(self.name), "-t", str(self.ticket)]
        tool("tpm2_policyauthorize", "-S", session, *signed)


def of(tool: Any, boot: Boot, token: dict[str, Any], signatures: bytes, work: Path) -> Approval:
    """Brings PCR 11 to the first value of a boot that was signed, and has the TPM look at the signature.

    The key is the token's.
    """
    signed = {entry["pol"]: entry["sig"] for entry in json.loads(signatures)["sha256"]}
    for digest, value in values(boot):
        tool("tpm2_pcrextend", f"11:sha256={digest.hex()}")
        if policy(value) in signed:
            break
    else:
        raise RuntimeError("expected a value of PCR 11 that was signed in the log of the boot")
    made = Approval(work / "approved", work / "ticket", work / "key-name")
    public, signature, key = work / "pcr.pem", work / "signature", str(work / "key")
    public.write_bytes(base64.b64decode(token["tpm2_pubkey"]))
    made.policy.write_bytes(bytes.fromhex(policy(value)))
    signature.write_bytes(base64.b64decode(signed[policy(value)]))
    tool("tpm2_loadexternal", "-C", "o", "-G", "rsa", "-u", str(public), "-c", key, "-n", str(made.name))
    about = ["-c", key, "-g", "sha256", "-m", str(made.policy), "-f", "rsassa", "-s", str(signature)]
    tool("tpm2_verifysignature", *about, "-t", str(made.ticket))
    tool("tpm2_flushcontext", "--transient-object")
    return made


def values(boot: Boot) -> Iterator[tuple[bytes, bytes]]:
    """What PCR 11 was extended with, by the log of a boot, and what it held after that."""
    value = bytes(32)
    for event in (boot.verdict.get("log") or {}).get("log", []):
        if event["pcr"] == 11 and event.get("sha256"):
            digest = bytes.fromhex(event["sha256"])
            value = hashlib.sha256(value + digest).digest()
            yield digest, value


def policy(value: bytes) -> str:
    """The digest of the policy that PCR 11 has this value: TPM 2.0 Library, part 3, section 23.7 (`TPM2_PolicyPCR`)."""
    selection = bytes.fromhex("00000001" "000b" "03" "000800")
    command = bytes.fromhex("0000017f")
    return hashlib.sha256(bytes(32) + command + selection + hashlib.sha256(value).digest()).hexdigest()
