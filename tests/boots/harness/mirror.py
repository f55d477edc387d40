# SPDX-License-Identifier: Apache-2.0
"""Where this machine gets its Debian packages, so that the images come from the same place.

    mirror.py [backports]

Prints the address, or an apt source for the release's backports.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys

# What apt must be told to reach that mirror and accept its age; anything else is the machine's
# own business.
NEEDED_OPTIONS = re.compile(r"Acquire::(https?::Proxy(::.*)?|Check-Valid-Until|Check-Date)")
# Of the package debian-archive-keyring.
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Names a release may have in place of its codename.
GENERAL_RELEASES = ("stable", "testing", "unstable", "sid")


def uri() -> str:
    """The archive of the machine's own release, as its apt configuration names it."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    for line in _output(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"]):
        address, release = line.split()
        if release in (*GENERAL_RELEASES, codename):
            return address
    raise RuntimeError("looking for the Debian mirror: apt has no source for this release")


def apt_options() -> list[str]:
    """The machine's options for reaching the mirror, in the syntax of apt.conf."""
    lines = _output(["apt-config", "dump", "--no-empty", "--format", '%f "%v";%n', "Acquire"])
    return [line for line in lines if NEEDED_OPTIONS.fullmatch(line.split(" ", 1)[0])]


def backports() -> str:
    """A source for the newer packages that Debian offers for the machine's own release."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    lines = ["Types: deb", f"URIs: {uri()}", f"Suites: {codename}-backports", "Components: main"]
    return "\n".join([*lines, f"Signed-By: {KEYRING}"])


def _output(command: list[str]) -> list[str]:
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return ended.stdout.splitlines()


if __name__ == "__main__":
    print(backports() if sys.argv[1:] == ["backports"] else uri())
