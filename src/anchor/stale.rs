// SPDX-License-Identifier: Apache-2.0
//! A record that was made under other PCR values: another image was booted, or the same one otherwise, so this boot cannot read
//! what the TPM remembers. That is no loss: the record is there, and so is the counter, which is never lower than it was.
//!
//! A key service that admits what was booted and has a record of the volume stands in for it: see [`super::judge::stale`]. That the
//! TPM's record is there is seen by its name, which follows from the policy that the volume's secret was sealed under, and the
//! header's MAC covers that. A record that was removed has another name or none, and takes an operator's word.
//!
//! The record is made anew when every volume has been judged, complete and in the other place. The headers that were sealed anew
//! follow, then the record of before is removed, and only then nonce and count go on: no record is left that does not know them.
//! Cut off in between, this image finds its own record, and the image of before finds the one that it made; either seals anew what
//! the other has sealed.
//!
//! What is lost with the record: nonces (what a boot left that was cut off fits, as long as it is no older than the last report to
//! the service), checkpoints (so a volume of that level takes an operator's word), what an operator accepted or asked for, and the
//! entries of volumes that the configuration does not have any more.

use log::{info, warn};

use super::judge::stale::{self, Continued};
use super::judge::{DeviceState, VolumeProof};
use super::record::{Entry, RECORD_LEN, Record, State};
use super::{Allowed, Anchor, Exception, Loaded};
use crate::config::{Level, Volume, VolumeName};
use crate::error::{Error, Result};
use crate::key::{KEY_LEN, Secret};
use crate::protocol::VolumeRecord;
use crate::tpm::{Handles, NvAccess, Tpm};

/// A volume that the record made anew is to have.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    name: VolumeName,
    uuid: uuid::Uuid,
    key_id: [u8; KEY_LEN],
    level: Level,
    continued: Continued,
    /// The digest of the policy its secret was sealed under, and so the record of before was made under.
    sealed_under: Option<[u8; 32]>,
}

impl Carried {
    /// `proven` is what the volume showed, `record` what the service remembers of it.
    pub(super) fn new(
        name: VolumeName,
        level: Level,
        (record, counter): (&VolumeRecord, u64),
        proven: &VolumeProof,
        sealed_under: Option<[u8; 32]>,
    ) -> Result<Self> {
        Ok(Self {
            name,
            uuid: proven.uuid,
            key_id: proven.key_id,
            level,
            continued: stale::verify(record, counter, level, proven)?,
            sealed_under,
        })
    }

    /// What is remembered of it.
    pub(super) fn entry(&self) -> Entry {
        Entry {
            name: self.name.clone(),
            uuid: self.uuid,
            key_id: self.key_id,
            state: State::Ready,
            level: self.level,
            acceptance: None,
            checkpoint: None,
            ahead: self.continued.ahead,
            enroll: false,
        }
    }

    /// The record that these volumes are remembered in.
    pub(super) fn record(all: &[Self]) -> Result<Record> {
        let mut record = Record::default();
        record.nonce = stale::common_nonce(all.iter().map(|it| it.continued))?;
        for carried in all {
            record.set(carried.entry())?;
        }
        Ok(record)
    }
}

impl Anchor {
    /// Whether there is a record, and none that this boot can read.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.loaded.is_none() && !self.others.is_empty()
    }

    /// What is said of a device where the record cannot be read and nothing stands in for it.
    pub(super) fn refuse_stale(volume: &Volume, seen: DeviceState) -> Error {
        let why = Error::refused(
            "the TPM's record was made under other PCR values: this machine booted another image, or the firmware, its settings \
             or tpm.pcrs have changed; boot what made it",
        );
        match seen {
            DeviceState::Volume => Error::refused(format_args!(
                "{why}. Only a key service can stand in for it, and volume {} has none among its sources",
                volume.name
            )),
            DeviceState::Blank | DeviceState::Interrupted(_) => Error::refused(format_args!(
                "{why}. The device has no volume, and whether there was one cannot be told: a volume is made when the others \
                 have moved to the record of this image"
            )),
        }
    }

    /// Takes up a volume that the key service remembers, where the TPM's record cannot be read. `sealed_under` is the digest of
    /// the policy in its header. [`Anchor::renew_record`] remembers it.
    pub fn carry_over(
        &mut self,
        volume: &Volume,
        record: &VolumeRecord,
        proven: &VolumeProof,
        sealed_under: Option<[u8; 32]>,
    ) -> Result<Exception> {
        let name = volume.name.clone();
        let known = (record, self.counter()?);
        let carried = Carried::new(name, volume.level(), known, proven, sealed_under)?;
        self.carried.push(carried);
        let kind = Allowed::Stale;
        warn!(
            volume = volume.name.as_str();
            "the TPM's record of before cannot be read: on the key service's word it goes on in one of this image"
        );
        let volume = volume.name.clone();
        Ok(Exception { volume, kind })
    }

    /// Whether [`Anchor::renew_record`] has something to do.
    #[must_use]
    pub fn is_to_be_renewed(&self) -> bool {
        self.loaded.is_none() && !(self.carried.is_empty() && self.readmitted.is_empty())
    }

    /// Makes the record anew when every volume has been judged: nothing was written before. It can be done only before the fence's
    /// PCR takes an exception.
    pub fn renew_record(&mut self, tpm: &mut Tpm) -> Result<()> {
        if self.others.is_empty() {
            return self.define(tpm, Record::default());
        }
        let named = self.named(tpm)?;
        self.at = self.place_beside(&named)?;
        let record = Carried::record(&self.carried)?;
        let auth = Secret::random()?;
        let bytes = record.encode(&auth);
        tpm.define_record(self.at, self.policy, &auth, &bytes)?;
        let pcr_policy = tpm.anchor_policy(self.policy)?;
        let access = NvAccess { auth, pcr_policy };
        info!(
            "the anchor's record is made anew in NV index {:#x}",
            self.at.record
        );
        self.loaded = Some(Loaded { record, access });
        // One that nothing names has made room for it.
        let made = self.at.record;
        self.others.retain(|other| *other != made);
        let again = self.counted()?.nonce_again();
        self.nonce = self.nonce_of_boot(again)?;
        Ok(())
    }

    /// The records of before that the headers name. Where a volume is carried over that names one, it has to be there.
    fn named(&self, tpm: &mut Tpm) -> Result<Vec<u32>> {
        let mut named = Vec::new();
        for carried in &self.carried {
            let Some(policy) = carried.sealed_under else {
                continue;
            };
            let mut found = None;
            for other in &self.others {
                if tpm.is_record_of(*other, policy, RECORD_LEN)? {
                    found = Some(*other);
                }
            }
            named.push(found.ok_or_else(|| gone(carried))?);
        }
        match self.carried.first() {
            Some(carried) if named.is_empty() => Err(unnamed(carried)),
            _ => Ok(named),
        }
    }

    fn place_beside(&self, named: &[u32]) -> Result<Handles> {
        let places = self.places;
        let place = places.free(&self.others).or_else(|| places.free(named));
        place.ok_or_else(|| {
            Error::refused(
                "the volumes name two records that were made under other PCR values, so there is no place for another one: an \
                 update was cut off, and then another image was booted; boot the image of that update once, to its end",
            )
        })
    }

    /// Whether a header that names a record of before would name one that is gone after this boot.
    #[must_use]
    pub fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Removes the records that this boot cannot read. All headers must name the one of this boot and be durable.
    pub fn remove_others(&mut self, tpm: &mut Tpm) -> Result<()> {
        for other in self.others.drain(..) {
            tpm.remove_record(other, RECORD_LEN)?;
            info!(
                "the anchor's record in NV index {other:#x}, made under other PCR values, is removed"
            );
        }
        Ok(())
    }
}

fn gone(carried: &Carried) -> Error {
    Error::refused(format_args!(
        "volume {}: the TPM's record that its header names is gone, and what is there was made by something else; {}",
        carried.name,
        stale::readmit(&carried.uuid)
    ))
}

fn unnamed(carried: &Carried) -> Error {
    Error::refused(format_args!(
        "no volume has a secret that is sealed to the TPM, so nothing shows that the TPM's record is the one that was made for \
         them; {}",
        stale::readmit(&carried.uuid)
    ))
}
