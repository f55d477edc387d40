// SPDX-License-Identifier: Apache-2.0
//! The keys of all volumes that were found.
//!
//! Those that exist come first, and what is to be made after them: whether a blank disk is a new volume is told by what the TPM
//! remembers, and that this is gone is seen by a volume that exists and is readmitted.

use crate::boot::away::{Away, present};
use crate::config::Volume;
use crate::error::Result;
use crate::parallel::each_volume;
use crate::sources::Sources;
use crate::volume::{Found, Keyed};

/// In the configuration's order, without those that are away now.
pub(super) fn key_all<'v>(
    sources: Sources<'_>,
    found: Vec<(&'v Volume, Found)>,
    away: &Away<'v>,
) -> Result<Vec<(&'v Volume, Keyed)>> {
    let is_there = |(_, found): &(&Volume, Found)| matches!(found, Found::Existing(_));
    let (existing, new): (Vec<_>, Vec<_>) = found.into_iter().partition(is_there);
    let mut keyed = Vec::new();
    for found in [existing, new] {
        keyed.extend(each_volume(found, |volume, found| {
            let record = sources.record;
            let keyed = record.step("keying", Some(volume), || sources.key_of(volume, found));
            if sources.operator.awaits(volume)? {
                return keyed.map(Some);
            }
            away.unless_required(volume, keyed)
        })?);
    }
    let place = |volume: &Volume| {
        sources
            .config
            .volumes()
            .position(|it| it.name == volume.name)
    };
    keyed.sort_by_key(|(volume, _)| place(volume));
    away.require_distinct(present(keyed))
}
