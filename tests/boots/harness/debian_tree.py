# SPDX-License-Identifier: Apache-2.0
"""A Debian 13 to install packages in: trees that are made once and kept, and programs run as if one were the machine's."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mirror
import root
from outcome import check

SUITE = "trixie"
ENTER = Path(__file__).resolve().parent / "enter-tree"
# The system that packages are installed in, with the shells that complete words, what rotates logs, and what makes
# certificates; nothing of it is of ours, nor what ours depend on.
SYSTEM = "systemd systemd-sysv udev man-db bash-completion zsh fish logrotate openssl".split()
# What makes packages out of programs, and what looks at them: dpkg-shlibdeps asks for the libraries.
TOOLS = """
    debhelper lintian faketime
    libcryptsetup12 libtss2-esys-3.0.2-0t64 libtss2-mu-4.0.1-0t64 libtss2-tctildr0t64
""".split()
# What nobody reads here.
LEFT_OUT = ["/usr/share/locale/*", "/usr/share/info/*"]
# Raised when what is done with the packages changes.
RECIPE = 1
# How often to look whether the tree's systemd is there.
POLL_SECONDS = 0.05
# Where it can be spoken with, below /proc/PROCESS.
SOCKET = "root/run/systemd/private"


@dataclass(frozen=True)
class Tree:
    """Directories over each other, and one for what is changed in them."""

    lowers: Sequence[Path]
    changes: Path
    # Directories of this machine, and where they are inside.
    shared: Mapping[Path, str]

    def command(self, words: Sequence[str]) -> list[str]:
        """What runs a command inside."""
        shared = [word for here, inside in self.shared.items() for word in ("--share", str(here), inside)]
        return [str(ENTER), ":".join(map(str, self.lowers)), str(self.changes), *shared, *words]

    def run(self, *words: str) -> str:
        """What a command inside says, on both streams; it has to end well."""
        return said(self.command(words))

    @contextmanager
    def started(self) -> Iterator[Running]:
        """The tree as a system of its own, without a network, while the body runs."""
        log = self.changes / "system.log"
        environment = {**os.environ, "NIGHTLATCH_NO_NETWORK": "yes"}
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.command(["/usr/lib/systemd/systemd"]),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        running = Running(_first(process))
        try:
            # It waits for the end of the start, and is 1 where a unit has failed, as some do in a container.
            running.status("systemctl", "is-system-running", "--wait")
            yield running
        finally:
            # All that runs in the tree ends with its first process.
            os.kill(running.process, signal.SIGKILL)
            process.wait()


@dataclass(frozen=True)
class Running:
    """A tree that systemd was started in."""

    # Of systemd, as this machine numbers it.
    process: int

    def run(self, *words: str) -> str:
        """What a command inside says, on both streams; it has to end well."""
        return said(self.command(words))

    def status(self, *words: str) -> tuple[int, str]:
        """How a command inside ends, and what it says."""
        return ended(self.command(words))

    def command(self, words: Sequence[str]) -> list[str]:
        """What runs a command inside."""
        spaces = [f"--{name}" for name in ("mount", "pid", "ipc", "uts", "cgroup", "net")]
        place = "PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive".split()
        return ["nsenter", f"--target={self.process}", *spaces, "env", "--ignore-environment", *place, *words]


def ended(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """How a command ends, and what it says on both streams."""
    done = subprocess.run(
        command,
        check=False,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout


def said(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command says that has to end well."""
    status, text = ended(command, environment)
    check(status == 0, f"{' '.join(command)[-300:]} to end well", f"{status}\n{text}")
    return text


def _first(process: subprocess.Popen[bytes]) -> int:
    """The first process of the tree, once it is systemd and can be spoken with: a descendant of the one that was started."""
    while process.poll() is None:
        for number in _below(process.pid):
            there = Path(f"/proc/{number}")
            try:
                # Others above it have the same root by now.
                if (there / "comm").read_text(encoding="ascii") == "systemd\n" and (there / SOCKET).is_socket():
                    return number
            except OSError:
                continue
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"the tree's systemd ended with {process.returncode}")


def _below(number: int) -> list[int]:
    """All processes below one."""
    try:
        children = Path(f"/proc/{number}/task/{number}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in (child, *_below(child))]


def system() -> Path:
    """A Debian without anything of ours."""
    return kept("system", [*SYSTEM, *LEFT_OUT], _bootstrap)


def tools() -> list[Path]:
    """The same with what makes packages, as directories over each other."""
    below = system()

    def install(place: Path) -> None:
        tree = Tree([below], place, {})
        tree.run("apt-get", "--quiet", "--yes", "install", *TOOLS)
        # Of the mounts of that command only these are left.
        for name in ("tree", "work"):
            shutil.rmtree(place / name)

    return [kept("tools", [*SYSTEM, *LEFT_OUT, *TOOLS], install) / "upper", below]


def fresh(lowers: Sequence[Path], changes: Path, shared: Mapping[Path, str]) -> Tree:
    """A tree in which nothing was changed yet."""
    emptied(changes)
    return Tree(lowers, changes, shared)


def emptied(directory: Path) -> None:
    """A directory with nothing in it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def kept(name: str, packages: Sequence[str], make: Callable[[Path], None]) -> Path:
    """The directory that `make` has filled for these packages, now or in an earlier run."""
    root.CACHE.mkdir(parents=True, exist_ok=True)
    inputs = repr((RECIPE, SUITE, packages))
    directory = root.CACHE / f"debian-{name}-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"
    with (root.CACHE / "debian.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            for old in root.CACHE.glob(f"debian-{name}-*"):
                shutil.rmtree(old)
            unfinished = root.CACHE / f"unfinished-debian-{name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(directory)
    return directory


def _bootstrap(directory: Path) -> None:
    """Installs the system. What apt is told of the mirror stays in it, for the packages that are installed later."""
    print(f"building a Debian ({SUITE}) to install packages in; kept for later runs", flush=True)
    command = ["mmdebstrap", "--variant=apt", "--quiet", f"--include={','.join(SYSTEM)}"]
    options = ['Apt::Install-Recommends "false";', *mirror.apt_options()]
    command += [f"--aptopt={option}" for option in options]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    # mmdebstrap leaves no lists; without them apt finds nothing to install.
    command += ["--skip=cleanup/apt/lists", SUITE, str(directory), f"deb {mirror.uri()} {SUITE} main"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
