// SPDX-License-Identifier: Apache-2.0
//! A model of a node with one volume: two header copies, the disk's content behind them, and the TPM's NV memory, driven by
//! the real decisions of `judge` and the real encoding of `record`.
//!
//! Every boot is a list of writes. The model cuts the power before each of them, in the middle of each of those to the disk,
//! and in every boot that follows, and puts back every disk there ever was. What is asserted stands in `model/proofs.rs`.

mod counting;
mod host;
mod kept;
mod proofs;
mod readmission;

use uuid::Uuid;

use counting::Program;

use super::Allowed;
use super::count::Count;
use super::judge::{self, DeviceState, Readmission, VolumeProof};
use super::readmission::Readmitted;
use super::record::{Accepted, Checkpoint, Entry, KeyId, Record, State};
use crate::config::{Level, VolumeName};
use crate::header::{BootNonce, NONCE_LEN, Stamp};
use crate::key::{KEY_LEN, Secret};
use crate::protocol::VolumeRecord;

/// A header copy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Slot {
    Zero,
    /// Half written: its checksum is wrong.
    Torn,
    /// Authenticated with the key of this number.
    Header {
        uuid: u8,
        key: u8,
        epoch: u64,
        nonce: Option<BootNonce>,
    },
}

/// All the host stores.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Disk {
    primary: Slot,
    secondary: Slot,
    /// The provisioning marker: the UUID of the volume being made.
    marker: Option<u8>,
    /// Keyslots and file system, of the volume with this key, complete.
    content: Option<u8>,
    /// The file system's generation.
    generation: u64,
}

/// What the host cannot touch.
#[derive(Clone, Eq, Hash, PartialEq)]
struct Nv {
    record: Option<Vec<u8>>,
    counter: u64,
}

impl std::fmt::Debug for Nv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "counter {}, {:?}", self.counter, self.entry())
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Node {
    disk: Disk,
    nv: Nv,
    /// The number of the next UUID, key and nonce.
    fresh: u8,
    program: Program,
    /// Key, epoch and nonce the service remembers, where an operator readmitted the volume and no boot was reported since.
    readmission: Option<(u8, u64, Option<BootNonce>)>,
}

/// One write, after which the power may go.
#[derive(Clone, Debug)]
enum Write {
    /// The indices, with their first entry. That the counter is raised as it is made is left out.
    First(Entry, Option<BootNonce>),
    Nv(Entry),
    /// Indices without entries.
    Define(Option<BootNonce>),
    /// Into the record.
    Nonce(BootNonce),
    Count,
    Primary(Slot),
    Secondary(Slot),
    Marker(Option<u8>),
    Content(u8),
    /// The file system's next transaction, in the running system.
    Commit,
    /// The service is told that the boot has succeeded.
    Report,
}

/// What a boot does.
#[derive(Clone, Debug)]
struct Boot {
    writes: Vec<Write>,
    /// What it measures that the operator accepted.
    exception: Option<Allowed>,
}

const BLANK: Disk = Disk {
    primary: Slot::Zero,
    secondary: Slot::Zero,
    marker: None,
    content: None,
    generation: 0,
};

/// Every file system has the same id: that two of them differ is not what is modelled.
fn checkpoint(generation: u64) -> Checkpoint {
    Checkpoint {
        fsid: [5; 16],
        generation,
    }
}

fn auth() -> Secret {
    Secret::new(vec![1; KEY_LEN])
}

fn name() -> VolumeName {
    VolumeName::try_from("state".to_owned()).unwrap()
}

fn long(uuid: u8) -> Uuid {
    Uuid::from_bytes([uuid; 16])
}

fn entry(uuid: u8, key: u8, state: State, level: Level) -> Entry {
    Entry {
        name: name(),
        uuid: long(uuid),
        key_id: KeyId::of(&[key; KEY_LEN]),
        state,
        level,
        acceptance: None,
        checkpoint: None,
        ahead: 0,
        enroll: false,
        away: None,
    }
}

fn slot(uuid: u8, key: u8, Stamp { epoch, nonce }: Stamp) -> Slot {
    Slot::Header {
        uuid,
        key,
        epoch,
        nonce,
    }
}

impl Nv {
    fn entry(&self) -> Option<Entry> {
        let (record, _) = Record::parse(self.record.as_ref()?).unwrap();
        record.get(&name()).cloned()
    }

    fn record(&self) -> Record {
        let bytes = self.record.as_ref();
        bytes.map_or_else(Record::default, |bytes| Record::parse(bytes).unwrap().0)
    }

    fn change(&mut self, change: impl FnOnce(&mut Record)) {
        let mut record = self.record();
        change(&mut record);
        self.record = Some(record.encode(&auth()).to_vec());
    }
}

impl Node {
    fn new() -> Self {
        let nv = Nv {
            record: None,
            counter: 1,
        };
        Self {
            disk: BLANK,
            nv,
            fresh: 1,
            program: Program::Now,
            readmission: None,
        }
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::First(entry, nonce) => self.nv.change(|record| {
                record.nonce = *nonce;
                record.set(entry.clone()).unwrap();
            }),
            Write::Nv(entry) => self.nv.change(|record| record.set(entry.clone()).unwrap()),
            Write::Define(nonce) => {
                self.nv.change(|record| record.nonce = *nonce);
                self.nv.counter += 1;
            }
            Write::Nonce(nonce) => self.nv.change(|record| record.nonce = Some(*nonce)),
            Write::Count => self.nv.counter += 1,
            Write::Primary(slot) => self.disk.primary = *slot,
            Write::Secondary(slot) => self.disk.secondary = *slot,
            Write::Marker(marker) => self.disk.marker = *marker,
            Write::Content(key) => (self.disk.content, self.disk.generation) = (Some(*key), 1),
            Write::Commit => self.disk.generation += 1,
            Write::Report => self.readmission = None,
        }
    }

    /// The write cut in the middle, where it can be.
    fn tear(&mut self, write: &Write) {
        match write {
            Write::Primary(_) => self.disk.primary = Slot::Torn,
            Write::Secondary(_) => self.disk.secondary = Slot::Torn,
            Write::First(..)
            | Write::Nv(_)
            | Write::Define(_)
            | Write::Nonce(_)
            | Write::Count
            | Write::Marker(_)
            | Write::Content(_)
            | Write::Commit
            | Write::Report => {}
        }
    }

    /// What `Area::classify` makes of the disk.
    fn seen(&self) -> Result<DeviceState, String> {
        let Disk {
            primary,
            secondary,
            marker,
            ..
        } = self.disk;
        match (marker, primary, secondary) {
            (Some(uuid), ..) => Ok(DeviceState::Interrupted(long(uuid))),
            (None, Slot::Zero, Slot::Zero) => Ok(DeviceState::Blank),
            (None, Slot::Header { .. }, _) | (None, _, Slot::Header { .. }) => {
                Ok(DeviceState::Volume)
            }
            (None, ..) => Err("no copy of the header is valid".into()),
        }
    }

    /// What unlocking proves: of the copies that this content's key authenticates, the one with the highest epoch.
    fn proven(&self) -> Result<VolumeProof, String> {
        let epoch_of = |slot: Slot| match slot {
            Slot::Header {
                uuid,
                key,
                epoch,
                nonce,
            } if self.disk.content == Some(key) => Some((epoch, uuid, key, nonce)),
            Slot::Header { .. } | Slot::Zero | Slot::Torn => None,
        };
        let best = [self.disk.primary, self.disk.secondary]
            .into_iter()
            .filter_map(epoch_of)
            .max_by_key(|(epoch, ..)| *epoch);
        let (epoch, uuid, key, nonce) = best.ok_or("the header's MAC is wrong")?;
        Ok(VolumeProof {
            uuid: long(uuid),
            key_id: [key; KEY_LEN],
            stamp: Stamp { epoch, nonce },
        })
    }

    fn is_proven(slot: Slot, proven: &VolumeProof) -> bool {
        matches!(slot, Slot::Header { key, epoch, nonce, .. }
            if proven.key_id[0] == key && proven.stamp == Stamp { epoch, nonce })
    }

    /// What one boot does, or why it does nothing.
    fn boot(&self, level: Level) -> Result<Boot, String> {
        let entry_now = self.nv.entry();
        let seen = self.seen()?;
        if let (None, DeviceState::Volume, Some(told)) = (&entry_now, seen, self.readmission) {
            return self.readmit(level, told);
        }
        judge::permit(entry_now.as_ref(), seen).map_err(|error| error.to_string())?;
        let writes = match seen {
            DeviceState::Volume => self.unlock(entry_now.as_ref().unwrap(), level)?,
            DeviceState::Blank | DeviceState::Interrupted(_) => {
                self.make(entry_now.as_ref(), level)
            }
        };
        Ok(Boot {
            writes,
            exception: entry_now
                .and_then(|entry| entry.acceptance)
                .map(Allowed::Accepted),
        })
    }

    /// A boot of a volume that is readmitted: see `super::readmission`.
    fn readmit(
        &self,
        level: Level,
        (key, epoch, nonce): (u8, u64, Option<BootNonce>),
    ) -> Result<Boot, String> {
        let proven = self.proven()?;
        let readmission = Readmission {
            record: VolumeRecord {
                key_id: Some(hex::encode([key; KEY_LEN])),
                epoch,
                nonce,
            },
            answered_s: self.fresh.into(),
            void_s: 0,
        };
        let refusal = |error: crate::error::Error| error.to_string();
        let readmitted = Readmitted::new(name(), level, &readmission, &proven).map_err(refusal)?;
        let counts = level >= Level::Epoch;
        let is_lost = self.nv.record.is_none();
        let define = is_lost.then(|| Write::Define(self.first_nonce(level)));
        let counting = match &define {
            None => self.counting(level),
            Some(define) => self.counting_after(define, level),
        };
        let mut entry = readmitted.entry();
        entry.checkpoint = (level == Level::Checkpoint).then_some(checkpoint(self.disk.generation));
        let epoch = counting.stamp.epoch.checked_add_signed(readmitted.ahead());
        let stamp = Stamp {
            epoch: epoch.unwrap(),
            ..counting.stamp
        };
        let renew = self.renew(&proven, stamp);
        let renew = renew.into_iter().filter(|_| counts);
        let settle = [Write::Nv(entry), Write::Report];
        Ok(Boot {
            writes: define
                .into_iter()
                .chain(counting.first)
                .chain(renew)
                .chain(counting.then)
                .chain(settle)
                .collect(),
            exception: Some(Allowed::Readmitted),
        })
    }

    /// Never first the only copy that is good: `Candidate::steps` in src/header/copies.rs has the same order.
    fn renew(&self, proven: &VolumeProof, stamp: Stamp) -> [Write; 2] {
        let (uuid, key) = (proven.uuid.as_bytes()[0], proven.key_id[0]);
        let slot = slot(uuid, key, stamp);
        let mut renew = [Write::Secondary(slot), Write::Primary(slot)];
        if !Self::is_proven(self.disk.primary, proven) {
            renew.reverse();
        }
        renew
    }

    fn unlock(&self, old: &Entry, level: Level) -> Result<Vec<Write>, String> {
        let proven = self.proven()?;
        let refusal = |error: crate::error::Error| error.to_string();
        judge::verify(old, self.nv.count(), level, &proven).map_err(refusal)?;
        let seen = checkpoint(self.disk.generation);
        // As in `boot::anchor::verify_freshness`: before anything is written.
        if level == Level::Checkpoint && old.acceptance != Some(Accepted::Rollback) {
            judge::freshness(old.checkpoint.as_ref(), &seen).map_err(refusal)?;
        }
        let (uuid, key) = (proven.uuid.as_bytes()[0], proven.key_id[0]);
        let counting = self.counting(level);
        let epoch = counting.stamp.epoch.checked_add_signed(old.ahead).unwrap();
        let stamp = Stamp {
            epoch,
            ..counting.stamp
        };
        let renew = self.renew(&proven, stamp);
        let mut new = entry(uuid, key, State::Ready, level);
        new.ahead = old.ahead;
        new.checkpoint = (level == Level::Checkpoint).then_some(seen);
        let settle = (new != *old).then_some(Write::Nv(new));
        let renew = renew.into_iter().filter(|_| level >= Level::Epoch);
        let report = self.readmission.map(|_| Write::Report);
        let begun = counting.first.into_iter().chain(renew);
        Ok(begun
            .chain(counting.then)
            .chain(settle)
            .chain(report)
            .collect())
    }

    fn make(&self, old: Option<&Entry>, level: Level) -> Vec<Write> {
        let key = self.fresh;
        let uuid = self.disk.marker.unwrap_or(self.fresh);
        let mut provisioning = entry(uuid, key, State::Provisioning, level);
        provisioning.acceptance = old.and_then(|old| old.acceptance);
        let (remember, counting) = if self.nv.record.is_some() {
            (Write::Nv(provisioning), self.counting_new(self, level))
        } else {
            let first = Write::First(provisioning, self.first_nonce(level));
            let mut defined = self.clone();
            defined.apply(&first);
            let counting = self.counting_new(&defined, level);
            (first, counting)
        };
        let slot = slot(uuid, key, counting.stamp);
        let make = [
            remember,
            Write::Marker(Some(uuid)),
            Write::Content(key),
            Write::Primary(slot),
            Write::Secondary(slot),
            Write::Marker(None),
        ];
        let mut ready = entry(uuid, key, State::Ready, level);
        ready.checkpoint = (level == Level::Checkpoint).then_some(checkpoint(1));
        make.into_iter()
            .chain(counting.first)
            .chain(counting.then)
            .chain([Write::Nv(ready)])
            .collect()
    }

    /// The running system writes, and tells the TPM what is durable where it is to.
    fn work(&mut self, level: Level) {
        self.apply(&Write::Commit);
        if level == Level::Checkpoint {
            let mut entry = self.nv.entry().unwrap();
            entry.checkpoint = Some(checkpoint(self.disk.generation));
            self.apply(&Write::Nv(entry));
        }
    }

    /// As `nightlatchctl anchor accept` does.
    fn accept(&mut self, kind: Accepted) {
        let mut entry = self.nv.entry().unwrap();
        entry.acceptance = Some(kind);
        self.apply(&Write::Nv(entry));
    }

    /// Boots and stops before write number `cut`; `torn` cuts it in the middle instead. `None` if the boot has fewer.
    fn boot_until(&self, level: Level, cut: usize, torn: bool) -> Result<Option<Self>, String> {
        let Boot { writes, .. } = self.boot(level)?;
        let Some(next) = writes.get(cut) else {
            return Ok(None);
        };
        let mut node = self.clone();
        node.fresh += 1;
        writes.iter().take(cut).for_each(|write| node.apply(write));
        if torn {
            node.tear(next);
        }
        Ok(Some(node))
    }

    fn booted(&self, level: Level) -> Result<Self, String> {
        let mut node = self.clone();
        node.fresh += 1;
        let Boot { writes, .. } = self.boot(level)?;
        for write in &writes {
            node.apply(write);
        }
        Ok(node)
    }
}
