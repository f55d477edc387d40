# SPDX-License-Identifier: Apache-2.0
"""A node whose keys come from nightlatchd on this machine, over the network, for what it booted.

From firmware, because what is booted has to be measured; the TPM has a certificate of a manufacturer that the policy
names.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from admission import Fleet, forwards, programs_denied
from boots.firmware import FIRST, LATER, ZERO_PCR, booted, refused
from image import Image
from keyservice import KeyService
from node import BOOT_TIMEOUT_SECONDS, PROGRESS_PORT, Boot, Node, content_digest
from outcome import Outcome, check, equal

# Several of the node's tries.
DOWN_SECONDS = 10


def run(outcome: Outcome, image: Image, work: Path) -> None:
    """Not admitted, admitted, back again."""
    fleet = Fleet(work, image)
    node = fleet.node(work / "node")
    with fleet.service as service:
        with outcome.case("service::an_image_that_is_not_admitted_gets_no_key"):
            blank = digests(node)
            unknown = node.boot(firmware=True, forwards=forwards(service))
            denied(unknown, node, blank)
            check(len(programs_denied(service)) == 1, "one program to be unknown", unknown)
            fleet.admit()
        with outcome.case("service::an_admitted_node_registers_and_formats_with_the_services_keys"):
            first = node.boot(firmware=True, forwards=forwards(service))
            booted(first, FIRST, count=1)
            equal(sources(first), {"service"}, "where the secrets came from")
            registered(service, first)

    with outcome.case("service::a_foreign_certificate_is_refused_and_a_service_that_is_down_waited_for"):
        with fleet.another_service("foreign", "foreign") as foreign:
            second = down_for_a_while(node, foreign, service)
        booted(second, LATER, count=2)
        equal(sources(second), {"service"}, "where the secrets came from")
        equal(foreign.audit(), [], "what the foreign service was asked")
    with outcome.case("service::the_cluster_measures_the_same_with_the_same_service"):
        check(first.pcrs["15"] != ZERO_PCR, "PCR 15 to be extended", first)
        equal(second.pcrs["15"], first.pcrs["15"], "PCR 15")


def down_for_a_while(node: Node, foreign: KeyService, service: KeyService) -> Boot:
    """A boot that finds a foreign service at the first address and nothing at the second one for some time."""
    starting: list[threading.Timer] = []

    def listen(line: str) -> None:
        """Counts the time from the first sign that the node has noticed."""
        if "10.0.2.101" in line and not starting:
            # wait: part of the test
            starting.append(threading.Timer(DOWN_SECONDS, service.start))
            starting[0].start()

    addresses = forwards(foreign, service)
    try:
        with node.machine(firmware=True, forwards=addresses, progress=True) as machine:
            ended = machine.wait(BOOT_TIMEOUT_SECONDS, on_line=listen, port=PROGRESS_PORT)
        check(starting, "the node to say that nobody answers at 10.0.2.101", ended.ports)
        return Boot(ended, machine.directory)
    finally:
        for timer in starting:
            timer.cancel()
            timer.join()
        service.stop()


def denied(boot: Boot, node: Node, before: dict[str, str]) -> None:
    """The boot was stopped because the service said no, and the disks are as they were."""
    refused(boot, 77)
    check("denied" in boot.sentence, "the denial in the journal", boot)
    equal(digests(node), before, "the disks")


def digests(node: Node) -> dict[str, str]:
    """What is on the node's disks."""
    return {name: content_digest(path) for name, path in node.paths.items()}


def sources(boot: Boot) -> set[str]:
    """Where the secrets came from."""
    return {volume["source"] for volume in volumes(boot)}


def volumes(boot: Boot) -> list[dict[str, Any]]:
    """What the status of a boot says of each volume."""
    found: list[dict[str, Any]] = boot.verdict["status"]["volumes"]
    return found


def releases(service: KeyService) -> list[dict[str, Any]]:
    """The audit log's lines about keys that were given out."""
    return [line for line in service.audit() if line["event"] == "release"]


def registered(service: KeyService, boot: Boot) -> None:
    """Both volumes' keys went to one machine, and nothing else did."""
    uuids = {volume["uuid"] for volume in volumes(boot)}
    given = [line for line in releases(service) if "resource" not in line]
    equal({uuid for line in given for uuid in line["volumes"]}, uuids, "whose keys were given out")
    equal(len({line["ek"] for line in given}), 1, "machines that got them")
