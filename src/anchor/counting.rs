// SPDX-License-Identifier: Apache-2.0
//! How a boot counts: what its headers are stamped with, and in which order counter, headers and record get it.

use super::Anchor;
use super::count::Count;
use super::record::NONCE_OFFSET;
use crate::config::Volume;
use crate::error::{Doing, Error, Result};
use crate::header::{BootNonce, Stamp};
use crate::tpm::Tpm;

impl Anchor {
    /// Reads the counter, once, where there is a record, be it one that cannot be read. Everything about epochs needs it.
    pub fn count(&mut self, tpm: &mut Tpm) -> Result<()> {
        let is_there = self.loaded.is_some() || (self.is_stale() && self.has_counter);
        if is_there && self.counter.is_none() {
            self.counter = Some(tpm.count_anchor(self.at)?);
            let again = self.counted()?.nonce_again();
            self.nonce = self.nonce_of_boot(again)?;
        }
        Ok(())
    }

    /// The nonce of this boot: `again`, or a new one.
    pub(super) fn nonce_of_boot(&self, again: Option<BootNonce>) -> Result<Option<BootNonce>> {
        match again {
            _ if !self.counts => Ok(None),
            Some(again) => Ok(Some(again)),
            None => BootNonce::draw().map(Some),
        }
    }

    /// The header of a new volume is written before the counter says that headers are. Where that boot is cut off at an even
    /// count, the next one goes on with the record's nonce, and what was left may not have that one.
    pub(super) fn draw_for_new_volume(&mut self) -> Result<()> {
        if !self.counts {
            return Ok(());
        }
        let again = self.counted()?.nonce_again();
        if again.is_some() && again == self.nonce {
            self.nonce = self.nonce_of_boot(None)?;
        }
        Ok(())
    }

    /// The stamp that a header of this volume written in this boot has.
    pub fn next_stamp(&self, volume: &Volume) -> Result<Stamp> {
        let nonce = self.nonce;
        let readmitted = self.readmitted.iter().find(|it| it.is_for(volume));
        let ahead = match (readmitted, self.entry(volume)) {
            (Some(readmitted), _) => readmitted.ahead(),
            (None, Some(entry)) => entry.ahead,
            (None, None) => 0,
        };
        let epoch = self.next_count()?.checked_add_signed(ahead);
        let epoch = epoch.ok_or_else(|| Error::refused("the volume's epochs are at their end"))?;
        Ok(Stamp { epoch, nonce })
    }

    /// What the counter says at the end of this boot.
    fn next_count(&self) -> Result<u64> {
        if !self.counts {
            return self.counter();
        }
        let next = self.counted()?.next();
        next.ok_or_else(|| Error::refused("the anchor's counter is at its end"))
    }

    /// Has the counter say that headers are being written. No existing volume may have one of the next epoch before.
    pub fn begin_renewal(&mut self, tpm: &mut Tpm) -> Result<()> {
        if self.counts && self.counted()?.is_raised_first() {
            tpm.raise_anchor(self.at)?;
            // [`Anchor::advance`] reads it, and finds out if it is not.
            self.counter = self.counter()?.checked_add(1);
        }
        Ok(())
    }

    /// Counts this boot. All headers of existing volumes must be of the next epoch and durable.
    pub fn advance(&mut self, tpm: &mut Tpm) -> Result<()> {
        if !self.counts {
            return Ok(());
        }
        let (before, next) = (self.counter()?, self.next_count()?);
        // Twice in the boot that gives a record of before its nonce, where the counter was even. The nonce comes between, so that
        // a boot which is cut off there leaves an odd count and the next one draws another.
        for _ in before.saturating_add(1)..next {
            tpm.raise_anchor(self.at)?;
        }
        self.write_nonce(tpm)?;
        let counted = tpm.increment_anchor(self.at)?;
        if counted != next {
            return Err(Error::refused(format_args!(
                "the anchor's counter went from {before} to {counted}: another program counts too"
            )));
        }
        self.counter = Some(counted);
        Ok(())
    }

    /// Tells the record what the headers have, where that is new.
    fn write_nonce(&mut self, tpm: &mut Tpm) -> Result<()> {
        let at = self.at;
        let (Some(nonce), Some(loaded)) = (self.nonce, &mut self.loaded) else {
            return Ok(());
        };
        if loaded.record.nonce == Some(nonce) {
            return Ok(());
        }
        tpm.write_anchor(at, &loaded.access, NONCE_OFFSET, &nonce.bytes())
            .doing("writing the anchor's nonce")?;
        loaded.record.nonce = Some(nonce);
        Ok(())
    }

    /// What the TPM says of the boots it counted.
    pub(super) fn counted(&self) -> Result<Count> {
        Ok(Count {
            counter: self.counter()?,
            nonce: self.loaded.as_ref().and_then(|it| it.record.nonce),
        })
    }

    /// The counter's value.
    pub fn counter(&self) -> Result<u64> {
        self.counter
            .ok_or_else(|| Error::failure("the anchor's counter was not read"))
    }
}
