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
//! Cut off in between, the image of before finds the record that it made, and goes on with it; this image finds its own, which is
//! provisional: each entry says so until a boot has come to its end. Meanwhile the image of before can have gone on with the same
//! count, so a provisional record is not believed, and the service is asked again. Either image seals anew what the other has
//! sealed, and removes the other's record.
//!
//! What is lost with the record: nonces (what a boot left that was cut off fits, as long as it is no older than the last report to
//! the service), checkpoints (so a volume of that level takes an operator's word), what an operator accepted or asked for, the
//! entries of volumes that the configuration does not have any more, and what was known of those that are away: see [`super::away`].

use log::{info, warn};
use uuid::Uuid;

use super::judge::stale::{self, Continued};
use super::judge::{DeviceState, VolumeProof};
use super::record::{Accepted, Entry, RECORD_LEN, Record};
use super::{Allowed, Anchor, Exception, Loaded, exception};
use crate::config::{Level, Volume, VolumeName};
use crate::error::{Error, Result};
use crate::header::BootNonce;
use crate::key::Secret;
use crate::protocol::VolumeRecord;
use crate::protocol::recovery::Word;
use crate::tpm::{Handles, Places, Tpm};

/// A volume that the record made anew is to have.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    /// What is remembered of it.
    pub(super) entry: Entry,
    /// The nonce of the record of before, where the header tells it.
    nonce: Option<BootNonce>,
    /// Where the record of before is that its header names, if it names one.
    named: Option<u32>,
    /// Whether an operator has said that it may go on.
    is_allowed: bool,
}

impl Carried {
    /// `proven` is what the volume showed, `record` what the service remembers of it.
    pub(super) fn new(
        name: VolumeName,
        level: Level,
        (record, counter): (&VolumeRecord, u64),
        proven: &VolumeProof,
        (named, is_allowed): (Option<u32>, bool),
    ) -> Result<Self> {
        let Continued { ahead, nonce } = stale::verify(record, counter, level, proven)?;
        Ok(Self {
            entry: Entry {
                // Each entry says so until a boot has come to its end.
                acceptance: Some(Accepted::Stale),
                ..proven.entry(name, level, ahead)
            },
            nonce,
            named,
            is_allowed,
        })
    }

    /// The record that these volumes are remembered in.
    pub(super) fn record(all: &[Self]) -> Result<Record> {
        let mut record = Record::default();
        record.nonce = match stale::common_nonce(all.iter().filter_map(|it| it.nonce)) {
            Err(_) if are_allowed(all) => None,
            nonce => nonce?,
        };
        for carried in all {
            record.set(carried.entry.clone())?;
        }
        Ok(record)
    }
}

impl Anchor {
    /// Whether there is a record, and none that this boot can read and believe.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.is_provisional || (self.loaded.is_none() && !self.others.is_empty())
    }

    /// Whether the counter is gone, and with it what any record says of the boots that were counted.
    #[must_use]
    pub fn has_lost_counter(&self) -> bool {
        self.is_stale() && !self.has_counter
    }

    /// What is said of a device where the record cannot be used and nothing stands in for it.
    pub(super) fn refuse_stale(&self, volume: &Volume, seen: DeviceState) -> Error {
        if self.has_lost_counter() {
            return Error::refused(format_args!(
                "there is a record in the TPM and no counter in NV index {:#x}: somebody removed it, so nothing shows whether the \
                 disks are the latest. If a key service remembers volume {}, \"nightlatchctl nodes readmit UUID\" there lets the \
                 next boot open it; else restore the disks from a backup you trust, give the VM a new TPM and provision anew",
                self.at.counter, volume.name
            ));
        }
        let why = if self.is_provisional {
            "the boot that moved the TPM's record to this image was cut off, and the image of before can have gone on since: boot that, \
             or have the key service admit this one"
        } else if self.policy.key.is_some() {
            "the TPM's record was made under other PCR values or another key: the keys of Secure Boot have changed, something is \
             added to the image, or tpm.signed or tpm.pcrs are others; boot what made it"
        } else {
            "the TPM's record was made under other PCR values: this machine booted another image, or the firmware, its settings \
             or tpm.pcrs have changed; boot what made it"
        };
        match seen {
            DeviceState::Volume => Error::refused(format_args!(
                "{why}. Only a key service or an operator, the source \"recovery\", can stand in for it, and none among the sources of volume {} has done so",
                volume.name
            )),
            DeviceState::Blank | DeviceState::Interrupted(_) => Error::refused(format_args!(
                "{why}. The device has no volume, and whether there was one cannot be told: a volume is made when the others \
                 have moved to the record of this image. If nothing is to be kept, give the VM a new TPM"
            )),
        }
    }

    /// Takes up a volume that the key service remembers, where the TPM's record cannot be read. `sealed_under` is the digest of
    /// the policy in its header, `word` an operator's. [`Anchor::renew_record`] remembers it.
    pub fn carry_over(
        &mut self,
        tpm: &mut Tpm,
        volume: &Volume,
        record: &VolumeRecord,
        (proven, sealed_under): (&VolumeProof, Option<[u8; 32]>),
        word: Option<Word>,
    ) -> Result<Exception> {
        let name = volume.name.clone();
        let known = (record, self.counter()?);
        let named = sealed_under.map(|policy| self.named_by(tpm, &proven.uuid, policy));
        let vouched = (named.transpose()?, word.is_some());
        let compared = match word {
            Some(Word::Rollback) => Level::Identity,
            Some(Word::Readmit) | None => volume.level(),
        };
        let mut carried = Carried::new(name, compared, known, proven, vouched)?;
        carried.entry.level = volume.level();
        self.carried.push(carried);
        Ok(exception(volume, Allowed::Stale))
    }

    /// Whether [`Anchor::renew_record`] has something to do.
    #[must_use]
    pub fn is_to_be_renewed(&self) -> bool {
        let is_due = self.loaded.is_none() || self.is_provisional;
        is_due && !self.carried.is_empty() || self.is_readmitting()
    }

    /// Makes the record anew when every volume has been judged: nothing was written before. It can be done only before the fence's
    /// PCR takes an exception.
    ///
    /// Of the volumes that are `away` it is to say that there may be something; and of those that are readmitted, until they are
    /// remembered.
    pub fn renew_record(&mut self, tpm: &mut Tpm, away: &[&Volume]) -> Result<()> {
        let lost = self.lost(away);
        let with_lost = |mut record: Record| -> Result<Record> {
            lost.iter()
                .try_for_each(|entry| record.set(entry.clone()))?;
            Ok(record)
        };
        if !self.is_stale() {
            return match &mut self.loaded {
                None => self.define(tpm, with_lost(Record::default())?),
                Some(_) if lost.is_empty() => Ok(()),
                Some(loaded) => {
                    loaded.record = with_lost(loaded.record.clone())?;
                    self.write(tpm)
                }
            };
        }
        let named = named(&self.carried)?;
        let record = with_lost(Carried::record(&self.carried)?)?;
        let had_counter = self.has_counter;
        if !had_counter {
            self.counter = Some(tpm.make_counter(self.at)?);
            self.has_counter = true;
        }
        if let Some(loaded) = &mut self.loaded {
            // One of this image's: it is written over, in one command, as headers may name it and the one of before.
            loaded.record = record;
            self.write(tpm)?;
        } else {
            self.at = self.place_of_new(tpm, had_counter, &named)?;
            self.make(tpm, record)?;
        }
        self.is_provisional = false;
        let again = self.counted()?.nonce_again();
        self.nonce = self.nonce_of_boot(again)?;
        Ok(())
    }

    fn place_of_new(&self, tpm: &mut Tpm, had_counter: bool, named: &[u32]) -> Result<Handles> {
        if !had_counter {
            // One of this image's says nothing any more, and two of them would be one too many.
            let policy = tpm.anchor_policy(self.policy)?;
            for &record in &self.others {
                if tpm.is_record_of(record, policy, RECORD_LEN)? {
                    return Ok(Handles { record, ..self.at });
                }
            }
        }
        match place_beside(self.places, &self.others, named) {
            // Each has an operator's word, which counts until a boot has come to its end.
            Err(_) if are_allowed(&self.carried) => Ok(self.at),
            place => place,
        }
    }

    fn make(&mut self, tpm: &mut Tpm, record: Record) -> Result<()> {
        let auth = Secret::random()?;
        let bytes = record.encode(&auth);
        tpm.define_record(self.at, self.policy, &auth, &bytes)?;
        self.loaded = Some(Loaded::new(tpm, self.policy, record, auth)?);
        self.pending.orphan();
        let made = self.at.record;
        info!("the anchor's record is made anew in NV index {made:#x}");
        // One that nothing names has made room for it.
        self.others.retain(|other| *other != made);
        self.unwritten.retain(|other| *other != made);
        Ok(())
    }

    /// Where the record is that a header names which was sealed under this policy.
    fn named_by(&self, tpm: &mut Tpm, uuid: &Uuid, policy: [u8; 32]) -> Result<u32> {
        let own = self.is_provisional.then_some(self.at.record);
        for there in self.others.iter().copied().chain(own) {
            if tpm.is_record_of(there, policy, RECORD_LEN)? {
                return Ok(there);
            }
        }
        Err(Error::refused(format_args!(
            "the TPM's record that its header names is gone, and what is there was made by something else; {}",
            stale::readmit(uuid)
        )))
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
            info!("the anchor's record of before, in NV index {other:#x}, is removed");
        }
        // What has no content is in nobody's way.
        let made = self.at.record;
        for other in self.unwritten.drain(..).filter(|other| *other != made) {
            if let Err(error) = tpm.remove_record(other, RECORD_LEN) {
                warn!("{error}");
            }
        }
        Ok(())
    }
}

/// The records of before that these volumes' headers name. Nothing else shows that what is there is the node's, unless an operator
/// has said so.
pub(super) fn named(all: &[Carried]) -> Result<Vec<u32>> {
    let named: Vec<u32> = all.iter().filter_map(|carried| carried.named).collect();
    match all.first() {
        Some(carried) if named.is_empty() && !all.iter().any(|it| it.is_allowed) => {
            Err(Error::refused(format_args!(
                "no volume has a secret that is sealed to the TPM, so nothing shows that the TPM's record is the one that was made \
             for them; {}",
                stale::readmit(&carried.entry.uuid)
            )))
        }
        _ => Ok(named),
    }
}

/// Whether an operator has said of each that it may go on.
fn are_allowed(all: &[Carried]) -> bool {
    all.iter().all(|carried| carried.is_allowed)
}

/// Where a record is made beside `others`: in a place that is free, or in that of one that no header names.
pub(super) fn place_beside(places: Places, others: &[u32], named: &[u32]) -> Result<Handles> {
    let place = places.free(others).or_else(|| places.free(named));
    place.ok_or_else(|| {
        Error::refused(
            "the volumes name two records that were made under other PCR values, so there is no place for another one: an update \
             was cut off, and then another image was booted; boot the image of that update once, to its end",
        )
    })
}
