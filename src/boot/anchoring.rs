// SPDX-License-Identifier: Apache-2.0
//! The boot counted, the file systems' freshness proven, and all of it remembered.

use std::path::Path;
use std::sync::Mutex;

use super::at_once;
use super::chip::{Chip, lock};
use crate::anchor::record::Checkpoint;
use crate::checkpoint::Held;
use crate::config::{Config, Level, Volume};
use crate::error::{Doing, Result};
use crate::status::Recorder;
use crate::volume::{How, Keyed, Opened};

/// Gives every volume that exists a header of the next epoch, and only then counts this boot: until then headers of both
/// epochs are good.
pub(super) fn count<'a>(
    chip: &Mutex<Chip>,
    keyed: Vec<(&'a Volume, Keyed)>,
    record: &Recorder,
) -> Result<Vec<(&'a Volume, Keyed)>> {
    let mut chip = lock(chip)?;
    let Chip { tpm, anchor, .. } = &mut *chip;
    let Some(anchor) = anchor else {
        return Ok(keyed);
    };
    let epoch = anchor.next_epoch()?;
    let renewed = at_once(keyed, |volume, mut keyed| {
        if keyed.how == How::Unlocked && volume.level() >= Level::Epoch {
            keyed.renew(epoch)?;
        }
        Ok(keyed)
    })?;
    anchor.advance(tpm)?;
    record.epoch(anchor.counter());
    Ok(renewed)
}

/// Holds the file systems whose freshness the TPM remembers, once they are no older than that, so that nobody reads their
/// superblocks again before they are mounted where they belong.
pub(super) fn hold<'a>(
    chip: &Mutex<Chip>,
    opened: &[(&'a Volume, Opened)],
) -> Result<Vec<(&'a Volume, Held)>> {
    let chip = lock(chip)?;
    let Some(anchor) = &chip.anchor else {
        return Ok(Vec::new());
    };
    let fresh = opened
        .iter()
        .map(|(volume, _)| *volume)
        .filter(|volume| volume.level() == Level::Checkpoint);
    fresh
        .map(|volume| {
            let held = Held::mount(Path::new(&volume.name.mapping()), volume.name.as_str())?;
            if chip.accepted(volume).is_none() {
                held.compare(anchor.checkpoint(volume).as_ref())?;
            }
            held.allow_writes()?;
            Ok((volume, held))
        })
        .collect::<Result<_>>()
        .doing("comparing file systems with their checkpoints")
}

/// From here on the volumes are what the TPM remembers, and the running system can tell it more.
pub(super) fn settle(
    top: &Path,
    config: &Config,
    chip: &Mutex<Chip>,
    held: &[(&Volume, Held)],
) -> Result<()> {
    let mut chip = lock(chip)?;
    let Chip { tpm, anchor, .. } = &mut *chip;
    let Some(anchor) = anchor else {
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
    let running = chip
        .anchor
        .take()
        .and_then(|anchor| anchor.into_running(config));
    running.map_or(Ok(()), |running| running.leave(top))
}
