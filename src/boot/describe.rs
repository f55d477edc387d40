// SPDX-License-Identifier: Apache-2.0
//! What the boot's record says of a volume.

use crate::anchor::Allowed;
use crate::config::{Config, Volume};
use crate::sources::enroll::{consent, has_been_enrolled};
use crate::sources::rotate::rotated;
use crate::status::VolumeStatus;
use crate::volume::Keyed;

/// What the record says of an open volume.
pub(super) fn describe(
    config: &Config,
    volume: &Volume,
    keyed: &Keyed,
    accepted: Option<Allowed>,
) -> VolumeStatus {
    VolumeStatus {
        name: volume.name.to_string(),
        role: volume.role,
        device: volume.device.to_string(),
        uuid: keyed.uuid.clone(),
        profile: volume.profile,
        how: keyed.how,
        source: keyed.source,
        keyslot: keyed.keyslot,
        file_system: volume.file_system,
        anchor: volume.level(),
        accepted: accepted.map(|kind| kind.as_str().into()),
        own_secret: keyed.has_own_secret(),
        enrolled: has_been_enrolled(keyed),
        rotated: rotated(keyed),
        recovery_keyslots: keyed.recovery_keyslots().to_vec(),
        recovery_key: volume.recovery_key,
        enroll: consent(config, volume, keyed),
        mapping: volume.name.mapping(),
        mount: volume.mount.as_ref().map(ToString::to_string),
    }
}
