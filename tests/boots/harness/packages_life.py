# SPDX-License-Identifier: Apache-2.0
"""The life of the packages in a Debian 13 that runs: installed, used, upgraded, removed and purged.

What the programs say is read from the programs; systemd in the tree is the real one.
"""

from __future__ import annotations

import os
from pathlib import Path

import debian_tree
import image
from debian_tree import Running, Tree
from outcome import Outcome, check, equal, note

NAMES = ("nightlatch", "nightlatch-dracut", "nightlatch-tools", "nightlatchd")
# What may be switched on, by package.
UNITS = {
    "nightlatch": (
        "nightlatch.service",
        "nightlatch-reboot.service",
        "nightlatch-reboot.timer",
        "nightlatch-volumes.target",
    ),
    "nightlatch-tools": (
        "nightlatch-check.service",
        "nightlatch-check.timer",
        "nightlatch-checkpoint.service",
        "nightlatch-checkpoint.timer",
        "nightlatch-last-checkpoint.service",
        "nightlatch-mounts-check.service",
    ),
    "nightlatchd": ("nightlatchd.service",),
}
MANUALS = (
    "1 nightlatchctl",
    "5 nightlatch-policy",
    "5 nightlatch.toml",
    "5 nightlatchd.toml",
    "8 nightlatch",
    "8 nightlatchd",
)
# Each shell's own way to say what follows `nightlatchctl`; the words are verbs.
COMPLETIONS = {
    "bash": """. /usr/share/bash-completion/bash_completion
        _comp_load nightlatchctl && COMP_WORDS=(nightlatchctl '') COMP_CWORD=1
        $(complete -p nightlatchctl | sed 's/.* -F \\([^ ]*\\).*/\\1/') nightlatchctl '' nightlatchctl
        echo "${COMPREPLY[*]}" """,
    "zsh": """autoload -Uz compinit && compinit -u -d /tmp/zcompdump && whence -w $_comps[nightlatchctl]
        autoload -U +X $_comps[nightlatchctl] && functions $_comps[nightlatchctl]""",
    "fish": "complete --do-complete 'nightlatchctl '",
}
VERBS = ("anchor", "config", "image", "nodes", "policy", "status")
# What `mkosi/install` fills a tree with; dracut's is that of a package.
KINDS = ("initrd", "initrd-other-volumes", "tools", "system")
# A file of configuration that was changed stays as it is, which is what a person would be asked.
APT = "apt-get --quiet --yes --no-install-recommends -oDpkg::Options::=--force-confdef -oDpkg::Options::=--force-confold"
CONFIG = "/etc/nightlatch/nightlatchd.toml"
POLICY = "/etc/nightlatch/policy.toml"
SECRETS = ("/etc/nightlatch/mastersecret.json", "/etc/nightlatch/measurement-salt")
STATE = ("/var/lib/nightlatchd/store.sqlite", "/var/log/nightlatchd/audit.jsonl")
# As in units/doc/operate.md, for a service that is asked on the machine it runs on.
CERTIFICATES = """set -e; cd /root
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -keyout ca.key -out ca.pem -subj "/CN=nightlatch keys" -addext keyUsage=critical,keyCertSign
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout nightlatchd.key -out nightlatchd.csr -subj "/CN=nightlatchd"
printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth\\n' >nightlatchd.ext
openssl x509 -req -in nightlatchd.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 397 \
    -extfile nightlatchd.ext -out nightlatchd.crt
install -D --mode=644 --target-directory=/etc/nightlatch/tls nightlatchd.crt
install --mode=640 --group=nightlatchd --target-directory=/etc/nightlatch/tls nightlatchd.key"""
# Another command of the service's, with all that the unit gives it.
AS_THE_SERVICE = """set -e
sed -e 's/ serve$/ check/' -e 's/^Type=.*/Type=oneshot/' -e '/^Restart/d' /usr/lib/systemd/system/nightlatchd.service \
    >/run/systemd/system/check.service
systemctl daemon-reload
systemctl start check.service || true
journalctl --unit=check.service --output=cat"""
READY = r"exec 3<>/dev/tcp/127.0.0.1/9464; printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3; head -n 1 <&3"


def follow(outcome: Outcome, older: Path, newer: Path, changes: Path) -> None:
    """From a Debian without them to one that they were purged from."""
    tree = debian_tree.fresh([debian_tree.system()], changes, {older: "/older", newer: "/newer"})
    fetched(tree)
    with tree.started() as system:
        with outcome.case("packages::installing_them_switches_nothing_on"):
            system.run("sh", "-c", f"{APT} install /older/*.deb")
            equal(on(system), {}, "units that are enabled or run")
            equal(links(system), [], "links below /etc/systemd")
        for name, case in (
            ("each_unit_is_one_that_systemd_takes_with_its_manual", verified),
            ("manuals_and_completions_are_found", found),
            ("what_mkosi_install_makes_is_that_of_a_clone", lambda _: alike(tree, system)),
            ("dracut_knows_the_module", in_dracut),
            ("the_key_service_runs_once_its_secrets_are_made", serving),
            ("the_audit_log_is_rotated_and_nothing_of_it_is_lost", rotated),
        ):
            with outcome.case(f"packages::{name}"):
                case(system)
        with outcome.case("packages::an_upgrade_goes_on_with_the_new_program_and_the_old_configuration"):
            upgraded(system)
        with outcome.case("packages::removal_leaves_configuration_secrets_store_and_audit_log"):
            removed(system)
        with outcome.case("packages::purge_takes_the_configuration_and_names_what_stays"):
            purged(system)


def fetched(tree: Tree) -> None:
    """Fetches what the packages depend on: the system they are installed in has no network."""
    tree.run("sh", "-c", f"{APT} --download-only install /older/*.deb")


def links(system: Running) -> list[str]:
    """What of ours is switched on, as systemd keeps it."""
    return sorted(system.run("find", "/etc/systemd", "-name", "*nightlatch*").splitlines())


def on(system: Running) -> dict[str, str]:
    """Units of ours that are enabled or run, and in which way."""
    seen = {}
    for unit in (unit for units in UNITS.values() for unit in units):
        # `enabled` for whatever would be started without being asked for.
        enabled = system.status("systemctl", "is-enabled", unit)[1].strip()
        active = system.status("systemctl", "is-active", unit)[1].strip()
        check(enabled in ("disabled", "static", "enabled"), f"{unit} to be known", enabled)
        if enabled == "enabled" or active != "inactive":
            seen[unit] = f"{enabled}, {active}"
    return seen


def verified(system: Running) -> None:
    """systemd-analyze answers an unknown key with a warning and 0, so any word is a failure."""
    for units in UNITS.values():
        equal(system.run("systemd-analyze", "verify", *units), "", "what systemd-analyze says")
    system.run("sh", "-c", "sed 's/^ExecStart=/Exekstart=/' /usr/lib/systemd/system/nightlatchd.service >/tmp/wrong.service")
    said = system.status("systemd-analyze", "verify", "/tmp/wrong.service")[1]
    check("Exekstart" in said, "a wrong key to be told", said)


def found(system: Running) -> None:
    """By `man`, and by each shell."""
    for manual in MANUALS:
        section, name = manual.split()
        text = system.run("man", section, name)
        check("SYNOPSIS" in text or "DESCRIPTION" in text, f"the manual {manual}", text[:200])
    for shell, script in COMPLETIONS.items():
        said = system.run(shell, "-c", script)
        equal([verb for verb in VERBS if verb not in said], [], f"verbs that {shell} does not offer")


def alike(tree: Tree, system: Running) -> None:
    """The trees that mkosi is given are the same, from the packages' files and from a clone's."""
    for kind in KINDS:
        system.run("/usr/share/nightlatch/mkosi/install", kind, f"/var/tmp/made/{kind}")
        ours = tree.changes / "of-the-clone" / kind
        command = [str(image.PROJECT / "mkosi/install"), kind, str(ours), str(image.PROGRAMS)]
        debian_tree.said(command)
        equal(described(tree.changes / "upper/var/tmp/made" / kind), described(ours), f"mkosi/install {kind}")


def described(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Each file below a directory, with its mode and content, and each link with its target."""
    seen = {}
    for path in sorted(directory.rglob("*")):
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        seen[str(path.relative_to(directory))] = (path.lstat().st_mode, content)
    check(len(seen) > 3, f"files below {directory}", seen)
    return seen


def in_dracut(system: Running) -> None:
    """It lists modules whose programs are there."""
    said = system.run("dracut", "--list-modules", "--no-kernel")
    check("nightlatch" in said.split(), "dracut to have the module", said)


def serving(system: Running) -> None:
    """The commands of units/doc/operate.md, and what the service sees."""
    status, said = system.status("systemctl", "start", "nightlatchd.service")
    check(status != 0, "no service without secrets", said)
    system.run("systemctl", "stop", "nightlatchd.service")
    system.run("nightlatchd", "init")
    system.run("sh", "-c", CERTIFICATES)
    said = system.run("sh", "-c", AS_THE_SERVICE)
    check(f"{CONFIG}: valid" in said, "a valid configuration", said)
    # The control: the secrets are not for that account, only what it is handed.
    account = ("setpriv", "--reuid=nightlatchd", "--regid=nightlatchd", "--clear-groups")
    status, said = system.status(*account, "cat", SECRETS[0])
    check(status != 0, "the account not to read the secret", said)
    system.run("systemctl", "enable", "--now", "nightlatchd.service")
    said = system.run("bash", "-c", READY)
    check(" 200 " in said, "a service that is ready", said)
    for path in (*STATE, *SECRETS):
        owner, mode = system.run("stat", "--format=%U %a", path).split()
        equal(owner, "root" if path in SECRETS else "nightlatchd", f"the owner of {path}")
        equal(int(mode, 8) & 0o077, 0, f"what others may do with {path}")
    system.run("sh", "-c", f"echo '# by the operator' >>{POLICY}")


def rotated(system: Running) -> None:
    """The service goes on in a new file, and the one before is there."""
    line = system.run("sh", "-c", f"echo '{{}}' >>{STATE[1]}; systemctl show --property=MainPID --value nightlatchd")
    system.run("logrotate", "--force", "/etc/logrotate.d/nightlatchd")
    kept = system.run("sh", "-c", f"cat {STATE[1]}-*")
    equal(kept, "{}\n", "what was rotated")
    # wait: event, the new file, and a limit after which there is none.
    system.run("timeout", "60", "sh", "-c", f"until [ -e {STATE[1]} ]; do sleep 0.1; done")
    check(" 200 " in system.run("bash", "-c", READY), "a service that is ready", "another")
    equal(system.run("systemctl", "show", "--property=MainPID", "--value", "nightlatchd"), line, "the process")


def upgraded(system: Running) -> None:
    """What was switched on stays on, with the new program; the rest stays off."""
    enabled = on(system)
    equal(enabled, {"nightlatchd.service": "enabled, active"}, "what is on before")
    process = system.run("systemctl", "show", "--property=MainPID", "--value", "nightlatchd.service")
    old = system.run("dpkg-query", "--show", *NAMES)
    system.run("sh", "-c", f"{APT} install /newer/*.deb")
    new = system.run("dpkg-query", "--show", *NAMES)
    check("~before" in old and "~before" not in new, "another version", f"{old}\n{new}")
    equal(on(system), enabled, "what is on after")
    check(
        system.run("systemctl", "show", "--property=MainPID", "--value", "nightlatchd.service") != process,
        "the service to be started anew",
        process,
    )
    check(" 200 " in system.run("bash", "-c", READY), "a service that is ready", "another")
    check("by the operator" in system.run("cat", POLICY), "the operator's policy", system.run("cat", POLICY))
    note(f"from {old.split()[1]} to {new.split()[1]}")


def removed(system: Running) -> None:
    """The program stops and goes; nothing that an operator or the service has made does."""
    files = installed(system)
    check(len(files) > 60, "files of the packages", files)
    system.run("sh", "-c", f"{APT} remove {' '.join(NAMES)}")
    equal(system.status("systemctl", "is-active", "nightlatchd.service")[1].strip(), "inactive", "the service")
    equal(there(system, files), sorted(path for path in files if path.startswith("/etc/")), "what is left of the packages")
    equal(there(system, [CONFIG, POLICY, *SECRETS, *STATE]), sorted([CONFIG, POLICY, *SECRETS, *STATE]), "what stays")


def purged(system: Running) -> None:
    """Secrets, store and audit log are what no package could give back, and the TPM's memory what none may take."""
    # The others have nothing that is left to be purged.
    said = system.run("dpkg", "--purge", "nightlatch-tools", "nightlatchd")
    equal(there(system, [CONFIG, POLICY, "/etc/logrotate.d/nightlatchd"]), [], "the configuration")
    equal(there(system, [*SECRETS, *STATE]), sorted([*SECRETS, *STATE]), "what stays")
    for name in (*SECRETS, "/etc/nightlatch/tls", "/var/lib/nightlatchd", "/var/log/nightlatchd"):
        check(f" {name}" in said, f"{name} to be named", said)
    for word in ("nightlatchctl anchor forget", "tpm2_nvundefine"):
        check(word in said, f"{word} to be named", said)
    equal(links(system), [], "links below /etc/systemd")


def installed(system: Running) -> list[str]:
    """The files of the packages."""
    listed = set(system.run("dpkg-query", "--listfiles", *NAMES).splitlines()) - {"", "/."}
    script = 'for path; do [ -d "$path" ] && [ ! -L "$path" ] || echo "$path"; done'
    return sorted(system.run("sh", "-c", script, "sh", *listed).splitlines())


def there(system: Running, paths: list[str]) -> list[str]:
    """Those of these that exist."""
    script = 'for path; do if [ -e "$path" ] || [ -L "$path" ]; then echo "$path"; fi; done'
    return sorted(system.run("sh", "-c", script, "sh", *paths).splitlines())
