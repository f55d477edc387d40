# SPDX-License-Identifier: Apache-2.0
"""nightlatchd on this machine, for nodes in virtual machines."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import image
import uki
from authority import Authority, Identity
from calibration import limit
from image import CONFIG_PATH, PROGRAMS, PROJECT, TARGET, Image, Say

# Where a node finds a service: the addresses in mkosi/demo/service, and what certificates of the tests are for.
ADDRESSES = ("10.0.2.100", "10.0.2.101")
LOOPBACK = "127.0.0.1"
# Of the tests' own build, where it is made anyway.
DAEMON = TARGET / "debug" / "nightlatchd"
CONTROL = PROGRAMS / "nightlatchctl"
START_TIMEOUT_SECONDS = limit(30)
STOP_TIMEOUT_SECONDS = limit(30)
ANSWER_TIMEOUT_SECONDS = limit(5)
POLL_SECONDS = 0.05
# For nodes that come up without the service: many times what it takes to answer one, and all that a boot without it waits.
ASKED_LIMIT_SECONDS = limit(10)
SERVICE_TABLE = f"""
[service]
urls = ["https://10.0.2.100", "https://10.0.2.101"]
ca = "/etc/nightlatch/service-ca.pem"
deadline-s = {ASKED_LIMIT_SECONDS:.0f}
"""
CONFIG = """\
listen = "127.0.0.1:{port}"
operations-listen = "127.0.0.1:{operations_port}"
policy = "{directory}/policy.toml"
audit = "{directory}/audit.jsonl"

[tls]
certificate = "{identity.certificate}"
key = "{identity.key}"

[secret]
master = "file:{secrets}/mastersecret.json"
measurement-salt = "file:{secrets}/measurement-salt"

[store]
sqlite = "{directory}/store.sqlite"

[admin]
listen = "{admin}"
certificate = "{operators.desk.certificate}"
key = "{operators.desk.key}"
client-ca = "{operators.ca}"
"""


@dataclass(frozen=True)
class Operators:
    """Who operates the services, and where they are listened to."""

    ca: Path
    desk: Identity
    person: Identity

    @classmethod
    def known(cls) -> Operators:
        """The ones that every service knows."""
        ours = authority("operators")
        return cls(ours.certificate, ours.server(LOOPBACK), ours.client("operator"))


class KeyService:
    """One service: its files below a directory, and a process while it runs."""

    def __init__(self, directory: Path, identity: Identity, policy: str) -> None:
        """A new service with secrets of its own; it does not run yet."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.directory = directory.absolute()
        self.port = free_port()
        self._operations_port = free_port()
        self._operators = Operators.known()
        self._admin = f"{LOOPBACK}:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        secrets = self.directory / "secrets"
        command = [str(DAEMON), "init", "--directory", str(secrets)]
        subprocess.run(command, check=True, capture_output=True)
        self.admit(policy)
        self._config = self.directory / "nightlatchd.toml"
        text = CONFIG.format(
            directory=self.directory,
            identity=identity,
            admin=self._admin,
            operators=self._operators,
            operations_port=self._operations_port,
            port=self.port,
            secrets=secrets,
        )
        self._config.write_text(text, encoding="utf-8")

    def __enter__(self) -> KeyService:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def admit(self, policy: str) -> None:
        """Puts this policy in the place of the one before; a service that runs takes it over."""
        unfinished = self.directory / "policy.new"
        unfinished.write_text(policy, encoding="utf-8")
        unfinished.rename(self.policy)

    def start(self) -> None:
        """Starts the service and returns when it is ready."""
        with (self.directory / "nightlatchd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(DAEMON), "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / "nightlatchd.log").read_text(errors="replace")
                self.stop()
                raise RuntimeError(f"starting nightlatchd: it is not ready:\n{said}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Asks the service to end, and waits for it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def readmit(self, uuid: str) -> None:
        """An operator says that the node of this volume has lost its TPM."""
        command = [str(CONTROL), "nodes", "readmit", uuid, "--server", f"https://{self._admin}"]
        person = self._operators.person
        command += ["--cert", str(person.certificate), "--key", str(person.key)]
        subprocess.run([*command, "--ca", str(self._operators.ca)], check=True)

    @property
    def policy(self) -> Path:
        """What it judges nodes by."""
        return self.directory / "policy.toml"

    @property
    def master_secret(self) -> Path:
        """What the volumes' keys are derived from."""
        return self.directory / "secrets" / "mastersecret.json"

    def audit(self) -> list[dict[str, Any]]:
        """The audit log."""
        path = self.directory / "audit.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def _ready(self) -> bool:
        url = f"http://127.0.0.1:{self._operations_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_SECONDS) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def program(say: Say) -> None:
    """Builds the service."""
    say("building the key service")
    command = ["cargo", "build", "--locked", "--features", "software-tpm", "--bin", "nightlatchd"]
    ended = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise RuntimeError(f"building the key service: cargo ended with {ended.returncode}\n{ended.stderr}")


def authority(name: str) -> Authority:
    """One of the tests' certificate authorities: `trusted` by the nodes, `foreign` to them."""
    return Authority(image.CACHE / f"authority-{name}", f"nightlatch test authority, {name}")


def service_image(demo: Image, say: Say) -> Image:
    """The demo image with a configuration that has a key service, and the certificate that vouches for it."""
    say("putting the configuration for a key service into the image")
    config = (PROJECT / "mkosi/demo/service" / CONFIG_PATH).read_text(encoding="utf-8")
    return _with_config(demo, config, "service")


def enrolling_image(demo: Image, say: Say) -> Image:
    """The demo image with its own configuration and the key service as the first source, for nodes that come up without."""
    say("putting a key service in front of what the image has by itself")
    config = image.demo_config()
    alone = 'sources = ["tpm", "generate"]'
    if alone not in config:
        raise RuntimeError(f"expected {alone} in {CONFIG_PATH} of mkosi/demo/initrd")
    config = config.replace(alone, 'sources = ["service", "tpm", "generate"]')
    return _with_config(demo, config + SERVICE_TABLE, "enrolling")


def recovering_image(demo: Image, say: Say) -> Image:
    """The demo image whose volumes' secrets are the key service's and sealed to the TPM, and that waits for an operator where
    neither has them."""
    say("putting a key service and an operator's key into the image")
    config = image.demo_config()
    alone = 'sources = ["tpm", "generate"]'
    if alone not in config:
        raise RuntimeError(f"expected {alone} in {CONFIG_PATH} of mkosi/demo/initrd")
    config = config.replace(alone, 'sources = ["tpm", "service", "recovery"]')
    table = f'\n[recovery]\noperators = ["{operator_key("operator").public}"]\n'
    return _with_config(demo, config + SERVICE_TABLE + table, "recovering")


@dataclass(frozen=True)
class OperatorKey:
    """An operator's key in OpenSSH's form."""

    path: Path

    @property
    def public(self) -> str:
        """The line that a configuration names it by."""
        return self.path.with_suffix(".pub").read_text("ascii").strip()


def operator_key(name: str) -> OperatorKey:
    """The key of somebody called that, made when it is first used."""
    key = OperatorKey(image.CACHE / "operators" / name)
    if not key.path.exists():
        key.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = key.path.with_name(f"{name}.new")
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(unfinished)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        unfinished.with_name(f"{name}.new.pub").rename(key.path.with_suffix(".pub"))
        unfinished.rename(key.path)
    return key


def _with_config(demo: Image, config: str, name: str) -> Image:
    """The demo image with another configuration, and the certificate that vouches for the service."""
    trusted = authority("trusted")
    # Made here, before nodes with this image and their services run beside each other.
    trusted.server(*ADDRESSES)
    Operators.known()
    certificate = trusted.certificate.read_text("ascii")
    files = {CONFIG_PATH: config, "etc/nightlatch/service-ca.pem": certificate}
    return uki.with_initrd_files(demo, files, name)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
