# SPDX-License-Identifier: Apache-2.0
"""What tests run and boot, built once for all of them.

    builds.py root|programs|tests|image|dracut|service-image

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
    command = [str(image.PROGRAMS / "nightlatchctl"), "policy", "image", str(unified)]
    command += ["--authority", str(secure_boot.owner().programs.certificate)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    unified.unlink()
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {ended.returncode}\n{ended.stderr}")


def service_images() -> None:
    """The demo image with configurations that have a key service."""
    demo = image.demo(say)
    keyservice.service_image(demo, say)
    keyservice.enrolling_image(demo, say)


BUILDS: dict[str, Callable[[], object]] = {
    "root": root.prepare,
    "programs": lambda: image.programs(say),
    "tests": tests,
    "image": demo_image,
    "dracut": lambda: image.dracut(say),
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
