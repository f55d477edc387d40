// SPDX-License-Identifier: Apache-2.0
//! The record's bytes: see the tables in [`super`].

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    AUTH_OFFSET, Accepted, Checkpoint, Entry, HEAD_LEN, KeyId, MAGIC, NONCE_OFFSET, RECORD_LEN,
    Record, State, Version,
};
use crate::config::{ANCHORED_MAX, Level, VolumeName};
use crate::error::{Error, Result};
use crate::header::{BootNonce, NONCE_LEN, Stamp};
use crate::key::Secret;

/// Where the entries begin, and how long each is.
const PLACES_1: (usize, usize) = (HEAD_LEN, 120);
const PLACES_2: (usize, usize) = (72, 117);
const NAME_LEN: usize = 32;
const FSID_LEN: usize = 16;

const _: () = assert!(PLACES_1.0 + ANCHORED_MAX * PLACES_1.1 == RECORD_LEN);
const _: () = assert!(PLACES_2.0 + ANCHORED_MAX * PLACES_2.1 == RECORD_LEN);

impl Version {
    fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    fn places(self) -> (usize, usize) {
        match self {
            Self::One => PLACES_1,
            Self::Two => PLACES_2,
        }
    }
}

impl Record {
    /// The bytes for the TPM, `auth` being the index's own authorisation value.
    #[must_use]
    pub fn encode(&self, auth: &Secret) -> Zeroizing<Vec<u8>> {
        // Reserved at once, so that no shorter copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(RECORD_LEN));
        bytes.extend(MAGIC);
        bytes.push(self.version.number());
        bytes.extend(nonce_bytes(self.nonce));
        bytes.extend(auth.expose());
        let (begin, len) = self.version.places();
        bytes.resize(begin, 0);
        for place in &self.places {
            let entry = place.as_ref();
            let entry = entry.map_or_else(|| vec![0; len], |entry| entry.encode(self.version));
            bytes.extend(entry);
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
        let number = bytes.get(MAGIC.len()).copied();
        let mut versions = [Version::One, Version::Two].into_iter();
        let version = versions
            .find(|version| number == Some(version.number()))
            .ok_or_else(|| wrong("it was written by another version of nightlatch"))?;
        let (begin, len) = version.places();
        let (head, rest) = bytes.split_at_checked(begin).unwrap_or_default();
        if head.iter().skip(HEAD_LEN).any(|byte| *byte != 0) {
            return Err(wrong(
                "it says what a later version of nightlatch has written",
            ));
        }
        let auth = Secret::new(head.get(AUTH_OFFSET..HEAD_LEN).unwrap_or_default().to_vec());
        let mut record = Self {
            nonce: nonce(head),
            version,
            ..Self::default()
        };
        for (place, bytes) in record.places.iter_mut().zip(rest.chunks(len)) {
            if bytes.iter().any(|byte| *byte != 0) {
                let entry = Entry::parse(bytes, version);
                *place = Some(entry.ok_or_else(|| wrong("an entry is damaged"))?);
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

fn nonce_bytes(nonce: Option<BootNonce>) -> [u8; NONCE_LEN] {
    nonce.map_or([0; NONCE_LEN], BootNonce::bytes)
}

/// The nonce in the first bytes of a record.
fn nonce(head: &[u8]) -> Option<BootNonce> {
    let bytes = head.get(usize::from(NONCE_OFFSET)..AUTH_OFFSET)?;
    BootNonce::from_bytes(bytes.try_into().ok()?)
}

impl Entry {
    fn encode(&self, version: Version) -> Vec<u8> {
        let mut name = [0; NAME_LEN];
        for (to, from) in name.iter_mut().zip(self.name.as_str().bytes()) {
            *to = from;
        }
        let last = self.checkpoint.unwrap_or_default();
        let numbers = [
            state_number(self.state),
            level_number(self.level),
            self.acceptance.map_or(0, Accepted::number),
            self.enroll.into(),
        ];
        let [state, level, kind, enroll] = numbers;
        let away = self.away.unwrap_or(Stamp {
            epoch: 0,
            nonce: None,
        });
        let begin = [&name[..], self.uuid.as_bytes(), &self.key_id.first].concat();
        let middle = [
            &last.generation.to_be_bytes()[..],
            &last.fsid,
            &self.ahead.to_be_bytes(),
        ]
        .concat();
        let is_away = u8::from(self.away.is_some());
        let mut bytes = match version {
            Version::One => {
                let rest = self.key_id.rest.unwrap_or_default();
                [&begin[..], &rest, &middle, &numbers].concat()
            }
            Version::Two => {
                let packed = state | level << 2 | kind << 4 | enroll << 6 | is_away << 7;
                let epoch = away.epoch.to_be_bytes();
                let nonce = nonce_bytes(away.nonce);
                [&begin[..], &middle, &epoch, &nonce, &[packed]].concat()
            }
        };
        let (_, len) = version.places();
        bytes.resize(len, 0);
        bytes
    }

    /// An entry, if `bytes` is the one spelling of it.
    fn parse(bytes: &[u8], version: Version) -> Option<Self> {
        let mut fields = Fields(bytes);
        let name = fields.take::<NAME_LEN>()?;
        let name = name.split(|byte| *byte == 0).next()?;
        let name = VolumeName::try_from(String::from_utf8(name.to_vec()).ok()?).ok()?;
        let uuid = Uuid::from_bytes(fields.take()?);
        let first = fields.take()?;
        let rest = match version {
            Version::One => Some(fields.take()?),
            Version::Two => None,
        };
        let checkpoint = Checkpoint {
            generation: u64::from_be_bytes(fields.take()?),
            fsid: fields.take::<FSID_LEN>()?,
        };
        let ahead = i64::from_be_bytes(fields.take()?);
        let mut away = None;
        let [state, level, kind, enroll] = match version {
            Version::One => fields.take()?,
            Version::Two => {
                let last_open = Stamp {
                    epoch: u64::from_be_bytes(fields.take()?),
                    nonce: BootNonce::from_bytes(fields.take()?),
                };
                let [packed] = fields.take()?;
                away = (packed >> 7 == 1).then_some(last_open);
                [
                    packed & 3,
                    packed >> 2 & 3,
                    packed >> 4 & 3,
                    packed >> 6 & 1,
                ]
            }
        };
        let states = [State::Provisioning, State::Ready, State::Lost];
        let levels = [Level::Identity, Level::Epoch, Level::Checkpoint];
        let entry = Self {
            name,
            uuid,
            key_id: KeyId { first, rest },
            state: states.into_iter().find(|it| state_number(*it) == state)?,
            level: levels.into_iter().find(|it| level_number(*it) == level)?,
            acceptance: match kind {
                0 => None,
                _ => Some(Accepted::from_number(kind)?),
            },
            checkpoint: (checkpoint.generation != 0).then_some(checkpoint),
            ahead,
            // Any other number is refused below: it would not be written back.
            enroll: enroll == 1,
            away,
        };
        let is_of_version = version == Version::Two || entry.state != State::Lost;
        (is_of_version && entry.encode(version) == bytes).then_some(entry)
    }
}

/// What is left of an entry that is being read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
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

fn state_number(state: State) -> u8 {
    match state {
        State::Provisioning => 1,
        State::Ready => 2,
        State::Lost => 3,
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
