// SPDX-License-Identifier: Apache-2.0
//! A volume that a boot is without: its image does not have it, its disk is gone, or what is there was refused and the others are not
//! to wait for it.
//!
//! Its header keeps the count that it was last open with, and the counter goes on. So the volume's entry says which stamp that was,
//! in the words of the header: written once, by the first boot without it, before the nonce and the last count of that boot. It does
//! not move with the boots that follow, nor with a record that is made anew. The stamp is a lower bound: a boot that had the volume
//! again and was cut off has left a later one. It is taken away when the counter is at the end of the boot that has the volume again,
//! and before anything on it can be written: earlier, what a boot that is cut off leaves would be too old; later, the volume as it
//! was before that boot would be as new. All of this is what `model/host/away.rs` plays through.
//!
//! Where the record cannot be read and is made anew, what it said of a volume that is away is lost with it. What is left is
//! [`State::Lost`] for each that the configuration has: a blank disk is not taken for a new volume then, and the volume itself
//! takes an operator's word at the key service. One that the configuration does not have is not remembered at all. The same is said
//! of a volume that is readmitted, until it is remembered: see [`super::readmission`].

use log::info;

use super::Anchor;
use super::readmission::Readmitted;
use super::record::{Entry, State};
use crate::config::{Level, Volume};
use crate::error::{Error, Result};
use crate::header::Stamp;
use crate::tpm::Tpm;

impl Anchor {
    /// Has the record say of the volumes that are not `open` in this boot with which stamp they were last open, where it does not
    /// yet. The headers of those that are have been written, and [`Anchor::advance`] comes next.
    pub fn note_away(&mut self, tpm: &mut Tpm, open: &[&Volume]) -> Result<()> {
        if !self.counts {
            return Ok(());
        }
        let last_open = self.counted()?.last_open();
        let changed = self.changed(|entry| {
            let is_counted = entry.level >= Level::Epoch && entry.state != State::Lost;
            if !is_counted || entry.away.is_some() || is_among(open, entry) {
                return Ok(());
            }
            let epoch = last_open.epoch.checked_add_signed(entry.ahead);
            let epoch =
                epoch.ok_or_else(|| Error::refused("the volume's epochs are at their end"))?;
            info!(volume = entry.name.as_str(); "away: it was last open with epoch {epoch}");
            entry.away = Some(Stamp { epoch, ..last_open });
            Ok(())
        })?;
        if changed { self.write(tpm) } else { Ok(()) }
    }

    /// Has the record say that the volumes are back that are `open` in this boot. It was counted, and nothing of them can be written
    /// yet.
    pub fn note_back(&mut self, tpm: &mut Tpm, open: &[&Volume]) -> Result<()> {
        let changed = self.changed(|entry| {
            if is_among(open, entry) && entry.away.take().is_some() {
                info!(volume = entry.name.as_str(); "back: its boots are counted again");
            }
            Ok(())
        })?;
        if changed { self.write(tpm) } else { Ok(()) }
    }

    /// What the record is to say of the volumes that it says nothing of, are not carried over, and are away, or readmitted and not
    /// remembered before this boot was handed over. Else a blank disk would be a new volume after a boot that was cut off, or that
    /// did not open them.
    pub(super) fn lost(&self, away: &[&Volume]) -> Vec<Entry> {
        let is_stale = self.is_stale();
        let is_known = |entry: &Entry| {
            let mut carried = self.carried.iter();
            let record = self.loaded.as_ref().filter(|_| !is_stale);
            carried.any(|it| it.entry.name == entry.name)
                || record.is_some_and(|it| it.record.get(&entry.name).is_some())
        };
        let anchored = away.iter().filter(|volume| volume.level() != Level::Off);
        let away = anchored.map(|volume| Entry::lost(volume.name.clone(), volume.level()));
        let readmitted = self.readmitted.iter().map(Readmitted::lost);
        away.chain(readmitted)
            .filter(|entry| !is_known(entry))
            .collect()
    }

    /// Changes the record in memory; whether that made it another one.
    fn changed(&mut self, mut change: impl FnMut(&mut Entry) -> Result<()>) -> Result<bool> {
        let Some(loaded) = &mut self.loaded else {
            return Ok(false);
        };
        let old: Vec<Entry> = loaded.record.entries().cloned().collect();
        let mut is_other = false;
        for old in old {
            let mut new = old.clone();
            change(&mut new)?;
            if new != old {
                loaded.record.set(new)?;
                is_other = true;
            }
        }
        Ok(is_other)
    }
}

fn is_among(open: &[&Volume], entry: &Entry) -> bool {
    open.iter().any(|volume| volume.name == entry.name)
}
