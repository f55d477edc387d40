// SPDX-License-Identifier: Apache-2.0
//! A model of a node with one volume: two header copies, the disk's content behind them, and the TPM's NV memory, driven by
//! the real decisions of `judge` and the real encoding of `record`.
//!
//! Every boot is a list of writes. The model cuts the power before each of them, in the middle of each of those to the disk,
//! and in every boot that follows, and puts back every disk there ever was. What is asserted stands in `model/proofs.rs`.

mod boots;
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
}
