# SPDX-License-Identifier: Apache-2.0
"""What tests run and boot, built once for all of them.

    builds.py root|programs|daemon|tests|image|dracut|service-image

The last line is `N passed, N failed`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import image
import keyservice
import root
import secure_boot
import uki
from outcome import Outcome

PROJECT = image.PROJECT
# Where the tests' programs are, by name; those of the crate begin with `bin/`.
BUILT = root.CACHE / "built.json"
# One build for layer 1 and for machines: the feature adds what layer 1 is compiled with anyway.
TESTS = ("--lib", "--test", "it", "--test", "corpus", "--test", "machine")
FEATURES = "--features=software-tpm"
# What an initrd is for, and the exit code for one that a boot would not open anything with.
PROGRAM = "usr/lib/nightlatch/nightlatch"
REFUSED = 77


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


def tests() -> None:
    """Every test program of layers 1 and 2 and, because some are integration tests, the programs they are about."""
    command = ["cargo", "test", "--locked", "--no-run", FEATURES, *TESTS, "--message-format=json"]
    ended = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=False)
    lines = ended.stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith(b"{")]
    if ended.returncode != 0:
        for message in messages:
            if text := (message.get("message") or {}).get("rendered"):
                say(text)
        raise RuntimeError(f"building the tests: cargo ended with {ended.returncode}")
    made = {}
    for message in messages:
        if message.get("executable"):
            [kind], name = message["target"]["kind"], message["target"]["name"]
            made[{"lib": "lib", "bin": f"bin/{name}"}.get(kind, name)] = message["executable"]
    unfinished = BUILT.with_suffix(f".{os.getpid()}")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_text(json.dumps(made), encoding="utf-8")
    unfinished.rename(BUILT)


def built() -> dict[str, Path]:
    """What `tests` has made."""
    if not BUILT.exists():
        tests()
    return {name: Path(path) for name, path in json.loads(BUILT.read_text(encoding="utf-8")).items()}


def demo_image() -> None:
    """The demo image, if a policy could have it: not with a kernel inside that its owner's key signed, for example."""
    disk = image.demo(say).disk
    unified = uki.take(disk, disk.with_suffix(".judged.efi"))
    _told(["policy", "image", str(unified), "--authority", str(secure_boot.owner().programs.certificate)])
    _told(["image", "check", str(unified)])
    unified.unlink()
    _is_missed(image.demo(say).packed)


def dracut_image() -> None:
    """The Debian with dracut, if all that its configuration needs is in its initrd."""
    initrd = image.dracut(say).packed
    _told(["image", "check", str(initrd)])
    _is_missed(initrd)


def _is_missed(initrd: Path) -> None:
    """An initrd without the program in it does not pass, so the check of one with it says something."""
    lacking = image.with_files(initrd, {PROGRAM: "-> /dev/null"}, initrd.with_suffix(".lacking"))
    said = _told(["image", "check", str(lacking)], REFUSED)
    lacking.unlink()
    if f"missing  nightlatch: /{PROGRAM}" not in said:
        raise RuntimeError(f"image check of an initrd without {PROGRAM}:\n{said}")


def _told(words: list[str], code: int = 0) -> str:
    """What nightlatchctl says of a file, on both streams, if it ends with `code`."""
    command = [str(image.PROGRAMS / "nightlatchctl"), *words]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != code:
        raise RuntimeError(f"{' '.join(command)}: {ended.returncode}\n{ended.stderr}")
    return ended.stdout + ended.stderr


def service_images() -> None:
    """The demo image with configurations that have a key service."""
    demo = image.demo(say)
    keyservice.service_image(demo, say)
    keyservice.enrolling_image(demo, say)
    keyservice.recovering_image(demo, say)


BUILDS: dict[str, Callable[[], object]] = {
    "root": root.prepare,
    "programs": lambda: image.programs(say),
    "daemon": lambda: image.daemon(say),
    "tests": tests,
    "image": demo_image,
    "dracut": dracut_image,
    "service-image": service_images,
}


def main() -> int:
    """Builds what is asked for."""
    outcome = Outcome()
    for name in sys.argv[1:]:
        with outcome.case(f"build::{name}"):
            BUILDS[name]()
    print(outcome)
    return 0 if outcome.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
