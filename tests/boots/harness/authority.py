# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for the tests, made with OpenSSL and kept."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

# One configuration for all: what a certificate is for is in its section.
OPENSSL_CONFIG = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = {addresses}
[client]
basicConstraints = critical,CA:FALSE
extendedKeyUsage = clientAuth
"""
DAYS = 3650


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A self-signed authority below a directory, made when it is first used."""

    def __init__(self, directory: Path, name: str) -> None:
        """Uses what is in `directory`, or makes it."""
        self.directory = directory
        self.own = self._identity("authority", name, "authority", "")

    @property
    def certificate(self) -> Path:
        """What others trust."""
        return self.own.certificate

    def server(self, *addresses: str) -> Identity:
        """For a server at these IP addresses."""
        listed = ",".join(f"IP:{address}" for address in addresses)
        return self._identity("server", addresses[0], "server", listed)

    def client(self, name: str) -> Identity:
        """For a person or program called that."""
        return self._identity(f"client-{name}", name, "client", "")

    def _identity(self, file: str, name: str, section: str, addresses: str) -> Identity:
        made = Identity(self.directory / f"{file}.pem", self.directory / f"{file}.key")
        if made.certificate.exists():
            return made
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / f"{file}.conf"
        # Every section is read, also those that are not used.
        text = OPENSSL_CONFIG.format(name=name, addresses=addresses or "DNS:none")
        config.write_text(text, encoding="utf-8")
        unfinished = made.certificate.with_suffix(".new")
        command = ["openssl", "req", "-x509", "-config", str(config), "-extensions", section]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", str(DAYS), "-keyout", str(made.key), "-out", str(unfinished)]
        if section != "authority":
            command += ["-CA", str(self.own.certificate), "-CAkey", str(self.own.key)]
        subprocess.run(command, check=True, capture_output=True)
        unfinished.rename(made.certificate)
        return made
