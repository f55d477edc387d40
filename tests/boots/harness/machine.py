# SPDX-License-Identifier: Apache-2.0
"""A QEMU virtual machine with disks, a TPM, a console log and ports for results.

    tpm = Tpm(work / "tpm", log=True)
    disk = Disk.blank(work / "disk.img", 4 << 30, serial="state")
    boot = Uefi(vars_file=work / "vars.fd")            # or Kernel(kernel, initrd, append)
    with Machine(work / "boot1", boot, disks=[disk], tpm=tpm) as machine:
        ended = machine.wait(BOOT_TIMEOUT_SECONDS, on_line=print)
    assert ended.how == "guest-shutdown" and ended.results == ["passed"]

The guest writes its results to `/dev/virtio-ports/nightlatch.result`. What it prints on its
console goes to a log for people; no verdict is ever read from there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import accel
import secure_boot
import slots
from qmp import Monitor
from tpm import Tpm

__all__ = ["Disk", "Ended", "Kernel", "Machine", "Tpm", "Uefi"]

RESULT_PORT = "nightlatch.result"
OVMF = Path("/usr/share/OVMF")
WITHOUT_SMM = ("-machine", "q35,smm=off")
# Firmware that keeps its variables from the system writes them in system management mode.
WITH_SMM = ("-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on")
# A file in the machine's directory: see phases.py.
TIMES = "times"
POLL_SECONDS = 0.1
# virtio-blk has 20 bytes for it; QEMU cuts without a word.
SERIAL_MAX_BYTES = 20


@dataclass(frozen=True)
class Disk:
    """A raw image as a virtio disk, seen as `/dev/disk/by-id/virtio-SERIAL`."""

    path: Path
    serial: str
    readonly: bool = False
    discard_writes: bool = False
    # Tried by the firmware before any other: PCR 4 has what was tried in vain.
    first: bool = False

    @staticmethod
    def blank(path: Path, size_bytes: int, serial: str) -> Disk:
        """A new sparse image; an old one at `path` is gone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.truncate(size_bytes)
        return Disk(path, serial)

    def arguments(self, number: int) -> list[str]:
        """QEMU's arguments for the disk."""
        if len(self.serial.encode()) > SERIAL_MAX_BYTES:
            raise ValueError(f"{self.serial}: a serial has at most {SERIAL_MAX_BYTES} bytes")
        # Images are thrown away, and killing QEMU does not lose the host's page cache: no fsync.
        drive = f"if=none,id=disk{number},file={escaped(self.path)},format=raw,discard=unmap"
        drive += f",cache=unsafe,readonly={'on' if self.readonly else 'off'}"
        drive += f",snapshot={'on' if self.discard_writes else 'off'}"
        device = f"virtio-blk-pci,drive=disk{number},serial={self.serial}"
        device += ",bootindex=0" if self.first else ""
        return ["-drive", drive, "-device", device]


@dataclass(frozen=True)
class Kernel:
    """Boots a kernel directly, or by way of the firmware: see `Uefi`."""

    kernel: Path
    initrd: Path
    append: str
    machine = WITHOUT_SMM

    def arguments(self) -> list[str]:
        """QEMU's arguments for the boot."""
        append = f"console=ttyS0 {self.append}"
        return ["-kernel", str(self.kernel), "-initrd", str(self.initrd), "-append", append]


@dataclass(frozen=True)
class Uefi:
    """Boots OVMF, its variables kept in `vars_file`: if that is absent, those of a machine that its owner got ready."""

    vars_file: Path
    secure_boot: bool = True
    # What the firmware starts in place of what is on the disks.
    kernel: Kernel | None = None

    @property
    def machine(self) -> Sequence[str]:
        """QEMU's arguments for the kind of machine."""
        return WITH_SMM if self.secure_boot else WITHOUT_SMM

    def arguments(self) -> list[str]:
        """QEMU's arguments for the boot."""
        if not self.vars_file.exists():
            self.vars_file.parent.mkdir(parents=True, exist_ok=True)
            if self.secure_boot:
                secure_boot.owner().variables(self.vars_file)
            else:
                shutil.copyfile(secure_boot.TEMPLATE, self.vars_file)
        flash = "if=pflash,format=raw"
        code = OVMF / f"OVMF_CODE_4M{'.secboot' if self.secure_boot else ''}.fd"
        command = ["-drive", f"{flash},unit=0,readonly=on,file={escaped(code)}"]
        command += ["-drive", f"{flash},unit=1,file={escaped(self.vars_file)}"]
        return command + (self.kernel.arguments() if self.kernel else [])


@dataclass
class Ended:
    """How a machine ended, and what it reported."""

    # QEMU's reason (`guest-shutdown`, `guest-reset`, `guest-panic`), or `killed` by the caller,
    # `timeout`, `silent`, or `qemu-failed`.
    how: str
    seconds: float
    # The lines of each port; an unfinished last line counts.
    ports: dict[str, list[str]] = field(default_factory=dict)

    @property
    def results(self) -> list[str]:
        """The lines of the result port."""
        return self.ports.get(RESULT_PORT, [])


class Machine:
    """A machine that runs from construction until `wait` returns or `kill` is called."""

    def __init__(
        self,
        directory: Path,
        boot: Kernel | Uefi,
        *,
        disks: Sequence[Disk] = (),
        tpm: Tpm | None = None,
        memory_mib: int = 2048,
        cpus: int = 1,
        ports: Sequence[str] = (RESULT_PORT,),
        forwards: Mapping[str, int] | None = None,
        listens: Mapping[int, int] | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        """Starts the machine once there is a place for it; `directory` gets its console log and one file per port.

        One processor, because an emulated second one costs a sixth more of the computer's time and ends no sooner.
        With `forwards` or `listens` it has a network card, see `network`.
        """
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.console = self.directory / "console.log"
        self._ports = {name: self.directory / f"port-{name}" for name in ports}
        self._tpm = tpm
        self._killed = False
        self.monitor: Monitor | None = None
        # A socket's path has at most 107 bytes, a working directory may be longer.
        self._sockets = tempfile.TemporaryDirectory(prefix="nightlatch-vm-")
        for path in (self.console, *self._ports.values()):
            path.write_bytes(b"")
        (self.directory / TIMES).unlink(missing_ok=True)
        command = [accel.QEMU, *boot.machine, *accel.arguments(), "-S", "-nodefaults"]
        command += ["-m", str(memory_mib), "-smp", str(cpus), "-display", "none"]
        has_network = forwards or listens
        command += network(forwards or {}, listens or {}) if has_network else ["-nic", "none"]
        command += ["-no-reboot", "-no-user-config", "-device", "virtio-rng-pci"]
        command += ["-serial", f"file:{self.console}", *boot.arguments(), *self._channels()]
        for number, disk in enumerate(disks):
            command += disk.arguments(number)
        self._place = slots.take()
        if tpm is not None:
            tpm.start()
            command += ["-chardev", f"socket,id=tpm,path={escaped(tpm.socket)}"]
            command += ["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]
        self._run([*command, *extra])

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()

    def _channels(self) -> list[str]:
        """The monitor and the ports."""
        arguments = ["-qmp", f"unix:{self._sockets.name}/qmp,server=on,wait=off"]
        arguments += ["-device", "virtio-serial-pci"]
        for number, (name, path) in enumerate(self._ports.items()):
            arguments += ["-chardev", f"file,id=port{number},path={escaped(path)}"]
            arguments += ["-device", f"virtserialport,chardev=port{number},name={name}"]
        return arguments

    def _run(self, command: list[str]) -> None:
        with (self.directory / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._started = time.monotonic()
        self._began = time.time()
        try:
            self.monitor = Monitor(Path(self._sockets.name) / "qmp", self._process)
            self.monitor.send("cont")
        except OSError as error:
            self.kill()
            said = (self.directory / "qemu.log").read_text(errors="replace").strip()
            raise RuntimeError(f"starting QEMU: {said or error}") from error

    def seconds(self) -> float:
        """How long the machine has been running."""
        return time.monotonic() - self._started

    def is_running(self) -> bool:
        """Whether QEMU is still there."""
        return self._process.poll() is None

    def follow(self, port: str) -> Follower:
        """What the guest writes to `port`, for those who do not `wait` for it."""
        return Follower(self._ports[port])

    def kill(self, with_tpm: bool = False) -> None:
        """Cuts the power: SIGKILL, no chance for the guest to write anything.

        With it goes the TPM's, if asked for; else that one ends what it is doing.
        """
        if self.is_running():
            self._killed = True
            self._process.kill()
            if with_tpm and self._tpm is not None:
                self._tpm.kill()
            self._process.wait()
        if self.monitor is not None:
            self.monitor.close()
        if self._tpm is not None:
            self._tpm.stop()
        self._place.close()
        self._sockets.cleanup()
        self._write_down()

    def _write_down(self) -> None:
        """When the machine began and ended, in seconds since 1970, for phases.py."""
        path = self.directory / TIMES
        if not path.exists():
            path.write_text(f"{self._began:.2f} {time.time():.2f}\n", encoding="ascii")

    def wait(
        self,
        timeout_seconds: float,
        on_line: Callable[[str], None] | None = None,
        *,
        port: str = RESULT_PORT,
        until: Callable[[str], bool] | None = None,
        silence_seconds: float | None = None,
        silence_after_first_seconds: float | None = None,
    ) -> Ended:
        """Waits for the end, giving each line of `port` to `on_line` as it comes.

        A line for which `until` is true cuts the power at that moment. No line for
        `silence_seconds` is an end too, or, once there was one, for `silence_after_first_seconds`
        where that is given.
        """
        how = None
        silence = silence_seconds
        heard = self.seconds()
        with Follower(self._ports[port]) as follower:
            while how is None:
                ended = self._process.poll() is not None
                for line in follower.lines(last=ended):
                    heard = self.seconds()
                    silence = silence_after_first_seconds or silence_seconds
                    if on_line:
                        on_line(line)
                    if until and until(line):
                        self.kill()
                if ended:
                    how = self._reason()
                elif self.seconds() > timeout_seconds:
                    how = "timeout"
                elif silence and self.seconds() - heard > silence:
                    how = "silent"
                else:
                    time.sleep(POLL_SECONDS)
        seconds = self.seconds()
        self.kill()
        ports = {name: read_lines(path) for name, path in self._ports.items()}
        return Ended(how, seconds, ports)

    def _reason(self) -> str:
        if self._killed:
            return "killed"
        self._process.wait()
        if self.monitor is None:
            return "qemu-failed"
        self.monitor.close()
        return self.monitor.reason() or "qemu-failed"


def network(forwards: Mapping[str, int], listens: Mapping[int, int]) -> list[str]:
    """A network card with DHCP on a network of its own, 10.0.2.0/24, where there is nothing but `forwards`.

    Each is an address and port as the guest sees it (`10.0.2.100:443`), and a port on this machine's loopback. What
    listens there need not have started when the guest does: every connection is a process of its own. `listens` are ports of
    this machine's loopback, and those of the guest that they lead to.
    """
    options = "user,id=net0,restrict=on"
    for address, port in forwards.items():
        # What is written to standard error would go to the guest as well.
        connect = f"sh -c 'exec busybox nc 127.0.0.1 {port} 2>/dev/null'"
        options += f",guestfwd=tcp:{address}-cmd:{connect}"
    for port, inside in listens.items():
        options += f",hostfwd=tcp:127.0.0.1:{port}-:{inside}"
    return ["-netdev", options, "-device", "virtio-net-pci,netdev=net0"]


class Follower:
    """The lines of a file that grows."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def lines(self, last: bool) -> list[str]:
        """The lines complete by now; with `last`, also what has no line end."""
        *complete, self._rest = (self._rest + self._file.read()).split(b"\n")
        if last and self._rest:
            complete.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace") for line in complete]


def read_lines(path: Path) -> list[str]:
    """All lines of a port's file."""
    return path.read_bytes().decode(errors="replace").splitlines()


def escaped(path: os.PathLike[str]) -> str:
    """A path as a value in QEMU's option lists, where a comma separates."""
    return os.fspath(path).replace(",", ",,")
