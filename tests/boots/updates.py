# SPDX-License-Identifier: Apache-2.0
"""A node whose image is updated: nightlatchd carries it to the new image, and back to the old one.

From firmware, with both volumes: what an update changes are PCRs 4 and 11, which the volumes and the TPM's record are sealed to.
"""

from __future__ import annotations

from pathlib import Path

import next_boot
import uki
from admission import Fleet, denials, forwards
from boots.firmware import FIRST, LATER, booted, refused
from boots.service import denied, digests, volumes
from image import Image
from keyservice import KeyService
from node import Boot
from outcome import Outcome, check, equal

# Whatever is new in an initrd.
NEWS = {"etc/nightlatch-release": "2\n"}


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """The first image; the second one before and after the service knows it; the first one again."""
    fleet = Fleet(work, image)
    node = fleet.node(work / "node")
    updated = uki.with_initrd_files(image, NEWS, "updated")
    with fleet.service as service:
        reach = forwards(service)
        with outcome.case("updates::the_control_registers_and_opens_what_it_made"):
            fleet.admit()
            first = node.boot(firmware=True, forwards=reach)
            booted(first, FIRST, count=1)
            asked = next_boot.disk(node.directory, {"updated": updated})
            second = node.boot(firmware=True, forwards=reach, disks=[asked])
            booted(second, LATER, count=2)
            equal(accepted(second), {None}, "what was accepted")
        node.image = updated
        with outcome.case("updates::a_new_image_that_the_service_does_not_know_is_denied_and_changes_nothing"):
            before = digests(node)
            unknown = node.boot(firmware=True, forwards=reach)
            denied(unknown, node, before)
            next_boot.agrees(second, "updated", unknown)
            check("image" in denials(service)[-1]["why"], "the image in the log", denials(service))
        fleet.admit(updated=updated)
        with outcome.case("updates::a_volume_of_level_checkpoint_takes_an_operators_word_besides"):
            before = digests(node)
            unspoken = node.boot(firmware=True, forwards=reach)
            refused(unspoken, 77)
            equal(digests(node), before, "the disks")
            next_boot.agrees(second, "updated", unspoken)
            allow(service, second)
        with outcome.case("updates::a_new_image_that_it_admits_is_carried_over_with_both_volumes"):
            third = node.boot(firmware=True, forwards=reach)
            booted(third, LATER, count=3)
            equal(accepted(third), {"stale"}, "what was accepted")
            equal(third.pcrs["15"], first.pcrs["15"], "PCR 15")
            next_boot.agrees(second, "updated", third, has_word=True)
        with outcome.case("updates::the_new_image_opens_them_as_its_own_from_then_on"):
            asked = next_boot.disk(node.directory, {"the old one": image})
            fourth = node.boot(firmware=True, forwards=reach, disks=[asked])
            booted(fourth, LATER, count=4)
            equal(accepted(fourth), {None}, "what was accepted")
        node.image = image
        with outcome.case("updates::the_old_image_is_carried_back_as_long_as_the_service_admits_it"):
            allow(service, second)
            fifth = node.boot(firmware=True, forwards=reach)
            booted(fifth, LATER, count=5)
            equal(accepted(fifth), {"stale"}, "what was accepted")
            next_boot.agrees(fourth, "the old one", fifth, has_word=True)


def allow(service: KeyService, boot: Boot) -> None:
    """The word of an operator for each volume of level checkpoint, which no service stands in for alone."""
    for volume in volumes(boot):
        if volume["anchor"] == "checkpoint":
            service.readmit(volume["uuid"])


def accepted(boot: Boot) -> set[str | None]:
    """What was accepted of the volumes."""
    return {volume.get("accepted") for volume in volumes(boot)}
