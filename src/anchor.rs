// SPDX-License-Identifier: Apache-2.0
//! The anchor: what the TPM's NV memory holds because the disk cannot be trusted with it.
//!
//! A record of the node's volumes, and a counter of its boots. The record can be written for the first time only by the boot
//! chain that the secrets are sealed to, and after that by whoever holds its authorisation value, which stands in the record
//! itself: so only such a boot knows it, and the system it hands it to. Another system on the same TPM can destroy the anchor
//! and cannot forge it. What the entries mean for what is on the disk is decided in [`judge`], a pure function.
//!
//! The order of writes, and why a crash anywhere leads to the same end:
//!
//! 1. A new volume's entry says `provisioning` and names its key before the first byte of its disk is written; its header is
//!    the last that is written there.
//! 2. When every volume has shown that it is as new as it must be, the counter says that headers are being written. Existing
//!    ones get those of the next epoch, both copies, one after the other; then the counter goes up to it. In between, headers
//!    of both epochs are accepted. Which of several boots has written them is told by the nonce they have in common with the
//!    record: see [`count`].
//! 3. Entries say `ready`, and what the operator accepted is used up.
//!
//! A volume that a boot is without is told in [`away`], and a record that was made under other PCR values in [`stale`].
//!
//! **Never:** a secret of a volume, or anything that is taken from the disk and believed.

mod away;
pub mod checkpoint;
pub mod count;
mod counting;
pub mod failure;
pub mod judge;
mod located;
#[cfg(test)]
mod model;
mod pending;
mod pushed;
mod readmission;
pub mod record;
pub mod requests;
mod runtime;
mod stale;
#[cfg(test)]
mod tests;

use log::{info, warn};
use uuid::Uuid;

use judge::{DeviceState, VolumeProof};
pub use located::Located;
use pending::Pending;
use readmission::Readmitted;
use record::{Accepted, Checkpoint, Entry, KeyId, Record, State};
pub use runtime::RuntimeAnchor;
use stale::Carried;

use crate::config::{Config, Level, Volume, VolumeName};
use crate::error::{Doing, Error, Result};
use crate::header::{BootNonce, Stamp};
use crate::key::{KEY_LEN, Secret};
use crate::tpm::{Handles, NvAccess, Places, Policy, Tpm};

/// What this boot knows of the anchor.
#[derive(Debug)]
pub struct Anchor {
    places: Places,
    /// Where the record is, or is to be.
    at: Handles,
    /// Where there are records that were made under other PCR values, or whose counter is gone.
    others: Vec<u32>,
    /// Where a boot was cut off that was about to write a record.
    unwritten: Vec<u32>,
    /// Whether the record was made by a boot that was cut off before it came to its end, in the place of one that it could not read.
    /// It says nothing until a key service has stood in for it again: see [`stale`].
    is_provisional: bool,
    /// Whether there is a counter, where there are others.
    has_counter: bool,
    /// What an operator asked this boot to do.
    pending: Pending,
    policy: Policy,
    /// Record and way to write it; `None` until there is one.
    loaded: Option<Loaded>,
    /// The counter's value; `None` until it was read or made.
    counter: Option<u64>,
    /// What the headers of this boot have in common; `None` until the counter is known, and where no boots are counted.
    nonce: Option<BootNonce>,
    /// Whether a volume's level counts boots.
    counts: bool,
    /// The volumes whose secret is the key service's, so that nobody has to ask for that any more.
    enrolled: Vec<VolumeName>,
    /// The volumes that are remembered once this boot has succeeded.
    readmitted: Vec<Readmitted>,
    /// The volumes that a record made anew remembers from the start.
    carried: Vec<Carried>,
    /// The volumes that an operator lets go on in this boot although they are of an older one.
    rolled_back: Vec<VolumeName>,
}

#[derive(Debug)]
struct Loaded {
    record: Record,
    access: NvAccess,
}

/// An exception that the operator allowed for this boot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exception {
    /// The volume.
    pub volume: VolumeName,
    /// What was allowed.
    pub kind: Allowed,
}

/// What an operator allowed, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Allowed {
    /// On this node, before it was shut down.
    Accepted(Accepted),
    /// At the key service: a volume that this TPM does not remember.
    Readmitted,
    /// By the key service, which stands in for a record that was made under other PCR values.
    Stale,
}

impl Allowed {
    /// The word in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted(kind) => kind.as_str(),
            Self::Readmitted => "readmitted",
            Self::Stale => "stale",
        }
    }

    /// What was allowed on this node.
    #[must_use]
    pub fn on_node(self) -> Option<Accepted> {
        match self {
            Self::Accepted(kind) => Some(kind),
            Self::Readmitted | Self::Stale => None,
        }
    }
}

impl Exception {
    /// What is measured of it.
    #[must_use]
    pub fn event(&self) -> String {
        format!("nightlatch:accept:{}:{}", self.kind.as_str(), self.volume)
    }
}

impl Anchor {
    /// Whether the volume's device may be gone on with, and what the operator accepted of it.
    ///
    /// An acceptance is an exception of every boot until one has succeeded, whether the disk needs it or not: after a power
    /// cut the disk does not tell any more that it did.
    pub fn permit(&self, volume: &Volume, seen: DeviceState) -> Result<Option<Exception>> {
        if self.is_stale() {
            return Err(self.refuse_stale(volume, seen));
        }
        let entry = self.entry(volume);
        judge::permit(entry, seen)?;
        judge::asks_enough(entry, volume.level())?;
        let is_made_anew = seen != DeviceState::Volume && self.is_readmitting();
        if is_made_anew && !volume.required && entry.is_none() {
            judge::permit(
                Some(&Entry::lost(volume.name.clone(), volume.level())),
                seen,
            )?;
        }
        let allowed = match entry.and_then(|entry| entry.acceptance) {
            Some(kind) => Some(Allowed::Accepted(kind)),
            None if is_made_anew => return Ok(Some(readmission::made_beside(volume))),
            // A boot that could not read the record was cut off, so the header can be what that one has written.
            None if seen == DeviceState::Volume && self.has_others() => Some(Allowed::Stale),
            None => None,
        };
        Ok(allowed.map(|kind| exception(volume, kind)))
    }

    /// Whether a volume may be made on a device: what [`Anchor::permit`] says of it, without a word.
    #[must_use]
    pub fn may_be_made(&self, volume: &Volume, seen: DeviceState) -> bool {
        !self.is_stale() && judge::permit(self.entry(volume), seen).is_ok()
    }

    /// Whether a volume of level `off` may be gone on with beside others that are anchored.
    pub fn permit_unanchored(&self, volume: &Volume) -> Result<()> {
        judge::asks_enough(self.entry(volume), volume.level())
    }

    /// Remembers that a volume is being made, before anything of it is on the disk. Returns the stamp its header is to have.
    pub fn begin_provisioning(
        &mut self,
        tpm: &mut Tpm,
        volume: &Volume,
        uuid: Uuid,
        key_id: [u8; KEY_LEN],
    ) -> Result<Stamp> {
        let entry = Entry {
            name: volume.name.clone(),
            uuid,
            key_id: KeyId::of(&key_id),
            state: State::Provisioning,
            level: volume.level(),
            acceptance: self.entry(volume).and_then(|entry| entry.acceptance),
            checkpoint: None,
            ahead: 0,
            enroll: false,
            away: None,
        };
        if let Some(loaded) = &mut self.loaded {
            loaded.record.set(entry)?;
            self.write(tpm)?;
        } else {
            let mut record = Record::default();
            record.set(entry)?;
            self.define(tpm, record)?;
        }
        self.draw_for_new_volume()?;
        self.next_stamp(volume)
    }

    /// Compares a volume whose key is known with what the TPM remembers.
    pub fn verify(&self, volume: &Volume, proven: &VolumeProof) -> Result<()> {
        let entry = self
            .entry_of_this_boot(volume)
            .ok_or_else(|| Error::failure("a volume without an entry was permitted"))?;
        judge::verify(&entry, self.counted()?, volume.level(), proven)
    }

    /// Whether the operator asked for the volume to be given the key service's key.
    #[must_use]
    pub fn is_enrolment_asked(&self, volume: &Volume) -> bool {
        self.entry(volume).is_some_and(|entry| entry.enroll)
    }

    /// The volume has the key service's key. [`Anchor::commit`] forgets that it was asked for.
    pub fn enrolled(&mut self, volume: &Volume) {
        self.enrolled.push(volume.name.clone());
    }

    /// What an operator accepted of the volume while the node ran.
    #[must_use]
    pub fn acceptance(&self, volume: &Volume) -> Option<Accepted> {
        self.entry(volume).and_then(|entry| entry.acceptance)
    }

    /// Takes back what was taken up of a volume that this boot goes on without: what its disk said is not to be remembered of it.
    pub fn withdraw(&mut self, volume: &Volume) {
        self.carried.retain(|it| it.entry.name != volume.name);
        self.readmitted.retain(|it| !it.is_for(volume));
        self.rolled_back.retain(|name| *name != volume.name);
    }

    /// The checkpoint the volume's file system must not be older than.
    #[must_use]
    pub fn checkpoint(&self, volume: &Volume) -> Option<Checkpoint> {
        self.entry(volume).and_then(|entry| entry.checkpoint)
    }

    /// Remembers how the volumes that are open now are: all of them are ready, at their levels, and every acceptance is used up. Those
    /// that were readmitted are remembered from here on.
    /// `checkpoints` are the file systems' states. Writes nothing where nothing changed.
    pub fn commit(
        &mut self,
        tpm: &mut Tpm,
        volumes: &[(&Volume, Option<Checkpoint>)],
    ) -> Result<()> {
        let Some(loaded) = &mut self.loaded else {
            return Ok(());
        };
        let mut changed = loaded.record.clear_acceptances();
        // One that was not opened has a header of before still, and takes the word again.
        let is_open = |it: &Readmitted| volumes.iter().any(|(volume, _)| it.is_for(volume));
        for readmitted in self.readmitted.drain(..).filter(is_open) {
            loaded.record.set(readmitted.entry())?;
            changed = true;
        }
        for (volume, checkpoint) in volumes {
            let Some(old) = loaded.record.get(&volume.name) else {
                continue;
            };
            let new = Entry {
                state: State::Ready,
                // One that is not anchored any more stays known: a record has no level for it, and no epoch is to be
                // compared if it comes back.
                level: volume.level().max(Level::Identity),
                checkpoint: *checkpoint,
                enroll: old.enroll && !self.enrolled.contains(&volume.name),
                away: None,
                ..old.clone()
            };
            changed |= new != *old;
            loaded.record.set(new)?;
        }
        if changed { self.write(tpm) } else { Ok(()) }
    }

    /// What the running system needs to go on with the anchor.
    ///
    /// This boot cannot write to the anchor afterwards.
    #[must_use]
    pub fn into_runtime(self, config: &Config) -> Option<RuntimeAnchor> {
        let tcti = config.tpm.tcti.clone();
        self.loaded
            .map(|loaded| RuntimeAnchor::new(tcti, self.at, self.places.requests, loaded.access))
    }

    fn entry(&self, volume: &Volume) -> Option<&Entry> {
        self.loaded
            .as_ref()
            .and_then(|loaded| loaded.record.get(&volume.name))
    }

    /// Makes the indices.
    fn define(&mut self, tpm: &mut Tpm, mut record: Record) -> Result<()> {
        let auth = Secret::random()?;
        self.nonce = self.nonce_of_boot(None)?;
        record.nonce = self.nonce;
        let counter = tpm.define_anchor(self.at, self.policy, &auth, &record.encode(&auth))?;
        self.counter = Some(counter);
        info!("the TPM has an anchor now, counting from {counter}");
        if counter > 1 {
            warn!(
                "this TPM has held a counter before: if this node was provisioned once, its anchor was removed"
            );
        }
        self.loaded = Some(Loaded::new(tpm, self.policy, record, auth)?);
        self.pending.orphan();
        Ok(())
    }

    fn write(&self, tpm: &mut Tpm) -> Result<()> {
        let loaded = self
            .loaded
            .as_ref()
            .ok_or_else(|| Error::failure("there is no record to write"))?;
        let bytes = loaded.record.encode(&loaded.access.auth);
        tpm.write_anchor(self.at, &loaded.access, 0, &bytes)
            .doing("writing the anchor")
    }
}

fn exception(volume: &Volume, kind: Allowed) -> Exception {
    let who = match kind {
        Allowed::Accepted(_) | Allowed::Readmitted => "the operator accepted",
        Allowed::Stale => {
            "the TPM has a record of another image, which may have written the header: accepted"
        }
    };
    warn!(volume = volume.name.as_str(); "{who}: {}", kind.as_str());
    Exception {
        volume: volume.name.clone(),
        kind,
    }
}
