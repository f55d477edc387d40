// SPDX-License-Identifier: Apache-2.0
//! A volume that an operator lets go on although it is of an older boot than the TPM counted.
//!
//! The word counts for this boot alone and is written nowhere: another disk that a host puts in its place after a cut takes another
//! word. The same one, where this boot has written its header, is then of the newest count, and opens without.

use super::judge::{self, VolumeProof, stale};
use super::record::{Accepted, Entry};
use super::{Allowed, Anchor, Exception, exception};
use crate::config::{Level, Volume};
use crate::error::{Error, Result};
use crate::protocol::VolumeRecord;

impl Anchor {
    /// Whether the volume is refused for its age alone, so that an operator's word lets it go on. `record` is what is known of
    /// it where the TPM's record cannot be read.
    #[must_use]
    pub fn is_old(&self, volume: &Volume, record: &VolumeRecord, proven: &VolumeProof) -> bool {
        let Ok(count) = self.counted() else {
            return false;
        };
        let (as_it_is, at_any_age) = if self.is_stale() {
            let verify = |level| stale::verify(record, count.counter, level, proven).map(|_| ());
            (verify(volume.level()), verify(Level::Identity))
        } else {
            let Some(entry) = self.entry(volume) else {
                return false;
            };
            let mut accepted = entry.clone();
            accepted.acceptance = Some(Accepted::Rollback);
            let verify = |entry| judge::verify(entry, count, volume.level(), proven);
            (verify(entry), verify(&accepted))
        };
        as_it_is.is_err() && at_any_age.is_ok()
    }

    /// An operator lets an older state of the volume go on, in this boot.
    pub fn roll_back(&mut self, volume: &Volume) -> Result<Exception> {
        if !self.is_stale() && self.is_unknown(volume) {
            return Err(Error::failure("a volume without an entry was permitted"));
        }
        self.rolled_back.push(volume.name.clone());
        Ok(exception(volume, Allowed::Accepted(Accepted::Rollback)))
    }

    /// What is remembered of the volume, with the word of this boot. It is never a part of the record, which is written for other
    /// volumes' sake before the boot has succeeded.
    pub(super) fn entry_of_this_boot(&self, volume: &Volume) -> Option<Entry> {
        let mut entry = self.entry(volume)?.clone();
        if self.rolled_back.contains(&volume.name) {
            entry.acceptance = Some(Accepted::Rollback);
        }
        Some(entry)
    }
}
