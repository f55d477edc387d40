# SPDX-License-Identifier: Apache-2.0
"""The system the layer-2 cases run in: a plain Debian with device-mapper, built once and kept.

The root is a squashfs image, so that no run can change it; the guest puts a tmpfs over it.
What is under test comes on a second disk (`payload`), so that a new build needs no new root.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import mirror

SUITE = "trixie"
# The first row boots; the second is what is compared with; the third makes and changes disks;
# the last is what nightlatch links to or loads.
PACKAGES = """
    systemd udev kmod linux-image-cloud-amd64 iproute2 procps util-linux
    cryptsetup-bin systemd-cryptsetup systemd-repart tpm2-tools
    btrfs-progs xfsprogs e2fsprogs dosfstools fdisk dmsetup nbdkit nbd-client jq strace time
    swtpm libtss2-esys-3.0.2-0t64 libtss2-rc0t64 libtss2-tctildr0t64
    libtss2-tcti-device0t64 libtss2-tcti-swtpm0t64
""".split()
LEFT_OUT = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"]
# Enough to find the disks and mount the root; the guest loads the rest from the root itself.
INITRD_MODULES = ["virtio_pci", "virtio_blk", "squashfs", "overlay"]
CACHE = Path(__file__).resolve().parent.parent.parent / ".cache"
# Of mksquashfs and sqfstar. Software emulation is slow at decompressing.
UNCOMPRESSED = ["-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX"]
# Raised when what is done with the packages changes.
RECIPE = 2


@dataclass(frozen=True)
class Root:
    """A finished root: image, kernel, and the modules its initrd needs in loading order."""

    directory: Path

    @property
    def image(self) -> Path:
        """The squashfs image."""
        return self.directory / "root.squashfs"

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.directory / "vmlinuz"

    @property
    def modules(self) -> list[Path]:
        """Uncompressed modules, in loading order."""
        return sorted((self.directory / "modules").iterdir())


def prepare() -> Root:
    """The root for today's recipe, built if the cache does not have it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    inputs = repr((RECIPE, SUITE, PACKAGES, LEFT_OUT, INITRD_MODULES))
    directory = CACHE / f"root-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"
    with (CACHE / "root.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            for old in CACHE.glob("root-*"):
                shutil.rmtree(old)
            unfinished = CACHE / "unfinished-root"
            shutil.rmtree(unfinished, ignore_errors=True)
            _build(unfinished)
            unfinished.rename(directory)
    return Root(directory)


def _build(directory: Path) -> None:
    """Installs the packages into an archive, and takes image, kernel and modules from it."""
    print(f"building the test system ({SUITE}, {len(PACKAGES)} packages); kept for later runs")
    (directory / "modules").mkdir(parents=True)
    archive = directory / "root.tar"
    command = ["mmdebstrap", "--variant=apt", "--quiet", f"--include={','.join(PACKAGES)}"]
    options = ['Apt::Install-Recommends "false";', *mirror.apt_options()]
    command += [f"--aptopt={option}" for option in options]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += [SUITE, str(archive), f"deb {mirror.uri()} {SUITE} main"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    with archive.open("rb") as tar_file:
        image = str(directory / "root.squashfs")
        subprocess.run(["sqfstar", *UNCOMPRESSED, image], stdin=tar_file, check=True)
    with tarfile.open(archive) as tar:
        members = {member.name.removeprefix("./"): member for member in tar}
        kernel = next(name for name in members if name.startswith("boot/vmlinuz-"))
        (directory / "vmlinuz").write_bytes(_content(tar, members[kernel]))
        version = kernel.removeprefix("boot/vmlinuz-")
        base = next(n for n in members if n.endswith(f"lib/modules/{version}/modules.dep"))
        tree = PurePosixPath(base).parent
        dependencies = _content(tar, members[base]).decode()
        builtin = _content(tar, members[str(tree / "modules.builtin")]).decode()
        for number, name in enumerate(loading_order(dependencies, builtin, INITRD_MODULES)):
            data = _content(tar, members[str(tree / name)])
            target = directory / "modules" / f"{number:02}-{Path(name).name.split('.')[0]}.ko"
            target.write_bytes(lzma.decompress(data) if name.endswith(".xz") else data)
    archive.unlink()


def loading_order(dependencies: str, builtin: str, wanted: list[str]) -> list[str]:
    """The files of the modules and of all they depend on, from `modules.dep`."""
    needs = {}
    for line in dependencies.splitlines():
        file, _, others = line.partition(":")
        needs[file.split("/")[-1].split(".")[0].replace("-", "_")] = [file, *others.split()]
    present = {line.split("/")[-1].split(".")[0].replace("-", "_") for line in builtin.splitlines()}
    order: list[str] = []
    for name in wanted:
        if name in present:
            continue
        # modules.dep lists what to load first last.
        order += [file for file in reversed(needs[name]) if file not in order]
    return order


def initrd(root: Root, target: Path) -> None:
    """A small initrd that mounts the root with the payload and runs the payload's `init`."""
    tree = target.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "dev", "proc", "sys", "lower", "upper", "root", "modules"):
        (tree / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise RuntimeError("making the initrd: busybox is missing, see tests/setup")
    shutil.copy2(busybox, tree / "bin/busybox")
    for module in root.modules:
        shutil.copy2(module, tree / "modules")
    shutil.copy2(Path(__file__).parent / "guest" / "mount-root", tree / "init")
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    command = ["cpio", "--quiet", "--create", "--format=newc", "--owner=+0:+0"]
    with target.open("wb") as file:
        subprocess.run(command, input=names.encode(), stdout=file, cwd=tree, check=True)
    shutil.rmtree(tree)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise RuntimeError(f"reading {member.name}: it is not a file")
    return file.read()
