# SPDX-License-Identifier: Apache-2.0
"""Builds the images of the boot-chain tests and the demo, and keeps them until an input changes.

    image.py          builds the demo image and says where it is
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mirror
import secure_boot

PROJECT = Path(__file__).resolve().parent.parent.parent.parent
CACHE = PROJECT / "tests" / ".cache" / "mkosi"
SUITE = "trixie"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
PROGRAMS = TARGET / "release"
Say = Callable[[str], None]


# What software emulation is slow at is left out: the root is not compressed (see systemd-repart(8) for the variable), and
# the initrd for boots without firmware is unpacked but for its modules.
UNCOMPRESSED = "SYSTEMD_REPART_MKFS_OPTIONS_SQUASHFS=-noI -noD -noF -noX"

# Of both images: see KernelCommandLine= in mkosi/demo/image/mkosi.conf.
COMMON_OPTIONS = "quiet systemd.gpt_auto=no systemd.import_credentials=no no_timer_check nohibernate"
# What is asked of the command line in addition where Secure Boot is not.
WITHOUT_SECURE_BOOT = "efi=noruntime"
# Where the initrd has the certificate of who signs the image.
AUTHORITY_PATH = "etc/nightlatch/authority.pem"
# And the public key of who signs its PCR 11.
PCR_KEY_PATH = "etc/nightlatch/pcr.pem"
CONFIG_PATH = "etc/nightlatch/nightlatch.toml"
# What a configuration of the demo's says of the boot, and what it says where Secure Boot is off.
PCRS = "pcrs = [4, 7, 11, 12, 13]"
WITHOUT_SECURE_BOOT_CONFIG = {
    f'authorities = ["/{AUTHORITY_PATH}"]': 'secure-boot = "not-required"\nfirst-boot = "trusted"',
    PCRS: "pcrs = [2, 4, 9, 12]",
}
# The same where it is sealed to a key that signs images, and not to one image.
SIGNED_CONFIG = {PCRS: f'signed.keys = ["/{PCR_KEY_PATH}"]'}


@dataclass(frozen=True)
class Image:
    """A disk to boot from, and the same kernel and initrd for boots without Secure Boot."""

    disk: Path
    kernel: Path
    # For boots without Secure Boot.
    initrd: Path
    # The one in the unified kernel image, compressed.
    packed: Path
    # What makes the kernel's command line find the root.
    root: str

    @property
    def append(self) -> str:
        """The kernel command line for a boot without Secure Boot."""
        return f"{self.root} {COMMON_OPTIONS} {WITHOUT_SECURE_BOOT}"

    @property
    def command_line(self) -> str:
        """The command line in the unified kernel image."""
        return f"{self.root} console=ttyS0 {COMMON_OPTIONS}"


def programs(say: Say) -> None:
    """Builds the programs that go into the images, as they ship.

    Without what is the key service's alone: neither has any of it either way, and a program that named it would not
    compile.
    """
    say("building the programs")
    command = ["cargo", "build", "--release", "--locked", "--no-default-features"]
    _run("cargo", [*command, "--bin", "nightlatch", "--bin", "nightlatchctl"], cwd=PROJECT)


def daemon(say: Say) -> None:
    """Builds the key service, as it ships."""
    say("building the key service")
    _run("cargo-daemon", ["cargo", "build", "--release", "--locked", "--bin", "nightlatchd"], cwd=PROJECT)


def demo(say: Say) -> Image:
    """The demo image: UKI signed by the owner of the tests' machines, verity root, ESP."""
    here = PROJECT / "mkosi"
    signer = secure_boot.owner().programs

    def make() -> None:
        tools = _staged("tools")
        say("building the initrd")
        certificate = f"--extra-tree={signer.certificate}:/{AUTHORITY_PATH}"
        _mkosi(here / "demo/initrd", [_staged("initrd")], [certificate])
        say("building the image: signed unified kernel image, verity root")
        packed = CACHE / "initrd.cpio.zst"
        options = [f"--initrd={packed}", f"--environment={UNCOMPRESSED}"]
        options += [f"--secure-boot-key={signer.key}"]
        options += [f"--secure-boot-certificate={signer.certificate}"]
        _mkosi(here / "demo/image", [tools], options)
        unpacked = CACHE / "image.unpacked-initrd"
        _unpack(CACHE / "image.initrd", packed, unpacked)
        with_files(unpacked, {CONFIG_PATH: without_secure_boot(demo_config())}, unpacked)

    inputs = [Path(__file__), here / "demo/initrd", here / "demo/image", here / "secure-boot"]
    inputs += [here / "initrd", here / "install", here / "close-initrd", signer.certificate]
    _unless_kept("demo", [*inputs, *_programs()], make)
    disk = CACHE / "image.raw"
    root = f"roothash={_root_hash(disk)}"
    names = ("image.vmlinuz", "image.unpacked-initrd", "image.initrd")
    kernel, initrd, packed = (CACHE / name for name in names)
    return Image(disk, kernel, initrd, packed, root)


def demo_config() -> str:
    """The configuration in the demo image."""
    tree = PROJECT / "mkosi/demo/initrd/mkosi.extra"
    return (tree / CONFIG_PATH).read_text(encoding="utf-8")


def without_secure_boot(config: str) -> str:
    """A configuration of the demo's, for boots of the image's kernel by the firmware, with Secure Boot off."""
    return _changed(config, WITHOUT_SECURE_BOOT_CONFIG)


def signed(config: str) -> str:
    """A configuration of the demo's, for images that carry a signature of their PCR 11."""
    return _changed(config, SIGNED_CONFIG)


def _changed(config: str, changes: Mapping[str, str]) -> str:
    for wanted, instead in changes.items():
        if wanted not in config:
            raise RuntimeError(f"expected {wanted!r} in a configuration of the demo's")
        config = config.replace(wanted, instead)
    return config


def dracut(say: Say) -> Image:
    """A plain Debian with an initrd of its own dracut."""
    here = PROJECT / "tests/boots/dracut-image"
    name = CACHE / "dracut"

    def make() -> None:
        say("building a Debian, and its initrd with dracut")
        _mkosi(here, [_staged("system")])

    inputs = [here, *(PROJECT / name for name in ("mkosi/demo/initrd", "mkosi/demo/image"))]
    inputs += [PROJECT / "mkosi/initrd/network", PROJECT / "mkosi/install", PROJECT / "dracut"]
    inputs += [PROJECT / "mkosi/close-initrd"]
    _unless_kept("dracut", [*inputs, *_programs()], make)
    disk, kernel, initrd = (name.with_suffix(s) for s in (".raw", ".vmlinuz", ".initrd"))
    return Image(disk, kernel, initrd, initrd, "root=/dev/mapper/system")


def with_files(initrd: Path, files: dict[str, str], target: Path) -> Path:
    """An initrd with files added or replaced; those below a `bin` are made executable."""
    tree = target.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
            continue
        path.write_text(content, encoding="utf-8")
        path.chmod(0o755 if path.parent.name == "bin" else 0o644)
    # Only what is new, and its directories: the kernel unpacks one archive over the other.
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    command = ["cpio", "--quiet", "--create", "--format=newc", "--owner=+0:+0"]
    made = subprocess.run(command, check=True, cwd=tree, input=names.encode(), capture_output=True)
    before = initrd.read_bytes()
    # An archive begins at a multiple of four.
    target.write_bytes(before + bytes(-len(before) % 4) + made.stdout)
    shutil.rmtree(tree)
    return target


def _unpack(initrd: Path, packed: Path, target: Path) -> None:
    """Writes an initrd anew that begins with `packed`, without the compression of that part, which is the largest."""
    command = ["zstd", "--decompress", "--quiet", "--stdout", str(packed)]
    first = subprocess.run(command, check=True, capture_output=True).stdout
    whole, start = initrd.read_bytes(), packed.read_bytes()
    if not whole.startswith(start):
        raise RuntimeError(f"expected {initrd} to begin with {packed}")
    # An archive begins at a multiple of four, and there are only zeros in front of it.
    padding = bytes(-len(first) % 4)
    target.write_bytes(first + padding + whole[len(start) :].lstrip(b"\0"))


def _root_hash(disk: Path) -> str:
    """The verity root hash: the identifiers of the data and the hash partition, in a row.

    That is how systemd-repart names them and systemd-veritysetup-generator finds them.
    """
    table = _output(["sfdisk", "--json", str(disk)])
    partitions = json.loads(table)["partitiontable"]["partitions"]
    named = {partition["name"]: partition["uuid"] for partition in partitions}
    identifiers = (named[name] for name in ("root-x86-64", "root-x86-64-verity"))
    return "".join(identifiers).replace("-", "").lower()


def _programs() -> list[Path]:
    names = ("nightlatch", "nightlatchctl")
    return [PROJECT / "units", *(PROGRAMS / name for name in names)]


def _staged(kind: str) -> Path:
    """A fresh tree with our own files, see mkosi/install."""
    tree = CACHE / f"tree-{kind}"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    _run("install", [str(PROJECT / "mkosi/install"), kind, str(tree), str(PROGRAMS)])
    return tree


def _mkosi(directory: Path, trees: Sequence[Path], extra: Sequence[str] = ()) -> None:
    """Runs mkosi on one configuration; its packages come from where the machine's own do."""
    command = ["mkosi", f"--directory={directory}", *package_options()]
    # One cache for each: its key in there does not say what the packages are for.
    cache = _made(CACHE / "cache" / directory.name)
    command += [f"--output-dir={CACHE}", f"--cache-dir={cache}", "--incremental=yes", "--force"]
    command += [f"--extra-tree={tree}" for tree in trees]
    _run(f"mkosi-{directory.name}", [*command, *extra, "build"])


def package_options() -> list[str]:
    """The options of mkosi's that say where packages come from, and where they are kept."""
    version = int(_output(["mkosi", "--version"]).split()[1].split(".")[0].split("~")[0])
    sandbox = "--package-manager-tree" if version < 25 else "--sandbox-tree"
    return [f"{sandbox}={_apt_tree()}", f"--package-cache-dir={_made(CACHE / 'packages')}"]


def _apt_tree() -> Path:
    """What mkosi's apt is told. With this source in place mkosi does not write its own."""
    tree = CACHE / "apt"
    shutil.rmtree(tree, ignore_errors=True)
    sources = _made(tree / "etc/apt/sources.list.d") / "mkosi.sources"
    lines = ["Types: deb", f"URIs: {mirror.uri()}", f"Suites: {SUITE}", "Components: main"]
    lines += [f"Signed-By: {mirror.KEYRING}", ""]
    sources.write_text("\n".join(lines), encoding="utf-8")
    options = _made(tree / "etc/apt/apt.conf.d") / "90mirror"
    options.write_text("".join(f"{line}\n" for line in mirror.apt_options()), encoding="utf-8")
    return tree


def _unless_kept(name: str, inputs: Iterable[Path], make: Callable[[], None]) -> None:
    """Calls `make` unless it has succeeded before on the same inputs."""
    _made(CACHE)
    key = CACHE / f"{name}.key"
    now = _digest(inputs)
    if key.exists() and key.read_text(encoding="ascii") == now:
        return
    key.unlink(missing_ok=True)
    make()
    key.write_text(now, encoding="ascii")


def _digest(inputs: Iterable[Path]) -> str:
    """A hash over the names, modes and contents of files and whole directories."""
    digest = hashlib.sha256(SUITE.encode())
    for top in inputs:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_symlink():
                content = os.readlink(path).encode()
            elif path.is_file():
                content = path.read_bytes()
            else:
                continue
            described = f"{path.name}\0{path.lstat().st_mode}\0{len(content)}\0"
            digest.update(described.encode() + content)
    return digest.hexdigest()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _run(name: str, command: Sequence[str], cwd: Path | None = None) -> None:
    """Runs a build step, its output in a log that is shown only when the step fails."""
    log = _made(CACHE) / f"{name}.log"
    with log.open("wb") as file:
        ended = subprocess.run(
            command, check=False, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    if ended.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]
        raise RuntimeError("\n".join([f"{' '.join(command)}: {ended.returncode}", *lines]))


if __name__ == "__main__":
    STARTED = time.monotonic()

    def _say(text: str) -> None:
        print(f"{time.monotonic() - STARTED:6.0f} s  {text}", flush=True)

    if sys.argv[1:] != ["--no-programs"]:
        programs(_say)
    _say(str(demo(_say).disk))
