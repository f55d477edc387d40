// SPDX-License-Identifier: Apache-2.0
//! The file systems' freshness proven, the boot counted, and all of it remembered.

use std::path::Path;
use std::sync::Mutex;

use log::info;
use uuid::Uuid;

use crate::anchor::Allowed;
use crate::anchor::checkpoint::PinnedMount;
use crate::anchor::record::{Accepted, Checkpoint};
use crate::boot::away::{Away, is_anchored, present};
use crate::boot::each_volume;
use crate::config::{Config, Level, Volume};
use crate::error::{Doing, Result};
use crate::header::Stamp;
use crate::sources::enroll::is_enrolled;
use crate::sources::tpm::{NodeTpm, lock};
use crate::status::Recorder;
use crate::volume::{How, Keyed, Opened, Rekeyed};

/// Holds the file systems whose freshness the TPM remembers, once they are no older than that, so that nobody reads their
/// superblocks again before they are mounted where they belong. Nothing is written yet.
pub(super) fn verify_freshness<'a>(
    node_tpm: &Mutex<NodeTpm>,
    opened: Vec<(&'a Volume, Opened)>,
    away: &Away<'a>,
) -> Result<(OpenedVolumes<'a>, Vec<(&'a Volume, PinnedMount)>)> {
    let mut node_tpm = lock(node_tpm)?;
    let (mut fresh, mut pinned) = (Vec::new(), Vec::new());
    for (volume, opened) in opened {
        if volume.level() < Level::Checkpoint {
            fresh.push((volume, opened));
            continue;
        }
        let compared =
            pin(&mut node_tpm, volume).doing("comparing file systems with their checkpoints");
        if let Some(mount) = away.unless_required_or_closed(volume, compared)? {
            fresh.push((volume, opened));
            pinned.push((volume, mount));
        }
    }
    Ok((fresh, pinned))
}

type OpenedVolumes<'a> = Vec<(&'a Volume, Opened)>;

fn pin(node_tpm: &mut NodeTpm, volume: &Volume) -> Result<PinnedMount> {
    let pinned = PinnedMount::mount(Path::new(&volume.name.mapping()), volume.name.as_str())?;
    if node_tpm.accepted(volume) != Some(Allowed::Accepted(Accepted::Rollback)) {
        pinned.compare(node_tpm.checkpoint(volume)?.as_ref())?;
    }
    Ok(pinned)
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
///
/// The record is told before that count of the volumes that this boot is without, and after it of those that are back.
pub(super) fn count<'a>(
    node_tpm: &Mutex<NodeTpm>,
    opened: OpenedVolumes<'a>,
    record: &Recorder,
    away: &Away<'a>,
) -> Result<OpenedVolumes<'a>> {
    let mut node_tpm = lock(node_tpm)?;
    let (tpm, anchor) = node_tpm.anchor()?;
    let anchored: Vec<&Volume> = opened.iter().map(|(volume, _)| *volume).collect();
    let mut anchor = anchor.filter(|_| is_anchored(&anchored));
    if let Some(anchor) = &mut anchor {
        anchor.begin_renewal(tpm)?;
    }
    let renewed = each_volume(opened, |volume, mut opened| {
        let before = opened.keyed().recovery_keyslots_before().to_vec();
        let renewed = opened.renew().map(|()| {
            tell_recovery_keys(volume, &before, opened.keyed().recovery_keyslots());
            opened
        });
        away.unless_required_or_closed(volume, renewed)
    })?;
    let renewed = present(renewed);
    for (volume, opened) in &renewed {
        tell_change(volume, opened.keyed().changed);
    }
    let uuids = renewed.iter().map(|(_, it)| it.keyed().uuid.parse());
    let durable: Vec<Uuid> = uuids.filter_map(std::result::Result::ok).collect();
    let Some(anchor) = anchor else {
        if let (tpm, Some(anchor)) = node_tpm.anchor()? {
            anchor.settle_requests(tpm, &durable);
        }
        return Ok(renewed);
    };
    let open: Vec<&Volume> = renewed.iter().map(|(volume, _)| *volume).collect();
    // Before the nonce and the count, which no record that is left may miss.
    anchor.remove_others(tpm)?;
    anchor.note_away(tpm, &open)?;
    anchor.advance(tpm)?;
    anchor.note_back(tpm, &open)?;
    anchor.settle_requests(tpm, &durable);
    record.epoch(anchor.counter()?);
    for (volume, _) in renewed.iter().filter(|(_, opened)| is_enrolled(opened)) {
        anchor.enrolled(volume);
    }
    Ok(renewed)
}

/// Says what became of the volume's secret.
fn tell_change(volume: &Volume, changed: Option<Rekeyed>) {
    let what = match changed {
        None => return,
        Some(Rekeyed::Enrolled) => {
            "enrolled: its secret is the key service's now, and the old one is gone"
        }
        Some(Rekeyed::Rotated) => "rotated: its secret is another one now, and the old one is gone",
        Some(Rekeyed::Sealed) => "its secret was sealed anew",
    };
    info!(volume = volume.name.as_str(); "{what}");
}

/// Says which recovery keyslots came and went.
fn tell_recovery_keys(volume: &Volume, before: &[u8], after: &[u8]) {
    let name = volume.name.as_str();
    for keyslot in after.iter().filter(|id| !before.contains(id)) {
        info!(volume = name; "keyslot {keyslot} was made for a recovery key");
    }
    for keyslot in before.iter().filter(|id| !after.contains(id)) {
        info!(volume = name; "keyslot {keyslot}, of a recovery key, was emptied");
    }
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
    (open, pinned): (&[&Volume], &[(&Volume, PinnedMount)]),
) -> Result<()> {
    let mut node_tpm = lock(node_tpm)?;
    let (tpm, Some(anchor)) = node_tpm.anchor()? else {
        return Ok(());
    };
    let seen = |volume: &Volume| -> Option<Checkpoint> {
        let (_, pinned) = pinned.iter().find(|(other, _)| other.name == volume.name)?;
        Some(pinned.seen())
    };
    if is_anchored(open) {
        let volumes: Vec<_> = open.iter().map(|volume| (*volume, seen(volume))).collect();
        anchor.commit(tpm, &volumes)?;
    }
    let runtime = node_tpm
        .take_anchor()
        .and_then(|anchor| anchor.into_runtime(config));
    runtime.map_or(Ok(()), |runtime| runtime.leave(top))
}
