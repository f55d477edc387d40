# SPDX-License-Identifier: Apache-2.0
"""The blocks in the order in which a reader comes to them."""

from __future__ import annotations

import docs_image
import docs_kms
import docs_service
from docs_step import Step

STEPS = (
    Step("image.md#build-the-programs/3", before=docs_image.packages_handed_over),
    Step("image.md#mkosi/1", after=docs_image.keys_made),
    Step("image.md#mkosi/2", before=docs_image.prepared_to_build, after=docs_image.built),
    Step("image.md#check-the-image/1", after=docs_image.checked),
    Step("image.md#owners-keys/1", after=docs_image.certificates_converted),
    Step("image.md#dracut/1", before=docs_image.to_dracut, after=docs_image.in_dracut),
    Step("operate.md#install/2"),
    Step("operate.md#certificates/1"),
    Step("operate.md#configure-and-start/1", after=docs_service.runs),
    Step("operate.md#first-node/1", before=docs_service.policy_written, after=docs_service.policy_good),
    Step("operate.md#operators/1"),
    Step("operate.md#operators/2", before=docs_service.operators_listened_to, after=docs_service.listed),
    Step("operate.md#back-up/1"),
    Step("kms.md#without-the-kms/1"),
    Step("kms.md#openbao-and-vault/1", before=docs_kms.build_with_a_kms, after=docs_kms.configured),
    Step("kms.md#wrap/1", after=docs_kms.new_fleet),
    Step("kms.md#wrap/2"),
    Step("kms.md#check/1", after=docs_kms.under_the_kms),
    Step("kms.md#without-the-kms/2", before=docs_kms.lost, after=docs_kms.recovered),
)
# Marked with a machine, and not followed yet: what compiles, an image that is not signed yet, machines that boot what was built.
OPEN = (
    "image.md#build-the-programs/1",
    "image.md#build-the-programs/2",
    "image.md#mkosi/3",
    "image.md#signed-images/1",
    "image.md#with-a-key-service/1",
    "node.md#what-happened/1",
    "node.md#after-the-reboot/1",
    "node.md#rotation/1",
    "operate.md#first-node/2",
)
