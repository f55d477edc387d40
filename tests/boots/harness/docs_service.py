# SPDX-License-Identifier: Apache-2.0
"""Where the key service runs: between the blocks of operate.md, what its sentences say."""

from __future__ import annotations

import texts
from docs_machines import Machines
from outcome import check, equal


def runs(machines: Machines, said: str) -> None:
    """Started by systemd, with what the text says it is then."""
    system = machines.service.system
    equal(system.run("systemctl", "is-active", "nightlatchd.service"), "active\n", "the service")
    equal(system.run("systemctl", "is-enabled", "nightlatchd.service"), "enabled\n", "the service at the next start")
    process = system.run("systemctl", "show", "--property=MainPID", "--value", "nightlatchd.service").strip()
    equal(system.run("readlink", f"/proc/{process}/exe"), "/usr/bin/nightlatchd\n", "what runs")
    check("valid" in said, "the configuration to be called valid", said)


def policy_written(machines: Machines) -> None:
    """The text's, in place of the example; and what the block wants of the image."""
    policy = texts.called("operate.md#first-node/1", "toml").text
    machines.service.path("/etc/nightlatch/policy.toml").write_text(policy, encoding="utf-8")
    machines.hand_over([machines.here("out/image.efi"), machines.here("keys/db.pem")], machines.service.path("."))


def policy_good(_machines: Machines, said: str) -> None:
    """With the table of the image."""
    check("valid" in said, "the policy to be called valid", said)


def operators_listened_to(machines: Machines) -> None:
    """The table of the text, in the service's configuration."""
    path = machines.service.path("/etc/nightlatch/nightlatchd.toml")
    table = texts.called("operate.md#operators/1", "toml").text
    path.write_text(path.read_text(encoding="utf-8") + "\n" + table, encoding="utf-8")


def listed(_machines: Machines, said: str) -> None:
    """What the operators' listener answers."""
    check("0 nodes" in said, "no node yet", said)
