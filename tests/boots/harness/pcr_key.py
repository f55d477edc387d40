# SPDX-License-Identifier: Apache-2.0
"""Keys that images are signed with for PCR 11, as their builder has one beside the key for Secure Boot."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from image import PROGRAMS
from root import CACHE

KEPT = CACHE / "pcr-keys"


@dataclass(frozen=True)
class PcrKey:
    """A private key and its public half, PEM files."""

    private: Path
    public: Path

    @classmethod
    def called(cls, name: str) -> PcrKey:
        """The one of that name, made when it is first asked for and kept."""
        directory = KEPT / name
        if not directory.exists():
            KEPT.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(dir=KEPT))
            private = str(unfinished / "pcr.key")
            _run(["openssl", "genrsa", "-out", private, "2048"])
            _run(["openssl", "rsa", "-in", private, "-pubout", "-out", str(unfinished / "pcr.pem")])
            unfinished.rename(directory)
        return cls(directory / "pcr.key", directory / "pcr.pem")

    def sign(self, unified: Path, authority: Path) -> None:
        """Has nightlatchctl put signatures of PCR 11 into an image that `authority` is going to sign."""
        command = [str(PROGRAMS / "nightlatchctl"), "policy", "sign", str(unified)]
        _run([*command, "--key", str(self.private), "--authority", str(authority)])


def _run(command: list[str]) -> None:
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {ended.returncode}\n{ended.stdout}{ended.stderr}")
