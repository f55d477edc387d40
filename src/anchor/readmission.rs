// SPDX-License-Identifier: Apache-2.0
//! A volume whose TPM is lost: another one, or the same after it was cleared, is to remember it from now on.
//!
//! It takes an operator's word, which the key service passes on, and the service's record of the volume, which the disk is
//! compared with: see [`super::judge::readmitted`]. Nothing is remembered of the volume before its boot has been handed over,
//! so whatever the power does before that, the next boot asks the service again. The entry comes into being in one write,
//! complete: there is no time at which a volume is remembered and its epoch is not compared.
//!
//! The new counter knows nothing of the boots the old one counted, and a host can have cut boots off with a copy of the disk,
//! on the old TPM, on this one or on one in between, so that headers have epochs ahead of what the service was told. So each
//! answer of the service begins epochs of its own, by the time at which it is given: they are above those of every answer before
//! it, and the entry holds how far they are ahead of the TPM's counter. A copy that another answer led to is older than the first
//! report of the boot that comes to its end, and fits no count of its TPM.

use super::judge::{self, Readmission, VolumeProof};
use super::record::{Entry, Record, State};
use super::{Allowed, Anchor, Exception, exception};
use crate::config::{Level, Volume, VolumeName};
use crate::error::Result;

/// A volume that the TPM is to remember once its boot has succeeded: its entry.
#[derive(Clone, Debug)]
pub(super) struct Readmitted(Entry);

impl Readmitted {
    /// `proven` is what the volume showed, and is compared with the answer.
    pub(super) fn new(
        name: VolumeName,
        level: Level,
        readmission: &Readmission,
        proven: &VolumeProof,
    ) -> Result<Self> {
        judge::readmitted(readmission, proven)?;
        Ok(Self(proven.entry(name, level, readmission.ahead()?)))
    }

    /// What is remembered of it.
    pub(super) fn entry(&self) -> Entry {
        self.0.clone()
    }

    /// How far its epochs are ahead of the TPM's counter from this boot on.
    pub(super) fn ahead(&self) -> i64 {
        self.0.ahead
    }

    pub(super) fn is_for(&self, volume: &Volume) -> bool {
        self.0.name == volume.name
    }
}

impl Anchor {
    /// Whether the TPM remembers nothing of this volume.
    #[must_use]
    pub fn is_unknown(&self, volume: &Volume) -> bool {
        self.entry(volume)
            .is_none_or(|entry| entry.state == State::Lost)
    }

    /// Takes up a volume that the TPM does not remember and that was shown to be the one an operator readmitted.
    ///
    /// Where there is no record [`Anchor::renew_record`] makes one. [`Anchor::commit`] remembers the volume.
    pub fn readmit(
        &mut self,
        volume: &Volume,
        readmission: &Readmission,
        proven: &VolumeProof,
    ) -> Result<Exception> {
        let name = volume.name.clone();
        let readmitted = Readmitted::new(name, volume.level(), readmission, proven)?;
        // That there is no room is found out before anything is measured.
        let loaded = self.loaded.as_ref();
        let mut record = loaded.map_or_else(Record::default, |it| it.record.clone());
        for readmitted in self.readmitted.iter().chain([&readmitted]) {
            record.set(readmitted.entry())?;
        }
        self.readmitted.push(readmitted);
        Ok(exception(volume, Allowed::Readmitted))
    }
}
