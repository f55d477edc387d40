# SPDX-License-Identifier: Apache-2.0
"""A node whose first boot cannot reach nightlatchd, and that is given the service's keys when it can: "Enrolment"
in units/doc/operate.md.

From firmware, because the service judges what is booted. What the image measures is known before the service is asked: the
first boot says it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from admission import Fleet, denials, forwards
from boots.firmware import FIRST, LATER, booted
from boots.service import registered, releases, sources
from image import Image
from keyservice import KeyService
from node import Boot
from outcome import Outcome, check, equal


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Alone, enrolled, with the service's keys, with the keys of another service."""
    fleet = Fleet(work, image)
    node = fleet.node(work / "node")
    service = fleet.service
    reach = forwards(service)
    with outcome.case("enrolment::a_first_boot_without_the_service_makes_its_secrets_itself"):
        first = node.boot(firmware=True, forwards=reach)
        booted(first, FIRST, count=1)
        equal(sources(first), {"generate"}, "where the secrets came from")
        equal(enrolment(first), {(False, "auto")}, "whether enrolled, and on whose word later")
        equal(service.audit(), [], "what the service was asked")

    with service:
        with outcome.case("enrolment::the_boot_that_reaches_the_service_is_given_its_keys"):
            fleet.admit()
            second = node.boot(firmware=True, forwards=reach)
            booted(second, LATER, count=2)
            equal(sources(second), {"tpm"}, "where the secrets came from")
            equal(enrolment(second), {(True, None)}, "whether enrolled, and on whose word later")
            registered(service, second)
            equal(second.pcrs["15"], first.pcrs["15"], "PCR 15, which is still the old secret's")
        with outcome.case("enrolment::the_boot_after_that_opens_with_the_services_keys"):
            before = told(service)
            third = node.boot(firmware=True, forwards=reach)
            booted(third, LATER, count=3)
            equal(sources(third), {"service"}, "where the secrets came from")
            equal(enrolment(third), {(False, None)}, "whether enrolled, and on whose word later")
            registered(service, third)
            equal(told(service), before + before, "what the audit log says of it")
            equal(denials(service), [], "denials")
            check(third.pcrs["15"] != first.pcrs["15"], "PCR 15 of the service's key", third)

    with outcome.case("enrolment::a_wrong_key_is_no_end_while_the_tpm_has_the_right_one"):
        with fleet.another_service("wrong-key") as wrong:
            fourth = node.boot(firmware=True, forwards=forwards(wrong))
            booted(fourth, LATER, count=4)
            equal(sources(fourth), {"tpm"}, "where the secrets came from")
            check(releases(wrong), "keys from the other service", wrong.audit())
        equal(enrolment(fourth), {(False, "asked")}, "whether enrolled, and on whose word later")
        equal(fourth.pcrs["15"], third.pcrs["15"], "PCR 15, which is the new secret's")


def enrolment(boot: Boot) -> set[tuple[bool, Any]]:
    """Of each volume whether this boot gave it the service's key, and on whose word a later one may."""
    volumes = boot.verdict["status"]["volumes"]
    return {(volume.get("enrolled", False), volume.get("enroll")) for volume in volumes}


def told(service: KeyService) -> Counter[tuple[str, str]]:
    """How often the audit log says what of which volume."""
    lines = service.audit()
    return Counter((line["event"], uuid) for line in lines for uuid in line["volumes"])
