# SPDX-License-Identifier: Apache-2.0
"""A node whose key service is lost, and its operator, who gives it the keys once.

From firmware, over the network. What keeps the node from its own keys is an update: PCRs 4 and 11 are others.
"""

from __future__ import annotations

from pathlib import Path

import uki
from admission import Fleet, forwards
from boots.firmware import FIRST, LATER, booted
from boots.service import digests, releases, sources, volumes
from boots.updates import NEWS, accepted
from image import Image
from keyservice import operator_key
from node import Node
from outcome import Outcome, check, equal
from recovering import Operator, Said, boot


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Made with the service, updated without it, recovered, and by itself again."""
    fleet = Fleet(work, image)
    node = fleet.node(work / "node")
    updated = uki.with_initrd_files(image, NEWS, "recovering-updated")
    with fleet.service as service:
        with outcome.case("recovery::the_control_formats_with_the_services_keys"):
            fleet.admit(updated=updated)
            first = node.boot(firmware=True, forwards=forwards(service))
            booted(first, FIRST, count=1)
            equal(sources(first), {"service"}, "where the secrets came from")
    operator = Operator(service, operator_key("operator"), work / "expected")
    uuids = [volume["uuid"] for volume in volumes(first)]
    operator.expect(releases(service)[-1]["ek"], uuids)
    with outcome.case("recovery::a_node_that_opens_by_itself_waits_for_nobody"):
        second, waited = boot(node, operator, lambda: None)
        booted(second, LATER, count=2)
        check(not waited, "no wait", second)
        equal(sources(second), {"tpm"}, "where the secrets came from")

    node.image = updated
    foreign = Operator(service, operator_key("foreign"), operator.expected, operator.port)
    with outcome.case("recovery::an_operator_gives_the_keys_to_a_node_whose_service_is_lost"):
        pushed: list[Said] = []
        changed: list[bool] = []

        def push() -> None:
            """What is refused first, and then what is meant."""
            before = digests(node)
            # One of the volumes is of level checkpoint, whose record nobody can read.
            pushed.extend([operator.recover(), foreign.recover("readmit")])
            changed.append(digests(node) != before)
            pushed.append(operator.recover("readmit"))

        third, waited = boot(node, operator, push)
        check(waited, "the node to wait for its operator", third)
        unspoken, unknown, good = pushed
        check(unspoken.code == 77 and "--word readmit" in unspoken.errors + unspoken.text, "the word", unspoken)
        check(unknown.code != 0, "a refusal of a foreign operator's push", unknown)
        equal(changed, [False], "whether a refused push changed a disk")
        check(good.code == 0, "the node to take the keys", good)
        booted(third, LATER, count=3)
        equal(sources(third), {"recovery"}, "where the secrets came from")
        check(accepted(third) <= {"stale", "readmitted"}, "what was accepted", third)
        equal(third.pcrs["15"], first.pcrs["15"], "PCR 15")
    with outcome.case("recovery::its_next_boot_is_by_itself"):
        by_itself(node, operator)


def by_itself(node: Node, operator: Operator) -> None:
    """The new image opens what is sealed to it now."""
    fourth, waited = boot(node, operator, lambda: None)
    check(not waited, "no wait", fourth)
    booted(fourth, LATER, count=4)
    equal((sources(fourth), accepted(fourth)), ({"tpm"}, {None}), "where the secrets came from, and what was accepted")
