// SPDX-License-Identifier: Apache-2.0
//! A volume whose TPM is lost: another one, or the same after it was cleared, is to remember it from now on.
//!
//! It takes an operator's word, which the key service passes on, and the service's record of the volume, which the disk is
//! compared with: see [`super::judge::readmitted`]. Nothing is remembered of the volume before its boot has been handed over, but
//! that there is something, so whatever the power does before that, the next boot asks the service again and makes no new volume in
//! its place. The entry comes into being in one write, complete: there is no time at which a volume is remembered and its epoch is
//! not compared.
//!
//! What else the TPM remembered is gone as well. So existing volumes are judged before any is made, and a boot that readmits one makes
//! no new volume of a disk that need not be there: it may be in the place of one. Where the disk has to be there the boot could
//! never end, so it is made, and measured as what an operator accepts with `new`.
//!
//! The new counter knows nothing of the boots the old one counted, and a host can have cut boots off with a copy of the disk,
//! on the old TPM, on this one or on one in between, so that headers have epochs ahead of what the service was told. So each
//! answer of the service begins epochs of its own, by the time at which it is given: they are above those of every answer before
//! it, and the entry holds how far they are ahead of the TPM's counter. A copy that another answer led to is older than the first
//! report of the boot that comes to its end, and fits no count of its TPM.

use log::warn;

use super::judge::{self, Readmission, VolumeProof};
use super::record::{Accepted, Entry, Record, State};
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

    /// What is said of it until then.
    pub(super) fn lost(&self) -> Entry {
        Entry::lost(self.0.name.clone(), self.0.level)
    }

    /// How far its epochs are ahead of the TPM's counter from this boot on.
    pub(super) fn ahead(&self) -> i64 {
        self.0.ahead
    }

    pub(super) fn is_for(&self, volume: &Volume) -> bool {
        self.0.name == volume.name
    }
}

/// A volume is made in the boot that readmits another.
pub(super) fn made_beside(volume: &Volume) -> Exception {
    warn!(
        volume = volume.name.as_str();
        "a new volume is made, in a boot whose TPM has forgotten another one: whether this disk is in the place of one it does not tell"
    );
    Exception {
        volume: volume.name.clone(),
        kind: Allowed::Accepted(Accepted::New),
    }
}

impl Anchor {
    /// Whether the TPM remembers nothing of this volume.
    #[must_use]
    pub fn is_unknown(&self, volume: &Volume) -> bool {
        self.entry(volume)
            .is_none_or(|entry| entry.state == State::Lost)
    }

    /// Whether a volume was readmitted in this boot, so that the TPM's memory may be missing more of them.
    #[must_use]
    pub fn is_readmitting(&self) -> bool {
        !self.readmitted.is_empty()
    }

    /// Takes up a volume that the TPM does not remember and that was shown to be the one an operator readmitted.
    ///
    /// [`Anchor::renew_record`] says that there is something, [`Anchor::commit`] remembers the volume.
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
