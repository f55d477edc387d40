# SPDX-License-Identifier: Apache-2.0
"""Whose a volume is for nightlatchd: what else was booted, whose disks these are, and who lost its TPM.

From firmware, like `service`, which shows the life of a node that does nothing of the kind.
"""

from __future__ import annotations

from pathlib import Path

import uki
from admission import EXTRA, EXTRA_TEXT, Fleet, denials, forwards
from boots.firmware import FIRST, LATER, booted, refused
from boots.service import denied, digests, registered, releases, volumes
from image import Image
from outcome import Outcome, check, equal, note


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """A node that has its keys; then what is denied, and who comes back for an operator's word."""
    fleet = Fleet(work, image)
    node = fleet.node(work / "node")
    with fleet.service as service:
        with outcome.case("owners::the_control_is_denied_admitted_and_registered"):
            unknown = node.boot(firmware=True, forwards=forwards(service))
            refused(unknown, 77)
            fleet.admit()
            first = node.boot(firmware=True, forwards=forwards(service))
            booted(first, FIRST, count=1)
            registered(service, first)
        with outcome.case("owners::another_command_line_is_denied_and_the_log_says_in_what_it_differs"):
            other = node.copy(work / "other-words")
            # Of the same owner, who signed it: what the node itself checks is as it has to be.
            built = uki.Built(append=EXTRA_TEXT)
            other.image = uki.with_initrd_files(image, {}, "other-words", built)
            before = digests(other)
            changed = other.boot(firmware=True, forwards=forwards(service))
            denied(changed, other, before)
            why = denials(service)[-1]["why"]
            # Of a command line within the image its digest is measured, and not its text.
            for said in ("PCR 11: expected", "command line: expected", "found that of the image, with digest"):
                check(said in why, f"{said!r} in the log", why)
            note(f"the log says: {why}")
        with outcome.case("owners::what_the_host_adds_to_the_command_line_is_refused_before_the_service_is_asked"):
            before, asked = digests(node), service.audit()
            refused(node.boot(firmware=True, forwards=forwards(service), smbios=EXTRA), 77)
            equal(digests(node), before, "the disks")
            equal(service.audit(), asked, "what the service was asked")
        with outcome.case("owners::the_disks_of_another_node_are_denied_and_the_log_says_whose_they_are"):
            thief = node.copy(work / "thief")
            thief.tpm = fleet.tpm(work / "thief-tpm")
            before = digests(thief)
            stolen = thief.boot(firmware=True, forwards=forwards(service))
            denied(stolen, thief, before)
            owner = releases(service)[-1]["ek"]
            denial = denials(service)[-1]
            check(denial["ek"] != owner, "another endorsement key", denial)
            check(owner in denial["why"], f"the owner {owner} in the log", denial)
        with outcome.case("owners::a_node_that_lost_its_tpm_comes_back_for_an_operators_word"):
            lost = node.copy(work / "lost")
            lost.tpm = fleet.tpm(work / "lost-tpm")
            for volume in volumes(first):
                service.readmit(volume["uuid"])
            again = lost.boot(firmware=True, forwards=forwards(service))
            booted(again, LATER, count=2)
            equal({volume["accepted"] for volume in volumes(again)}, {"readmitted"}, "the word")
            equal(again.pcrs["15"], first.pcrs["15"], "PCR 15")
        with outcome.case("owners::the_machine_it_was_before_is_denied_from_then_on"):
            before = digests(node)
            denied(node.boot(firmware=True, forwards=forwards(service)), node, before)
            now = releases(service)[-1]["ek"]
            check(now in denials(service)[-1]["why"], f"the owner {now} in the log", denials(service))
