// SPDX-License-Identifier: Apache-2.0
//! The anchor's record: what one NV index of the TPM holds about this node's volumes.
//!
//! 1008 bytes in both versions, so that one command reads it: a TPM of the PC Client profile moves at least 1024 bytes of NV at
//! once. All numbers are big-endian, and whatever is not listed is zero. What both have:
//!
//! | at | bytes | what | written |
//! |---|---|---|---|
//! | 0 | 8 | `nlanchor` | as the record is made |
//! | 8 | 1 | version, 1 or 2 | as the record is made; 2 as soon as it says what version 1 has no place for |
//! | 9 | 7 | the nonce of the last boot's headers; zeros in a record of before | after the headers, where it is new |
//! | 16 | 32 | the index's own authorisation value | as the record is made |
//!
//! Version 1 has the entry of volume n, of 8, at 48 + 120 · n, version 2 at 72 + 117 · n:
//!
//! | 1: at | 2: at | bytes | what an entry holds | written |
//! |---|---|---|---|---|
//! | 0 | 0 | 32 | the volume's name, zeros behind it | before the first byte of its disk is |
//! | 32 | 32 | 16 | its UUID | the same |
//! | 48 | 48 | 32, 16 | its volume-key id; in version 2 the first half: see [`KeyId`] | the same |
//! | 80 | 64 | 8 | the file system's generation at the last checkpoint, 0 for none | by `anchor checkpoint`, and each boot |
//! | 88 | 72 | 16 | that file system's id | the same |
//! | 104 | 88 | 8 | how far its epochs are ahead of the counter, two's complement | for an operator's word |
//! | – | 96 | 8 | while it is away: the epoch that it was last open with | before the count of the first boot without it; taken away after that of the boot that has it again |
//! | – | 104 | 7 | the nonce it was last open with | with the epoch |
//! | 112 | 111, bits 0 and 1 | 1 | state: 0 free, 1 provisioning, 2 ready, 3 (version 2) not known any more | as it is made, and at the end of that boot |
//! | 113 | 111, bits 2 and 3 | 1 | level: 1 identity, 2 epoch, 3 checkpoint | at the end of a boot |
//! | 114 | 111, bits 4 and 5 | 1 | acceptance: 0 none, 1 an older disk, 2 a new disk, 3 a record of before that could not be read | by `anchor accept`; taken away at the end of a boot |
//! | 115 | 111, bit 6 | 1 | 1 if the volume is to be given the key service's key, else 0 | by `enroll`; taken away at the end of that boot |
//! | – | 111, bit 7 | | 1 while the volume is away | with the epoch |
//! | – | 112 | 4 | room: the floor that its seal is for | |
//! | – | 116 | 1 | room: whether that is for the record's PCR key or the one of before | |
//!
//! What version 2 has room for beside that, which is refused as long as nobody writes it:
//!
//! | at | bytes | room for |
//! |---|---|---|
//! | 48 | 4 | the floor that the record is for |
//! | 52 | 4 | the generation of the master secret |
//! | 56 | 16 | the first half of the name of the PCR key of before, while volumes move to another one |
//!
//! A record is written in version 1 until one of its volumes is away for the first time, or is readmitted: a program that knows
//! version 1 alone goes on with the node until then, and refuses version 2 by its number. What is version 2 stays so.

mod bytes;
#[cfg(test)]
mod tests;

use uuid::Uuid;

use crate::config::{ANCHORED_MAX, Level, VolumeName};
use crate::error::{Error, Result};
use crate::header::{BootNonce, Stamp};
use crate::key::KEY_LEN;

/// Length of a record in bytes.
pub const RECORD_LEN: usize = 1008;

const MAGIC: &[u8; 8] = b"nlanchor";
/// Where the nonce stands, for who writes nothing else.
pub const NONCE_OFFSET: u16 = 9;
const AUTH_OFFSET: usize = 16;
/// What both versions have.
const HEAD_LEN: usize = 48;

/// What the TPM holds about this node's volumes; each of them keeps its place.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    /// What the headers of the last boot have in common with the record: see [`Count`](super::count::Count).
    pub nonce: Option<BootNonce>,
    version: Version,
    places: [Option<Entry>; ANCHORED_MAX],
}

/// In which form the record is written: the oldest that has a place for all it says, and no older one than it was in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Version {
    #[default]
    One,
    /// With room for volumes that are away.
    Two,
}

/// What the TPM holds about one volume.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The volume's name in the configuration.
    pub name: VolumeName,
    /// Its LUKS UUID.
    pub uuid: Uuid,
    /// The id of its volume key.
    pub key_id: KeyId,
    /// How far its making has come.
    pub state: State,
    /// The level in force when it was last opened.
    pub level: Level,
    /// What the operator has allowed until a boot has succeeded.
    pub acceptance: Option<Accepted>,
    /// The last checkpoint of its file system.
    pub checkpoint: Option<Checkpoint>,
    /// How far the epochs of its headers are ahead of the TPM's counter: 0 unless another TPM counted them first.
    pub ahead: i64,
    /// Whether the operator asked for it to be given the key service's key.
    pub enroll: bool,
    /// Of a volume that is away, the stamp that it was last open with: see [`super::count`].
    pub away: Option<Stamp>,
}

impl Entry {
    /// Of a volume that a record is without which is made anew, as the one before cannot be read.
    #[must_use]
    pub fn lost(name: VolumeName, level: Level) -> Self {
        Self {
            name,
            uuid: Uuid::nil(),
            key_id: KeyId::of(&[0; KEY_LEN]),
            state: State::Lost,
            level: level.max(Level::Identity),
            acceptance: None,
            checkpoint: None,
            ahead: 0,
            enroll: false,
            away: None,
        }
    }
}

/// The id of a volume key, as much of it as the record has: all 32 bytes in version 1, the first 16 in version 2.
///
/// The half is enough. The key that is remembered was drawn by the node, so nobody has chosen its id, and a volume that passes for
/// it takes another key with the same 128 bits: two to the 128th tries, each a derivation from that key. That two keys of
/// somebody's own agree in it after two to the 64th tries is of no use to them. The UUID is compared beside it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyId {
    first: [u8; KEY_LEN / 2],
    rest: Option<[u8; KEY_LEN / 2]>,
}

impl KeyId {
    /// All of it.
    #[must_use]
    pub fn of(id: &[u8; KEY_LEN]) -> Self {
        let (first, rest) = id.split_first_chunk().unwrap_or((&[0; 16], &[]));
        Self {
            first: *first,
            rest: rest.try_into().ok(),
        }
    }

    /// Whether this key has it.
    #[must_use]
    pub fn is_of(&self, id: &[u8; KEY_LEN]) -> bool {
        let Self { first, rest } = Self::of(id);
        self.first == first && (self.rest.is_none() || self.rest == rest)
    }

    /// What is known of it, in hexadecimal digits.
    #[must_use]
    pub fn known(&self) -> String {
        hex::encode([&self.first[..], self.rest.as_ref().map_or(&[], |rest| rest)].concat())
    }
}

/// How far the making of a volume has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Begun. Until it is finished nothing on the disk is worth keeping.
    Provisioning,
    /// Finished: from now on a blank or other disk is an attack or a mistake.
    Ready,
    /// It may have been there, and was away as the record was made anew, which could not be read, or is readmitted and not remembered
    /// yet: nothing is known of it but that a blank disk may be in its place.
    Lost,
}

/// What an operator can accept, for one boot: it is measured and shown, and used up once a boot has succeeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accepted {
    /// An older state of this very volume.
    Rollback,
    /// A blank disk in its place.
    New,
    /// What was remembered of it before could not be read, and a key service stood in for that. Nobody asks for it on the node.
    Stale,
}

impl Accepted {
    /// The word in command lines and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::New => "new",
            Self::Stale => "stale",
        }
    }
}

/// The last durable state of a btrfs file system that the TPM was told of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Checkpoint {
    /// The file system's id.
    pub fsid: [u8; 16],
    /// Its generation: the number of the last transaction known to be on the disk. Never 0.
    pub generation: u64,
}

impl Record {
    /// The volume's entry.
    #[must_use]
    pub fn get(&self, name: &VolumeName) -> Option<&Entry> {
        self.entries().find(|entry| entry.name == *name)
    }

    /// The entries, in their places' order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.places.iter().flatten()
    }

    /// Puts `entry` where the volume has its place or, if it has none, into a free one.
    pub fn set(&mut self, mut entry: Entry) -> Result<()> {
        if entry.away.is_some() || entry.state == State::Lost {
            self.become_version_2();
        }
        if self.version == Version::Two {
            entry.key_id.rest = None;
        }
        let has = |place: &Option<Entry>| place.as_ref().is_some_and(|old| old.name == entry.name);
        let place = match self.places.iter().position(has) {
            Some(index) => self.places.get_mut(index),
            None => self.places.iter_mut().find(|place| place.is_none()),
        };
        let place = place.ok_or_else(|| {
            Error::refused(format_args!(
                "the anchor has room for {ANCHORED_MAX} volumes and none for {}: \
                 remove one that is gone with \"nightlatchctl anchor forget NAME\"",
                entry.name
            ))
        })?;
        *place = Some(entry);
        Ok(())
    }

    fn become_version_2(&mut self) {
        self.version = Version::Two;
        for entry in self.places.iter_mut().flatten() {
            entry.key_id.rest = None;
        }
    }

    /// Forgets what was allowed. `false` if nothing was.
    pub fn clear_acceptances(&mut self) -> bool {
        let taken = self
            .places
            .iter_mut()
            .flatten()
            .map(|entry| entry.acceptance.take());
        taken.flatten().count() > 0
    }

    /// Frees the volume's place. `false` if it has none.
    pub fn remove(&mut self, name: &VolumeName) -> bool {
        let has = |place: &&mut Option<Entry>| place.as_ref().is_some_and(|old| old.name == *name);
        match self.places.iter_mut().find(has) {
            Some(place) => place.take().is_some(),
            None => false,
        }
    }
}
