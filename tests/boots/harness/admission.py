# SPDX-License-Identifier: Apache-2.0
"""A key service and its nodes, admitted as "First node" in units/doc/operate.md says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import uki
from image import Image
from keyservice import ADDRESSES, CONTROL, KeyService, authority
from machine import Tpm
from node import Node
from secure_boot import owner

# What the host adds to the kernel's command line: systemd-stub takes it from SMBIOS, and measures it into PCR 12.
EXTRA_TEXT = "systemd.debug_shell"
EXTRA = f"io.systemd.stub.kernel-cmdline-extra={EXTRA_TEXT}"
# No digest is that.
UNKNOWN = "00" * 32
PROGRAM = re.compile(r"was started: expected [0-9a-f or]+, found ([0-9a-f]{64})")
POLICY = """\
[ek]
roots = ["{manufacturer}/swtpm-localca-rootca-cert.pem"]
intermediates = ["{manufacturer}/issuercert.pem"]

{image}
[[role]]
name = "node"
volumes = ["state", "root"]
images = [{images}]
"""
# An image that nobody has booted: all that differs from it is what is started.
NO_IMAGE = """\
[[image]]
name = "demo"
secure-boot = true
authorities = ["{authority}"]
uki-hash = ["{unknown}"]
command-line = ["{command_line}"]
[image.pcrs]
# What systemd-stub finds beside the image, extensions of the initrd for example: nothing.
13 = ["{unknown}"]
"""


class Fleet:
    """Services and nodes below one directory. The TPMs are from one manufacturer."""

    def __init__(self, directory: Path, image: Image) -> None:
        """A service that admits no image yet; it does not run."""
        self.directory = directory
        self.image = image
        self._manufacturer = directory.absolute() / "manufacturer"
        self._authority = owner().programs.certificate.absolute()
        unknown = NO_IMAGE.format(
            authority=self._authority, command_line=image.command_line, unknown=UNKNOWN
        )
        self._policy = self._policy_for(unknown)
        # So that there is a manufacturer to name in the policy.
        self.tpm(directory / "first-tpm")
        self.service = self.another_service("service")

    def another_service(self, name: str, authority_name: str = "trusted") -> KeyService:
        """A service with secrets of its own and today's policy."""
        identity = authority(authority_name).server(*ADDRESSES)
        return KeyService(self.directory / name, identity, self._policy)

    def tpm(self, directory: Path) -> Tpm:
        """A TPM fresh from the factory, certificates included."""
        tpm = Tpm(directory)
        tpm.manufacture(self._manufacturer)
        return tpm

    def node(self, directory: Path) -> Node:
        """A machine with blank disks."""
        node = Node(directory, self.image)
        node.tpm = self.tpm(directory / "tpm")
        return node

    def admit(self, **also: Image) -> None:
        """Takes the image, and others by their names, for what nightlatchctl says of the files, whether they were ever booted or not."""
        images = {"demo": self.image, **also}
        tables = "\n".join(self._table(name, image) for name, image in images.items())
        self._policy = self._policy_for(tables, *images)
        self.service.admit(self._policy)

    def _table(self, name: str, image: Image) -> str:
        unified = uki.take(image.disk, self.directory / f"{name}.efi")
        command = [str(CONTROL), "policy", "image", str(unified), "--name", name]
        command += ["--authority", str(self._authority)]
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        unified.unlink()
        # The table names the certificate as a file beside the policy.
        return made.stdout.replace(f'"{self._authority.name}"', f'"{self._authority}"')

    def _policy_for(self, tables: str, *names: str) -> str:
        images = ", ".join(f'"{name}"' for name in names or ("demo",))
        return POLICY.format(manufacturer=self._manufacturer, image=tables, images=images)


def denials(service: KeyService) -> list[dict[str, Any]]:
    """The audit log's lines about machines that got nothing."""
    return [line for line in service.audit() if line["event"] == "denial"]


def programs_denied(service: KeyService) -> list[str]:
    """What the last denied boot started, as the audit log has it."""
    denial = denials(service)[-1]
    programs: list[str] = PROGRAM.findall(denial["why"])
    if not programs:
        raise AssertionError(f"no program in the denial: {denial}")
    return programs


def forwards(first: KeyService, second: KeyService | None = None) -> dict[str, int]:
    """Which service a node finds at each address: the same at both, unless there are two.

    A node gives up when every address has denied it; one where nobody listens it would wait for.
    """
    ports = (first.port, (second or first).port)
    return {f"{address}:443": port for address, port in zip(ADDRESSES, ports, strict=True)}
