# SPDX-License-Identifier: Apache-2.0
"""The key service's master secret under a KMS: between the blocks of kms.md, what its sentences say.

The KMS is an OpenBao, the whole server, in the mode in which it keeps nothing and listens on loopback without TLS.
"""

from __future__ import annotations

import json
import shutil
import subprocess

import openbao
import texts
from docs_machines import BESIDE, Machines
from image import PROJECT, TARGET
from outcome import check, equal

URL = "http://127.0.0.1:8200"
# The one that may do everything; that server is told what it is.
ROOT = "root-of-the-test"
TOKEN = "/run/bao-agent/token"
CONFIG = "/etc/nightlatch/nightlatchd.toml"
WRAPPED = "/etc/nightlatch/mastersecret.wrapped.json"
PLAIN = "/etc/nightlatch/mastersecret.json"
SALT = "/etc/nightlatch/measurement-salt"
SERVER = (
    "systemd-run", "--quiet", "--unit=bao", "--setenv=HOME=/root", "/usr/local/bin/bao", "server", "-dev", "-dev-no-store-token",
    f"-dev-root-token-id={ROOT}", "-dev-listen-address=127.0.0.1:8200",
)
PROFILE = f"PATH=$PATH:/usr/local/bin\nexport BAO_ADDR={URL} BAO_TOKEN={ROOT}"


def build_with_a_kms(machines: Machines) -> None:
    """What the page says to build, and a KMS: neither is in the packages."""
    command = ["cargo", "build", "--quiet", "--locked", openbao.FEATURES, "--bin", "nightlatchd"]
    subprocess.run(command, cwd=PROJECT, check=True)
    program = openbao.server()
    if program is None:
        raise RuntimeError("without an OpenBao the blocks of kms.md cannot be run")
    service = machines.service
    service.path("/usr/local/bin").mkdir(parents=True, exist_ok=True)
    for source, name in ((program, "/usr/local/bin/bao"), (TARGET / "debug/nightlatchd", "/usr/bin/nightlatchd")):
        unfinished = service.path(f"{name}.new")
        shutil.copyfile(source, unfinished)
        unfinished.chmod(0o755)
        service.system.run("mv", f"{name}.new", name)
    shutil.copytree(PROJECT / "units/examples", service.path(f"{BESIDE}/units/examples"))
    service.system.run(*SERVER)
    service.shell.profile = PROFILE
    # wait: event, the server's answer, and a limit after which there is none.
    service.shell.run("timeout 60 sh -c 'until bao status; do sleep 0.1; done'")


def hand_over_token(machines: Machines, policy: str) -> None:
    """A token of one of the two policies, where `credentials` says, for the service's account alone."""
    machines.service.shell.run(
        f"install --directory {TOKEN.rpartition('/')[0]}\n"
        f"bao token create -policy={policy} -field=token >token\n"
        f"install --mode=400 --owner=nightlatchd token {TOKEN}\nrm token"
    )


def configured(machines: Machines, _said: str) -> None:
    """The page's tables, with this server's address; a token of who wraps, and what a new fleet does not have yet."""
    service = machines.service
    path = service.path(CONFIG)
    tables = texts.called("kms.md#openbao-and-vault/1", "toml").text
    kms, found, secret = tables.partition("[secret]\n")
    check(found, "a table [secret]", tables)
    lines = [line for line in kms.splitlines() if not line.startswith("ca = ")]
    lines = [f'url = "{URL}"' if line.startswith("url = ") else line for line in lines]
    before, _, after = path.read_text(encoding="utf-8").partition("[secret]\n")
    kept = after[after.index("\n["):]
    path.write_text(f"{before}[secret]\n{secret}{kept}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    service.shell.run(f"install --mode=644 recovery.pem /etc/nightlatch\nmv {PLAIN} {SALT} .")
    hand_over_token(machines, "nightlatch-wrap")


def new_fleet(machines: Machines, _said: str) -> None:
    """A wrapped file and a salt, and no plain secret; then they go, for the fleet that is there."""
    system = machines.service.system
    check(json.loads(system.run("cat", WRAPPED)), "what was wrapped", "nothing")
    equal(system.status("test", "-e", PLAIN)[0], 1, "whether there is a plain secret")
    machines.service.shell.run(f"rm {WRAPPED} {SALT}\nmv measurement-salt {SALT}")


def under_the_kms(machines: Machines, said: str) -> None:
    """The check was good, and the service starts with its own token, with the volumes that it had."""
    check("another id: refused" in said, "the check to try another id", said)
    hand_over_token(machines, "nightlatch-unwrap")
    machines.service.shell.run(
        "install -D --mode=644 units/examples/nightlatchd-kms.conf /etc/systemd/system/nightlatchd.service.d/kms.conf\n"
        "systemctl daemon-reload\nsystemctl restart nightlatchd.service"
    )
    ready = machines.service.shell.run("curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:9464/readyz")
    check("200" in ready, "a service that is ready", ready)


def lost(machines: Machines) -> None:
    """The copy that was kept, and a token of who wraps for the first of the two."""
    hand_over_token(machines, "nightlatch-wrap")
    machines.service.shell.run(f"mv mastersecret.json kept.json\ncp {WRAPPED} .")


def recovered(machines: Machines, _said: str) -> None:
    """The same master secret."""
    plain, kept = (json.loads(machines.service.system.run("cat", f"{BESIDE}/{name}.json")) for name in ("mastersecret", "kept"))
    equal(plain["key"] == kept["key"], True, "whether the master secret is the one before")
