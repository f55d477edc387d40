// SPDX-License-Identifier: Apache-2.0
//! The anchor's record: what one NV index of the TPM holds about this node's volumes.
//!
//! 1008 bytes, so that one command reads it: a TPM of the PC Client profile moves at least 1024 bytes of NV at once. All
//! numbers are big-endian, and whatever is not listed is zero:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `nlanchor` |
//! | 8 | 1 | version, 1 |
//! | 9 | 7 | the nonce of the last boot's headers; zeros in a record of before |
//! | 16 | 32 | the index's own authorisation value |
//! | 48 + 120 · n | 120 | the entry of volume n, of 8 |
//!
//! | at | bytes | what an entry holds |
//! |---|---|---|
//! | 0 | 32 | the volume's name, zeros behind it |
//! | 32 | 16 | its UUID |
//! | 48 | 32 | its volume-key id |
//! | 80 | 8 | the file system's generation at the last checkpoint, 0 for none |
//! | 88 | 16 | that file system's id |
//! | 104 | 8 | how far its epochs are ahead of the counter, two's complement |
//! | 112 | 1 | state: 0 free, 1 provisioning, 2 ready |
//! | 113 | 1 | level: 1 identity, 2 epoch, 3 checkpoint |
//! | 114 | 1 | acceptance: 0 none, 1 an older disk, 2 a new disk, 3 a record of before that could not be read |
//! | 115 | 1 | 1 if the volume is to be given the key service's key, else 0 |

use std::ops::Range;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::{ANCHORED_MAX, Level, VolumeName};
use crate::error::{Error, Result};
use crate::header::{BootNonce, NONCE_LEN};
use crate::key::{KEY_LEN, Secret};

/// Length of a record in bytes.
pub const RECORD_LEN: usize = HEAD_LEN + ANCHORED_MAX * ENTRY_LEN;

const MAGIC: &[u8; 8] = b"nlanchor";
const VERSION: u8 = 1;
/// Where the nonce stands, for who writes nothing else.
pub const NONCE_OFFSET: u16 = 9;
const AUTH_OFFSET: usize = 16;
const HEAD_LEN: usize = 48;
const ENTRY_LEN: usize = 120;
const NAME_LEN: usize = 32;

/// What the TPM holds about this node's volumes; each of them keeps its place.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    /// What the headers of the last boot have in common with the record: see [`Count`](super::count::Count).
    pub nonce: Option<BootNonce>,
    places: [Option<Entry>; ANCHORED_MAX],
}

/// What the TPM holds about one volume.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The volume's name in the configuration.
    pub name: VolumeName,
    /// Its LUKS UUID.
    pub uuid: Uuid,
    /// The id of its volume key.
    pub key_id: [u8; KEY_LEN],
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
}

/// How far the making of a volume has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Begun. Until it is finished nothing on the disk is worth keeping.
    Provisioning,
    /// Finished: from now on a blank or other disk is an attack or a mistake.
    Ready,
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
    pub fn set(&mut self, entry: Entry) -> Result<()> {
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

    /// The bytes for the TPM, `auth` being the index's own authorisation value.
    #[must_use]
    pub fn encode(&self, auth: &Secret) -> Zeroizing<Vec<u8>> {
        // Reserved at once, so that no shorter copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(RECORD_LEN));
        bytes.extend(MAGIC);
        bytes.push(VERSION);
        bytes.extend(self.nonce.map_or([0; NONCE_LEN], BootNonce::bytes));
        bytes.extend(auth.expose());
        for place in &self.places {
            bytes.extend(place.as_ref().map_or([0; ENTRY_LEN], Entry::encode));
        }
        bytes
    }

    /// Reads a record back, and the authorisation value. The TPM is trusted, but what another program wrote there is not
    /// taken for ours.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Secret)> {
        let wrong = |what: &str| Error::refused(format_args!("the anchor's record: {what}"));
        if bytes.len() != RECORD_LEN {
            return Err(wrong("it has another length"));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(wrong("it is not one of nightlatch"));
        }
        if bytes.get(8) != Some(&VERSION) {
            return Err(wrong("it was written by another version of nightlatch"));
        }
        let (head, rest) = bytes.split_at_checked(HEAD_LEN).unwrap_or_default();
        let auth = Secret::new(head.get(AUTH_OFFSET..).unwrap_or_default().to_vec());
        let mut record = Self {
            nonce: nonce(head),
            ..Self::default()
        };
        for (place, bytes) in record.places.iter_mut().zip(rest.chunks(ENTRY_LEN)) {
            if bytes.iter().any(|byte| *byte != 0) {
                *place = Some(Entry::parse(bytes).ok_or_else(|| wrong("an entry is damaged"))?);
            }
        }
        let mut names: Vec<_> = record.entries().map(|entry| &entry.name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(wrong("two entries have one name"));
        }
        Ok((record, auth))
    }
}

/// The nonce in the first bytes of a record.
fn nonce(head: &[u8]) -> Option<BootNonce> {
    let bytes = head.get(usize::from(NONCE_OFFSET)..AUTH_OFFSET)?;
    BootNonce::from_bytes(bytes.try_into().ok()?)
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut name = [0; NAME_LEN];
        for (to, from) in name.iter_mut().zip(self.name.as_str().bytes()) {
            *to = from;
        }
        let last = self.checkpoint.unwrap_or_default();
        let kind = self.acceptance.map_or(0, Accepted::number);
        let state = match self.state {
            State::Provisioning => 1,
            State::Ready => 2,
        };
        let numbers = [state, level_number(self.level), kind, self.enroll.into()];
        let parts: [&[u8]; 7] = [
            &name,
            self.uuid.as_bytes(),
            &self.key_id,
            &last.generation.to_be_bytes(),
            &last.fsid,
            &self.ahead.to_be_bytes(),
            &numbers,
        ];
        let mut bytes = [0; ENTRY_LEN];
        for (to, from) in bytes.iter_mut().zip(parts.concat()) {
            *to = from;
        }
        bytes
    }

    /// An entry, if `bytes` is the one spelling of it.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |range: Range<usize>| {
            let bytes = bytes.get(range)?.try_into().ok()?;
            Some(u64::from_be_bytes(bytes))
        };
        let name = bytes.get(..NAME_LEN)?.split(|byte| *byte == 0).next()?;
        let [state, level, kind, enroll] = *bytes.get(112..)?.first_chunk()?;
        let checkpoint = Checkpoint {
            fsid: bytes.get(88..104)?.try_into().ok()?,
            generation: number(80..88)?,
        };
        let entry = Self {
            name: VolumeName::try_from(String::from_utf8(name.to_vec()).ok()?).ok()?,
            uuid: Uuid::from_slice(bytes.get(32..48)?).ok()?,
            key_id: bytes.get(48..80)?.try_into().ok()?,
            state: match state {
                1 => State::Provisioning,
                2 => State::Ready,
                _ => return None,
            },
            level: [Level::Identity, Level::Epoch, Level::Checkpoint]
                .into_iter()
                .find(|known| level_number(*known) == level)?,
            acceptance: match kind {
                0 => None,
                _ => Some(Accepted::from_number(kind)?),
            },
            checkpoint: (checkpoint.generation != 0).then_some(checkpoint),
            ahead: i64::from_be_bytes(bytes.get(104..112)?.try_into().ok()?),
            // Any other number is refused below: it would not be written back.
            enroll: enroll == 1,
        };
        (entry.encode() == *bytes).then_some(entry)
    }
}

impl Accepted {
    fn number(self) -> u8 {
        match self {
            Self::Rollback => 1,
            Self::New => 2,
            Self::Stale => 3,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Rollback, Self::New, Self::Stale]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

fn level_number(level: Level) -> u8 {
    match level {
        Level::Off => 0,
        Level::Identity => 1,
        Level::Epoch => 2,
        Level::Checkpoint => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry {
            name: VolumeName::try_from(name.to_owned()).unwrap(),
            uuid: Uuid::from_bytes([7; 16]),
            key_id: [9; 32],
            state: State::Ready,
            level: Level::Epoch,
            acceptance: None,
            checkpoint: None,
            ahead: 0,
            enroll: false,
        }
    }

    fn auth() -> Secret {
        Secret::new(vec![0xa5; KEY_LEN])
    }

    fn full() -> Record {
        let mut record = Record {
            nonce: BootNonce::from_bytes([6; NONCE_LEN]),
            ..Record::default()
        };
        for index in 0..ANCHORED_MAX {
            record.set(entry(&format!("volume{index}"))).unwrap();
        }
        let mut third = entry("volume2");
        third.acceptance = Some(Accepted::New);
        third.checkpoint = Some(Checkpoint {
            fsid: [3; 16],
            generation: 12,
        });
        third.state = State::Provisioning;
        third.ahead = -3;
        third.enroll = true;
        third.level = Level::Checkpoint;
        record.set(third).unwrap();
        record
    }

    #[test]
    fn a_record_of_eight_volumes_fits_one_command_and_comes_back_as_it_was() {
        let bytes = full().encode(&auth());
        assert_eq!(bytes.len(), RECORD_LEN);
        const { assert!(RECORD_LEN <= 1024) };
        let (back, its_auth) = Record::parse(&bytes).unwrap();
        assert_eq!(its_auth.expose(), auth().expose());
        assert_eq!(back, full());
        assert_eq!(back.entries().count(), ANCHORED_MAX);
    }

    #[test]
    fn a_ninth_volume_is_refused_and_a_place_that_was_freed_is_taken() {
        let mut record = full();
        let error = record.set(entry("ninth")).unwrap_err().to_string();
        assert!(error.contains("room for 8 volumes"), "{error}");
        assert!(record.remove(&entry("volume4").name));
        assert!(!record.remove(&entry("volume4").name));
        record.set(entry("ninth")).unwrap();
        assert!(record.get(&entry("ninth").name).is_some());
    }

    /// A boot writes its nonce by itself, and where the program of before left zeros there is none.
    #[test]
    fn the_nonce_is_all_that_differs_from_a_record_of_before() {
        let mut record = full();
        let bytes = record.encode(&auth());
        record.nonce = None;
        let mut before = record.encode(&auth());
        assert_eq!(Record::parse(&before).unwrap().0, record);
        let at = usize::from(NONCE_OFFSET);
        before[at..at + NONCE_LEN].copy_from_slice(&[6; NONCE_LEN]);
        assert_eq!(*before, *bytes);
    }

    /// Each bit of a record counts: it is refused, or another record, and never panics.
    #[test]
    fn every_bit_of_a_record_means_something() {
        let bytes = full().encode(&auth());
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            if let Ok((record, its_auth)) = Record::parse(&changed) {
                assert_eq!(*record.encode(&its_auth), *changed, "bit {at}");
                assert!(its_auth.expose() != auth().expose() || record != full());
            }
        }
        for len in 0..bytes.len() {
            assert!(Record::parse(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn two_entries_of_one_name_are_refused() {
        let mut bytes = full().encode(&auth());
        let name: Vec<u8> = bytes[HEAD_LEN..HEAD_LEN + NAME_LEN].to_vec();
        bytes[HEAD_LEN + ENTRY_LEN..HEAD_LEN + ENTRY_LEN + NAME_LEN].copy_from_slice(&name);
        let error = Record::parse(&bytes).unwrap_err().to_string();
        assert_eq!(error, "the anchor's record: two entries have one name");
    }
}
