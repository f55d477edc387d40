// SPDX-License-Identifier: Apache-2.0
//! A volume whose TPM is lost: another one, or the same after it was cleared, is to remember it from now on.
//!
//! It takes an operator's word, which the key service passes on, and the service's record of the volume, which the disk is
//! compared with: see [`super::judge::readmitted`]. Nothing is remembered of the volume before its boot has been handed over,
//! so whatever the power does before that, the next boot asks the service again. The entry comes into being in one write,
//! complete: there is no time at which a volume is remembered and its epoch is not compared.
//!
//! The new counter knows nothing of the boots the old one counted. The entry holds how far the header is ahead of it.

use super::judge::VolumeProof;
use super::record::{Entry, Record, State};
use super::{Allowed, Anchor, Exception, exception};
use crate::config::{Level, Volume, VolumeName};
use crate::error::{Error, Result};
use crate::key::KEY_LEN;
use crate::tpm::Tpm;

/// A volume that the TPM is to remember once its boot has succeeded.
#[derive(Clone, Debug)]
pub(super) struct Readmitted {
    name: VolumeName,
    uuid: uuid::Uuid,
    key_id: [u8; KEY_LEN],
    level: Level,
    /// The epoch its header has at the end of this boot.
    epoch: u64,
}

impl Readmitted {
    /// `proven` is what the volume showed.
    pub(super) fn new(name: VolumeName, level: Level, proven: &VolumeProof) -> Result<Self> {
        let counted = u64::from(level >= Level::Epoch);
        let epoch = proven.stamp.epoch.checked_add(counted);
        Ok(Self {
            name,
            uuid: proven.uuid,
            key_id: proven.key_id,
            level,
            epoch: epoch.ok_or_else(|| Error::refused("the header's epoch is at its end"))?,
        })
    }

    /// What is remembered of it, by a TPM that counts `counter`.
    pub(super) fn entry(&self, counter: u64) -> Result<Entry> {
        let ahead = i128::from(self.epoch).checked_sub(i128::from(counter));
        let ahead = ahead.and_then(|ahead| i64::try_from(ahead).ok());
        Ok(Entry {
            name: self.name.clone(),
            uuid: self.uuid,
            key_id: self.key_id,
            state: State::Ready,
            level: self.level,
            acceptance: None,
            checkpoint: None,
            ahead: ahead.ok_or_else(|| {
                Error::refused("the header's epoch is too far from the TPM's counter")
            })?,
            enroll: false,
        })
    }

    /// The epoch its header has at the end of this boot.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn is_for(&self, volume: &Volume) -> bool {
        self.name == volume.name
    }
}

impl Anchor {
    /// Whether the TPM remembers nothing of this volume.
    #[must_use]
    pub fn is_unknown(&self, volume: &Volume) -> bool {
        self.entry(volume).is_none()
    }

    /// Takes up a volume that the TPM does not remember and that was shown to be the one an operator readmitted.
    ///
    /// An anchor without entries is made where there is none, as that can be done only before the fence's PCR takes the
    /// exception. [`Anchor::commit`] remembers the volume.
    pub fn readmit(
        &mut self,
        tpm: &mut Tpm,
        volume: &Volume,
        proven: &VolumeProof,
    ) -> Result<Exception> {
        let readmitted = Readmitted::new(volume.name.clone(), volume.level(), proven)?;
        if self.loaded.is_none() {
            self.define(tpm, Record::default())?;
        }
        // That there is no room is found out before anything is measured.
        if let Some(loaded) = &self.loaded {
            let counter = self.counter()?;
            let mut record = loaded.record.clone();
            for readmitted in self.readmitted.iter().chain([&readmitted]) {
                record.set(readmitted.entry(counter)?)?;
            }
        }
        self.readmitted.push(readmitted);
        Ok(exception(volume, Allowed::Readmitted))
    }
}
