# SPDX-License-Identifier: Apache-2.0
"""The list of all there is to run: what has to be built, the lints, the core and the rest.

Each run has the whole core. Of the rest it takes what is due: see planner.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import paths
from jobs import Job
from paths import CRATE, HARNESS, MACHINE, PROJECT

# One case of each file in tests/machine. Of a file, the one that says most for its seconds.
CORE_CASES = (
    "away::an_image_between_that_does_not_have_a_volume_does_not_cost_it",
    "checkpoint::one_superblock_put_back_to_before_the_checkpoint_is_refused",
    "copies::a_volume_and_its_copy_are_not_opened_in_one_boot_and_each_alone_is",
    "enrolment::a_key_that_is_not_the_volumes_any_more_takes_the_operator",
    "interrupted::a_first_boot_interrupted_before_the_header_is_committed_starts_again",
    "key_service::a_wrong_key_and_a_denial_lead_to_the_next_source",
    "log_writes::a_crash_in_the_middle_of_each_phase_leads_to_the_same_end",
    "lower::only_a_mapping_of_dm_verity_may_be_below_an_overlay",
    "mounted::two_disks_with_the_identifier_of_a_btrfs_are_not_mounted_in_its_place",
    "open::memory_that_is_too_small_is_said_and_the_disk_stays_as_it_is",
    "readmission::a_readmitted_node_that_is_interrupted_is_readmitted_again",
    "recovery::a_pushed_key_carries_a_node_to_another_image_whose_service_is_gone",
    "recovery_keys::a_recovery_key_opens_the_volume_on_another_machine_until_it_is_removed",
    "refusals::a_blank_device_is_formatted_only_where_the_configuration_says_so",
    "refusals::a_read_error_is_refused_and_never_formatted",
    "rollback::what_the_operator_did_not_accept_is_refused_and_unchanged",
    "rotation::a_crash_in_the_middle_of_a_rotation_is_finished_by_the_next_boot",
    "round_trip::a_btrfs_volume_keeps_its_files",
    "signed::systemd_cryptsetup_attaches_our_volume_under_each_image_that_the_key_has_signed",
    "stale::a_node_that_was_sealed_to_fewer_pcrs_is_carried_over_by_the_same_image",
    "stale_cuts::a_crash_in_the_middle_leaves_a_node_that_both_images_go_on_with",
    "start::an_image_that_another_vouched_for_gets_no_disk_neither_a_blank_one_nor_the_owners",
    "stock::stock_cryptsetup_opens_our_volume_with_the_secret_as_key_file",
    "surroundings::the_tpm_answers_and_its_cluster_pcr_is_zero",
    "tpm_device::what_one_node_seals_either_unseals",
    "tpm_private::a_restored_state_takes_a_counter_back_and_a_reset_does_not",
    "two_faced::a_disk_that_is_blank_at_one_time_only_is_formatted_if_it_was_blank_at_first",
)
# What is no case of a machine of layer 2: see kills.py.
OTHERS = ("power",)
# Of the cases, those whose machines have a key service.
SERVED = (
    "enrolment", "key_service", "readmission", "recovery", "recovery_keys", "rotation", "signed", "stale", "stale_cuts",
)
# The whole boots in the core, and those of the rest. Those with a key service are named in `SERVED_BOOTS`.
CORE_BOOTS = ("firmware", "service", "dracut", "start")
REST_BOOTS = (
    "closed", "refusals", "enrolment", "owners", "power", "recovery",
    "secrets", "signed", "start_off", "template", "updates",
)
SERVED_BOOTS = ("service", "enrolment", "owners", "recovery", "updates")
# What a scenario boots, if not the demo image.
BOOT_NEEDS = {
    "dracut": "build/dracut",
    "enrolment": "build/service-image",
    "owners": "build/service-image",
    "recovery": "build/service-image",
    "updates": "build/service-image",
    "service": "build/service-image",
    # It builds an image of its own.
    "template": "build/programs",
}
CHAINS = 2


@dataclass(frozen=True)
class Scenario:
    """A job, which runs it is for, and what it depends on."""

    kind: str  # "build", "lint", "core", "rest", or "asked": run where it is named, and in no slice
    job: Job
    paths: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The job's."""
        return self.job.name


def python(program: str, *words: str) -> tuple[str, ...]:
    """A program of the harness."""
    return (sys.executable, str(PROJECT / HARNESS / f"{program}.py"), *words)


def builds() -> Iterable[Scenario]:
    """What others need. Two of cargo's run at once, since they write to different directories."""
    for name, needs, processors, lock in (
        ("root", (), 0, ""),
        ("programs", (), 1, "release"),
        ("daemon", ("build/programs",), 1, "release"),
        ("tests", (), 1, "debug"),
        ("image", ("build/programs",), 1, "mkosi"),
        ("dracut", ("build/programs",), 1, "mkosi"),
        ("service-image", ("build/image",), 1, ""),
    ):
        job = Job(f"build/{name}", python("builds", name), needs, processors, lock)
        yield Scenario("build", job)


def lints() -> Iterable[Scenario]:
    """What looks at the text. Their exit status is their result."""
    check = str(PROJECT / "tests/lint/check")
    for name, command, lock in (
        ("format", (check, "format"), ""),
        ("shell", (check, "shell"), ""),
        ("python", (check, "python"), ""),
        ("units", (str(PROJECT / "tests/lint/units"),), ""),
        ("manuals", (check, "manuals"), ""),
        ("waits", (str(PROJECT / "tests/lint/waits"),), ""),
        ("clippy", (check, "clippy"), "debug"),
        ("rustdoc", (check, "rustdoc"), "debug"),
    ):
        # Behind the tests' own build, which is waited for by more.
        needs = ("build/tests",) if lock else ()
        job = Job(f"lint/{name}", command, needs, lock=lock, reads="status")
        yield Scenario("lint", job)


def layer1() -> Iterable[Scenario]:
    """What needs neither root nor a machine."""
    for name in ("lib", "it", "corpus"):
        job = Job(f"layer1/{name}", python("layer1", name), ("build/tests",), reads="summaries")
        yield Scenario("core", job, (".",))
    job = Job("harness", python("harness_test"), ("build/root",))
    yield Scenario("core", job, ("tests/boots", "tests/machine", "tests/run", ".ci"))


def cases() -> Iterable[Scenario]:
    """Layer 2: some of each file in the core's machine, and a machine for all of each file."""
    needs = ("build/root", "build/tests")
    core = Job("cases/core", python("cases", "core", *CORE_CASES), needs)
    files = [name for name in paths.case_files() if name not in OTHERS]
    yield Scenario("core", core, paths.of_cases(files, service=True))
    for name in files:
        job = Job(f"cases/{name}", python("cases", "--file", name), needs)
        yield Scenario("rest", job, paths.of_cases([name], name in SERVED))


def boots() -> Iterable[Scenario]:
    """Layer 3."""
    for kind, names in (("core", CORE_BOOTS), ("rest", REST_BOOTS)):
        for name in names:
            # The key service that runs here is of the tests' build.
            served = ("build/tests",) if name in SERVED_BOOTS else ()
            needs = (BOOT_NEEDS.get(name, "build/image"), *served)
            job = Job(f"boots/{name}", python("chain", name), needs)
            yield Scenario(kind, job, paths.of_boots(name, name in SERVED_BOOTS))


def rest() -> Iterable[Scenario]:
    """Further ones that not every run has."""
    needs = ("build/root", "build/tests")
    harness = paths.imported(f"{HARNESS}/kills.py")
    kills = (*CRATE, *paths.NO_SERVICE, *harness, *paths.GUEST, *paths.modules_of(["power"]))
    for number in range(1, CHAINS + 1):
        job = Job(f"kills/{number}", python("kills", str(number)), needs)
        yield Scenario("rest", job, kills)
    check = str(PROJECT / "tests/lint/check")
    deny = Job("deny", (check, "dependencies"), reads="status", lock="tools")
    yield Scenario("rest", deny, ("Cargo.toml", "Cargo.lock", "tests/lint"))
    variants = Job("variants", (check, "variants"), ("build/tests",), lock="debug", reads="status")
    yield Scenario("rest", variants, (*CRATE, "tests/lint"))
    # Its minute is a refusal that has to be confirmed, in which nothing is computed.
    openbao = Job("kms", python("openbao"), ("build/tests",), lock="debug")
    yield Scenario("rest", openbao, paths.of_kms())
    command = (str(PROJECT / "tests/fuzz/run"), "--seconds", "5")
    packages = Job("packages", python("packages"), ("build/programs", "build/daemon"))
    yield Scenario("rest", packages, paths.of_packages())
    # The key service with every KMS is built where the one of `kms` is.
    docs = Job("docs", python("docs"), ("build/programs", "build/daemon", "build/tests"), lock="debug")
    # Not seen from its beginning to its end yet.
    yield Scenario("asked", docs, paths.of_docs())
    fuzz = Job("fuzz", command, ("build/tests",), lock="debug", reads="status")
    yield Scenario("rest", fuzz, (*CRATE, *paths.SUPPORT, "tests/fuzz", "tests/corpus"))


@cache
def every() -> Mapping[str, Scenario]:
    """All there is, by name; what others need comes before them."""
    listed = [*builds(), *lints(), *layer1(), *boots(), *cases(), *rest()]
    return {scenario.name: scenario for scenario in listed}


def of_kind(*kinds: str) -> list[str]:
    """The names of all of these kinds."""
    return [name for name, scenario in every().items() if scenario.kind in kinds]


def matching(words: Iterable[str]) -> list[str]:
    """The scenarios that are called so, or whose first part is."""
    found: list[str] = []
    for word in words:
        names = [name for name in every() if name == word or name.startswith(f"{word.rstrip('/')}/")]
        if not names:
            raise LookupError(f"no scenario is called {word}; tests/run --list has them all")
        found += [name for name in names if name not in found]
    return found


def with_needed(names: Sequence[str]) -> list[Job]:
    """The jobs of these scenarios, in this order, behind those of all that they need."""
    wanted: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in wanted:
            wanted.add(name)
            left += every()[name].job.needs
    needed = [name for name in every() if name in wanted and name not in names]
    return [every()[name].job for name in dict.fromkeys([*needed, *names])]


__all__ = ["MACHINE", "Scenario", "every", "matching", "of_kind", "with_needed"]
