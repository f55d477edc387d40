# SPDX-License-Identifier: Apache-2.0
"""Secure Boot with keys of the tests' own: what signs, what the firmware is told, and what its log says of a boot."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authority import Identity
from root import CACHE

KEPT = CACHE / "secure-boot"
# The template of a variable store without keys.
TEMPLATE = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# Who owns the entries of the firmware's databases: part of what is measured of them.
SIGNATURE_OWNER = uuid.UUID("6e696768-746c-4174-8368-6f776e657273")
# UEFI specification 2.10: 3.3 (EFI_GLOBAL_VARIABLE) and 32.4.1 (EFI_IMAGE_SECURITY_DATABASE_GUID).
GLOBAL_VARIABLE = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SECURITY_DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
# Variable attributes (UEFI 8.2): non-volatile, boot service and runtime access.
KEPT_FOR_ALL = 7
# UEFI 3.1.3: LOAD_OPTION_ACTIVE. 10.3.5.4 and 10.3.1: the nodes of a device path for a file, and for the end.
ACTIVE = 1
FILE_NODE, END_NODE = bytes([4, 4]), bytes([0x7F, 0xFF, 4, 0])


@dataclass(frozen=True)
class Owner:
    """Who owns a machine's firmware: a key of the platform, one to change the lists, one that signs programs."""

    platform: Identity
    exchange: Identity
    programs: Identity

    @classmethod
    def called(cls, name: str) -> Owner:
        """The one of that name, made when it is first asked for and kept."""
        directory = KEPT / name
        kinds = ("PK", "KEK", "db")
        if not directory.exists():
            KEPT.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(dir=KEPT))
            for kind in kinds:
                _self_signed(unfinished / kind, f"nightlatch test {name} {kind}")
            unfinished.rename(directory)
        made = (Identity(directory / f"{kind}.pem", directory / f"{kind}.key") for kind in kinds)
        return cls(*made)

    def variables(self, target: Path, *others: Path, options: Sequence[bytes] = ()) -> None:
        """Writes a store of firmware variables with this owner's keys and Secure Boot on.

        Programs of the certificates `others` start as well; `options` are boot options, the first of them tried first.
        """
        command = ["--set-pk", str(SIGNATURE_OWNER), str(self.platform.certificate)]
        command += ["--add-kek", str(SIGNATURE_OWNER), str(self.exchange.certificate)]
        for certificate in (self.programs.certificate, *others):
            command += ["--add-db", str(SIGNATURE_OWNER), str(certificate)]
        _variables(TEMPLATE, target, [*command, "--sb"])
        if options:
            boot_from(target, options)

    def sign(self, program: Path, target: Path) -> None:
        """A copy of an EFI program with this owner's signature and no other."""
        unsigned = target.with_suffix(".unsigned")
        shutil.copyfile(program, unsigned)
        # Fails where there is none.
        subprocess.run(["sbattach", "--remove", str(unsigned)], check=False, capture_output=True)
        command = ["sbsign", "--key", str(self.programs.key)]
        command += ["--cert", str(self.programs.certificate), "--output", str(target)]
        subprocess.run([*command, str(unsigned)], check=True, capture_output=True)
        unsigned.unlink()

    def has_signed(self, program: Path) -> bool:
        """Whether an EFI program carries a signature of this owner."""
        command = ["sbverify", "--cert", str(self.programs.certificate), str(program)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


def owner() -> Owner:
    """Who owns the machines, unless a test says otherwise."""
    return Owner.called("owner")


def boot_from(variables: Path, options: Sequence[bytes]) -> None:
    """Puts boot options into a store of variables, the first of them tried first."""
    entries = {f"Boot{number:04X}": option for number, option in enumerate(options)}
    order = b"".join(number.to_bytes(2, "little") for number in range(len(options)))
    made = [
        {"name": name, "guid": str(GLOBAL_VARIABLE), "attr": KEPT_FOR_ALL, "data": data.hex()}
        for name, data in {**entries, "BootOrder": order}.items()
    ]
    listed = variables.with_suffix(".json")
    listed.write_text(json.dumps({"version": 2, "variables": made}), encoding="ascii")
    _variables(variables, variables, ["--set-json", str(listed)])
    listed.unlink()


def boot_option(title: str, file: str, words: str = "") -> bytes:
    """EFI_LOAD_OPTION (UEFI 3.1.3) for a file on whatever disk has it, with a command line."""
    name = _utf16(file)
    node = FILE_NODE + (4 + len(name)).to_bytes(2, "little") + name
    path = node + END_NODE
    head = ACTIVE.to_bytes(4, "little") + len(path).to_bytes(2, "little")
    return head + _utf16(title) + path + (_utf16(words) if words else b"")


def is_on(log: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a boot's log, as systemd-pcrlock tells it, has Secure Boot on."""
    return _measured(log, 7, _variable_event(GLOBAL_VARIABLE, "SecureBoot", b"\x01"))


def vouched(log: Iterable[Mapping[str, Any]], by: Path, owner_of: uuid.UUID = SIGNATURE_OWNER) -> bool:
    """Whether in a boot's log this certificate vouched for a program, as an entry that `owner_of` put there."""
    entry = owner_of.bytes_le + der(by)
    return _measured(log, 7, _variable_event(SECURITY_DATABASE, "db", entry))


def der(certificate: Path) -> bytes:
    """A certificate's bytes."""
    command = ["openssl", "x509", "-in", str(certificate), "-outform", "DER"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _measured(log: Iterable[Mapping[str, Any]], pcr: int, event: bytes) -> bool:
    digest = hashlib.sha256(event).hexdigest()
    return any(entry["pcr"] == pcr and entry.get("sha256") == digest for entry in log)


def _variable_event(vendor: uuid.UUID, name: str, data: bytes) -> bytes:
    """UEFI_VARIABLE_DATA: TCG PC Client Platform Firmware Profile 1.06, 10.2.6; its hash is what is measured."""
    text = name.encode("utf-16-le")
    lengths = len(name).to_bytes(8, "little") + len(data).to_bytes(8, "little")
    return vendor.bytes_le + lengths + text + data


def _utf16(text: str) -> bytes:
    return f"{text}\0".encode("utf-16-le")


def _variables(before: Path, after: Path, words: Sequence[str]) -> None:
    after.parent.mkdir(parents=True, exist_ok=True)
    command = ["virt-fw-vars", "--input", str(before), "--output", str(after), *words]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {ended.returncode}\n{ended.stdout}{ended.stderr}")


def _self_signed(file: Path, name: str) -> None:
    """A key of the kind that all firmware knows, and its certificate."""
    command = ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-noenc", "-sha256"]
    command += ["-days", "3650", "-subj", f"/CN={name}"]
    command += ["-keyout", f"{file}.key", "-out", f"{file}.pem"]
    subprocess.run(command, check=True, capture_output=True)
