// SPDX-License-Identifier: Apache-2.0
//! The file systems' freshness proven, the boot counted, and all of it remembered.

use std::path::Path;
use std::sync::Mutex;

use log::info;

use crate::anchor::Allowed;
use crate::anchor::checkpoint::PinnedMount;
use crate::anchor::record::{Accepted, Checkpoint};
use crate::boot::each_volume;
use crate::config::{Config, Level, Volume};
use crate::error::{Doing, Result};
use crate::header::Stamp;
use crate::sources::enroll::is_enrolled;
use crate::sources::tpm::{NodeTpm, lock};
use crate::status::Recorder;
use crate::volume::{How, Keyed, Opened};

/// Holds the file systems whose freshness the TPM remembers, once they are no older than that, so that nobody reads their
/// superblocks again before they are mounted where they belong. Nothing is written yet.
pub(super) fn verify_freshness<'a>(
    node_tpm: &Mutex<NodeTpm>,
    opened: &[(&'a Volume, Opened)],
) -> Result<Vec<(&'a Volume, PinnedMount)>> {
    let mut node_tpm = lock(node_tpm)?;
    let fresh = opened
        .iter()
        .map(|(volume, _)| *volume)
        .filter(|volume| volume.level() == Level::Checkpoint);
    fresh
        .map(|volume| {
            let pinned =
                PinnedMount::mount(Path::new(&volume.name.mapping()), volume.name.as_str())?;
            if node_tpm.accepted(volume) != Some(Allowed::Accepted(Accepted::Rollback)) {
                pinned.compare(node_tpm.checkpoint(volume)?.as_ref())?;
            }
            Ok((volume, pinned))
        })
        .collect::<Result<_>>()
        .doing("comparing file systems with their checkpoints")
}

/// The stamp that the header of a volume that existed is to have after this boot. Volumes whose epoch is not counted get
/// their old one where there is more to write: another secret, or a repair.
pub(super) fn next_stamp(
    node_tpm: &Mutex<NodeTpm>,
    volume: &Volume,
    keyed: &Keyed,
) -> Result<Option<Stamp>> {
    if keyed.how == How::Formatted {
        return Ok(None);
    }
    match lock(node_tpm)?.anchor()? {
        (_, Some(anchor)) if volume.level() >= Level::Epoch => anchor.next_stamp(volume).map(Some),
        _ => Ok(keyed.stamp.filter(|_| keyed.is_to_be_rewritten())),
    }
}

/// Gives every volume that existed its header of the next epoch, and only then counts this boot: until then headers of both
/// epochs are good. The counter says so before the first of them is written.
pub(super) fn count<'a>(
    node_tpm: &Mutex<NodeTpm>,
    opened: Vec<(&'a Volume, Opened)>,
    record: &Recorder,
) -> Result<Vec<(&'a Volume, Opened)>> {
    let mut node_tpm = lock(node_tpm)?;
    let (tpm, mut anchor) = node_tpm.anchor()?;
    if let Some(anchor) = &mut anchor {
        anchor.begin_renewal(tpm)?;
    }
    let renewed = each_volume(opened, |volume, mut opened| {
        opened.renew()?;
        if opened.keyed().enrolled {
            info!(volume = volume.name.as_str(); "enrolled: its secret is the key service's now, and the old one is gone");
        }
        Ok(opened)
    })?;
    let Some(anchor) = anchor else {
        return Ok(renewed);
    };
    // Before the nonce and the count, which no record that is left may miss.
    anchor.remove_others(tpm)?;
    anchor.advance(tpm)?;
    record.epoch(anchor.counter()?);
    for (volume, _) in renewed.iter().filter(|(_, opened)| is_enrolled(opened)) {
        anchor.enrolled(volume);
    }
    Ok(renewed)
}

/// The file systems that are held may be written to.
pub(super) fn allow_writes(pinned: &[(&Volume, PinnedMount)]) -> Result<()> {
    pinned
        .iter()
        .try_for_each(|(_, pinned)| pinned.allow_writes())
        .doing("making file systems writable")
}

/// From here on the volumes are what the TPM remembers, and the running system can tell it more.
pub(super) fn commit_anchor(
    top: &Path,
    config: &Config,
    node_tpm: &Mutex<NodeTpm>,
    pinned: &[(&Volume, PinnedMount)],
) -> Result<()> {
    let mut node_tpm = lock(node_tpm)?;
    let (tpm, Some(anchor)) = node_tpm.anchor()? else {
        return Ok(());
    };
    let seen = |volume: &Volume| -> Option<Checkpoint> {
        let (_, pinned) = pinned.iter().find(|(other, _)| other.name == volume.name)?;
        Some(pinned.seen())
    };
    let volumes: Vec<_> = config
        .volumes()
        .map(|volume| (volume, seen(volume)))
        .collect();
    anchor.commit(tpm, &volumes)?;
    let runtime = node_tpm
        .take_anchor()
        .and_then(|anchor| anchor.into_runtime(config));
    runtime.map_or(Ok(()), |runtime| runtime.leave(top))
}
