# SPDX-License-Identifier: Apache-2.0
"""The machines that the texts' blocks are run on: Debian trees, and in each a shell that is where the last block left it."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import debian_tree
import mirror
import packages
import texts
from debian_tree import Running, Tree
from outcome import check, equal

# What a person would answer where apt asks whether to go on.
ANSWER = 'APT::Get::Assume-Yes "true";\n'
INSTALL = "apt-get install "
# What a machine has that makes initrds for its kernel.
KERNEL = ("linux-image-cloud-amd64",)
# Where a reader begins, on each of them.
BESIDE = "/root/work"
# The service's, in the texts.
ADDRESS = "10.0.0.2/24"
AUDIT = "/var/log/nightlatchd/audit.jsonl"
# What systemctl says where it does nothing.
SKIPPED = ("ignoring command", "Ignoring command", "Running in chroot", "not been booted with systemd")


@dataclass
class Shell:
    """What a reader types into: it keeps its directory from one block to the next."""

    # What makes of a command one that runs inside.
    entered: Callable[[Sequence[str]], list[str]]
    directory: str
    # What the shell is told before each block.
    profile: str = ""

    def command(self, commands: str) -> list[str]:
        """What runs these, and stops at the first that fails, which a reader would see."""
        script = f"{self.profile}\ncd {shlex.quote(self.directory)}\n{commands}\nprintf '\\n%s' \"$PWD\""
        return self.entered(["bash", "-e", "-o", "pipefail", "-c", script])

    def run(self, commands: str) -> str:
        """What they say on both streams; they have to end well."""
        said, _, directory = debian_tree.said(self.command(commands)).rpartition("\n")
        self.directory = directory
        check(not any(words in said for words in SKIPPED), "no command to be skipped", said)
        return said


class Service:
    """The machine that the key service runs on: a Debian whose systemd runs, with an address that the texts have."""

    def __init__(self, system: Running) -> None:
        self.system = system
        self.shell = Shell(system.command, BESIDE)
        network = ["nsenter", f"--net=/proc/{system.process}/ns/net", "ip"]
        for words in (("link", "set", "lo", "up"), ("address", "add", ADDRESS, "dev", "lo")):
            debian_tree.said([*network, *words])
        self._real()

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the service's audit log."""
        path = self.path(AUDIT)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def path(self, path: str) -> Path:
        """A file of that machine, from where its shell is or from the root."""
        # Through its own mounts: what is changed below them while they are there may not be seen.
        return Path(f"/proc/{self.system.process}/root{Path(self.shell.directory) / path}")

    def _real(self) -> None:
        """What the blocks start things with is Debian's, and speaks with the first process."""
        equal(self.system.run("readlink", "/proc/1/exe"), "/usr/lib/systemd/systemd\n", "the first process")
        equal(self.system.run("sh", "-c", "command -v systemctl"), "/usr/bin/systemctl\n", "what is called systemctl")
        verified = self.system.status("dpkg", "--verify", "systemd")[1].splitlines()
        left_out = tuple(pattern.removesuffix("*") for pattern in debian_tree.LEFT_OUT)
        changed = [line for line in verified if not line.split()[-1].startswith(left_out)]
        equal(changed, [], "files of the package systemd that were changed")
        check("active" in self.system.run("systemctl", "is-active", "basic.target"), "a system that has started", "none")


class Machines:
    """All of them. The service's runs from the first time that it is asked for to the end."""

    def __init__(self, work: Path, running: ExitStack) -> None:
        self.work = work
        self._running = running
        self._service: Service | None = None
        self._made = packages.made(packages.archived(), packages.HERE, work / "made")
        self._image = debian_tree.fresh([_with_packages(), debian_tree.system()], work / "image-machine", {})
        _answering(self._image)
        inside(self._image, BESIDE).mkdir(parents=True)
        self.image = Shell(self._image.command, BESIDE)

    @property
    def service(self) -> Service:
        """The one that runs the key service, with a systemd that runs."""
        if self._service is None:
            tree = debian_tree.fresh([debian_tree.system()], self.work / "service-machine", {})
            _answering(tree)
            self.hand_over(self.packages("nightlatchd", "nightlatch-tools"), inside(tree, BESIDE))
            # It has no network but its own: what the packages ask for is fetched before.
            names = texts.called("operate.md#install/2").commands[0].removeprefix(INSTALL)
            tree.run("sh", "-c", f"cd {BESIDE} && {INSTALL}--download-only {names}")
            system = self._running.enter_context(tree.started())
            self._service = Service(system)
        return self._service

    def shell(self, machine: str) -> Shell:
        """Where that machine's blocks are typed."""
        return self.image if machine == "image" else self.service.shell

    def here(self, path: str) -> Path:
        """A file of the machine that images are built on, from where its shell is or from the root."""
        return inside(self._image, str(Path(self.image.directory) / path))

    def packages(self, *names: str) -> list[Path]:
        """Those of that name."""
        made = packages.packages(self._made)
        return [made[name] for name in names]

    def hand_over(self, files: Sequence[Path], directory: Path) -> None:
        """What a person copies from one machine to another."""
        directory.mkdir(parents=True, exist_ok=True)
        for path in files:
            shutil.copyfile(path, directory / path.name)


def inside(tree: Tree, path: str) -> Path:
    """Where what was changed at a path of a tree is on this machine."""
    return tree.changes / "upper" / path.removeprefix("/")


def _answering(tree: Tree) -> None:
    """Has apt go on without asking."""
    place = tree.changes / "upper/etc/apt/apt.conf.d"
    place.mkdir(parents=True, exist_ok=True)
    (place / "95answer").write_text(ANSWER, encoding="ascii")


def named_packages(block: str) -> list[str]:
    """What a block has apt install of Debian's own."""
    lines = texts.called(block).text.replace("\\\n", " ").splitlines()
    words = [word for line in lines if line.startswith(INSTALL) for word in line.removeprefix(INSTALL).split()]
    return [word for word in words if not word.startswith("./")]


def _with_packages() -> Path:
    """What of Debian's own the texts have installed where images and initrds are made, and a kernel; kept for later runs."""
    blocks = ("image.md#build-the-programs/3", "image.md#dracut/1")
    names = [*KERNEL, *(name for block in blocks for name in named_packages(block))]
    below = debian_tree.system()

    def install(place: Path) -> None:
        """As the blocks do."""
        tree = Tree([below], place, {})
        _answering(tree)
        tree.run("sh", "-c", f"{INSTALL}{' '.join(names)} && apt-get clean")
        for name in ("tree", "work"):
            shutil.rmtree(place / name)

    return debian_tree.kept("docs-image", [*debian_tree.SYSTEM, *names], install) / "upper"


def told_of_mirror(directory: Path) -> None:
    """Has mkosi take packages from where this machine does: in a project, it hands these to its apt."""
    sources = directory / "etc/apt/sources.list.d/mkosi.sources"
    sources.parent.mkdir(parents=True)
    lines = ["Types: deb", f"URIs: {mirror.uri()}", f"Suites: {debian_tree.SUITE}", "Components: main"]
    sources.write_text("\n".join([*lines, f"Signed-By: {mirror.KEYRING}", ""]), encoding="ascii")
    options = directory / "etc/apt/apt.conf.d/90mirror"
    options.parent.mkdir(parents=True)
    options.write_text("".join(f"{line}\n" for line in mirror.apt_options()), encoding="ascii")
