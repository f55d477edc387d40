// SPDX-License-Identifier: Apache-2.0
//! The file systems' freshness proven, the boot counted, and all of it remembered.

use std::path::Path;
use std::sync::Mutex;

use log::info;

use crate::anchor::Allowed;
use crate::anchor::checkpoint::Held;
use crate::anchor::record::{Accepted, Checkpoint};
use crate::boot::at_once;
use crate::config::{Config, Level, Volume};
use crate::error::{Doing, Result};
use crate::sources::enroll::is_enrolled;
use crate::sources::tpm::{Chip, lock};
use crate::status::Recorder;
use crate::volume::{How, Keyed, Opened};

/// Holds the file systems whose freshness the TPM remembers, once they are no older than that, so that nobody reads their
/// superblocks again before they are mounted where they belong. Nothing is written yet.
pub(super) fn hold<'a>(
    chip: &Mutex<Chip>,
    opened: &[(&'a Volume, Opened)],
) -> Result<Vec<(&'a Volume, Held)>> {
    let mut chip = lock(chip)?;
    let fresh = opened
        .iter()
        .map(|(volume, _)| *volume)
        .filter(|volume| volume.level() == Level::Checkpoint);
    fresh
        .map(|volume| {
            let held = Held::mount(Path::new(&volume.name.mapping()), volume.name.as_str())?;
            if chip.accepted(volume) != Some(Allowed::Accepted(Accepted::Rollback)) {
                held.compare(chip.checkpoint(volume)?.as_ref())?;
            }
            Ok((volume, held))
        })
        .collect::<Result<_>>()
        .doing("comparing file systems with their checkpoints")
}

/// The epoch that the header of a volume that existed is to have after this boot. Volumes whose epoch is not counted get
/// their old one where there is more to write: another secret, or a repair.
pub(super) fn next_epoch(
    chip: &Mutex<Chip>,
    volume: &Volume,
    keyed: &Keyed,
) -> Result<Option<u64>> {
    if keyed.how == How::Formatted {
        return Ok(None);
    }
    match lock(chip)?.recall()? {
        (_, Some(anchor)) if volume.level() >= Level::Epoch => anchor.next_epoch(volume).map(Some),
        _ => Ok(keyed.epoch.filter(|_| keyed.is_to_be_rewritten())),
    }
}

/// Gives every volume that existed its header of the next epoch, and only then counts this boot: until then headers of both
/// epochs are good.
pub(super) fn count<'a>(
    chip: &Mutex<Chip>,
    opened: Vec<(&'a Volume, Opened)>,
    record: &Recorder,
) -> Result<Vec<(&'a Volume, Opened)>> {
    let mut chip = lock(chip)?;
    let (tpm, anchor) = chip.recall()?;
    let renewed = at_once(opened, |volume, mut opened| {
        opened.renew()?;
        if opened.keyed().enrolled {
            info!(volume = volume.name.as_str(); "enrolled: its secret is the key service's now, and the old one is gone");
        }
        Ok(opened)
    })?;
    let Some(anchor) = anchor else {
        return Ok(renewed);
    };
    anchor.advance(tpm)?;
    record.epoch(anchor.counter()?);
    for (volume, _) in renewed.iter().filter(|(_, opened)| is_enrolled(opened)) {
        anchor.enrolled(volume);
    }
    Ok(renewed)
}

/// The file systems that are held may be written to.
pub(super) fn allow_writes(held: &[(&Volume, Held)]) -> Result<()> {
    held.iter()
        .try_for_each(|(_, held)| held.allow_writes())
        .doing("making file systems writable")
}

/// From here on the volumes are what the TPM remembers, and the running system can tell it more.
pub(super) fn settle(
    top: &Path,
    config: &Config,
    chip: &Mutex<Chip>,
    held: &[(&Volume, Held)],
) -> Result<()> {
    let mut chip = lock(chip)?;
    let (tpm, Some(anchor)) = chip.recall()? else {
        return Ok(());
    };
    let seen = |volume: &Volume| -> Option<Checkpoint> {
        let (_, held) = held.iter().find(|(other, _)| other.name == volume.name)?;
        Some(held.seen())
    };
    let volumes: Vec<_> = config
        .volumes()
        .map(|volume| (volume, seen(volume)))
        .collect();
    anchor.settle(tpm, &volumes)?;
    let running = chip.let_go().and_then(|anchor| anchor.into_running(config));
    running.map_or(Ok(()), |running| running.leave(top))
}
