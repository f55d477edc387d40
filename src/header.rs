// SPDX-License-Identifier: Apache-2.0
//! The LUKS2 header: read once into memory, parsed strictly, compared with the template of its profile.
//!
//! The header is written by whoever stores the disk. Stock libcryptsetup opens volumes whose header says "no cipher", so
//! what reaches it is only a copy that passed here. Every refusal names the rule that was broken:
//!
//! | rule | what must hold |
//! |---|---|
//! | A2 | the header area is read once, with fixed offsets and lengths, and completely |
//! | B5 | both binary headers: magic, version 2, sizes, offsets, SHA-256 checksum, reserved bytes zero |
//! | B6 | both copies say the same, byte for byte in the JSON; in a profile with a MAC, each that differs passes by itself |
//! | B7 | UUID lower-case; label and subsystem those of the profile |
//! | C8 | JSON in one spelling, exactly the five top-level objects, zeros after it |
//! | C9 | `config` has the constant sizes, no flags, no requirements |
//! | C10 | one segment, encrypted and authenticated as the profile says |
//! | C11 | keyslots: how many and which its form has, exact key sizes, areas inside their bounds and apart, KDF cost bounded |
//! | C12 | one digest over all keyslots and the segment |
//! | C13 | tokens: only known types, as many as the profile allows, their contents typed |
//! | D15 | the header's identifier of the volume key is that of the key its keyslot gives |
//! | D16 | the MAC over header and keyslots is the one the volume key makes |
//! | E21 | dm-integrity's superblock has the constants the kernel writes |
//! | F23 | only a device proven blank, or marked as interrupted while it was being provisioned, may be formatted |
//!
//! Everything here is a pure function of bytes, except [`Area::read`].
//!
//! **Never:** a TPM, a key service, or a field that is let through because nobody knows it.

mod area;
mod binary;
mod constellation;
mod copies;
mod fields;
#[cfg(test)]
pub(crate) mod fixture;
mod foreign;
mod form;
mod json;
mod keyslots;
mod layout;
mod mac;
mod marker;
mod metadata;
mod opening;
mod reader;
mod recovery;
mod slot_pair;
mod stamp;
pub mod superblock;
mod template;
mod token;
mod unused;
mod violation;

pub use area::Area;
pub use copies::{Candidate, Copies, Step};
pub use form::Form;
pub use marker::{MARKER_LEN, Marker};
pub use recovery::{RECOVERY_KEYSLOTS, recovery_token};
pub use slot_pair::SlotPair;
pub use stamp::{BootNonce, NONCE_LEN, Stamp};
pub use template::{Checked, Expect, LABEL};
pub use token::{
    CONSTELLATION_TOKEN, Evidence, NIGHTLATCH_TOKEN, NightlatchToken, RECOVERY_TOKEN, TPM2_TOKEN,
    Tpm2Token,
};

use std::ops::Range;

use self::binary::Side;
use self::metadata::Metadata;
use self::token::Token;
use crate::config::{Profile, Role};
use crate::error::Result;

/// Length of the header area: two header copies, then keyslots up to the data.
pub const AREA_LEN: usize = 16 << 20;
/// Where the data starts.
pub const DATA_OFFSET: u64 = AREA_LEN as u64;
/// Where the provisioning marker is: the last block of the header area, which no keyslot reaches.
pub const MARKER_OFFSET: usize = AREA_LEN - MARKER_LEN;
/// Where the keyslots area starts.
const KEYSLOTS_OFFSET: usize = 2 * binary::COPY_LEN;
/// Smallest device: header area, what probing reads, and room for a journal and a file system.
const MIN_DEVICE_LEN: u64 = 64 << 20;
/// What programs that look for file systems read on a new volume: libblkid up to 4 MiB + 512 bytes at the head and
/// 1.6 MiB at the tail. Provisioning writes this much, so a blank device must be blank there.
pub const PROBE_HEAD_LEN: u64 = 8 << 20;
/// The same at the end of the device.
pub const PROBE_TAIL_LEN: u64 = 4 << 20;

/// What was found on the device outside the header area.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Probe {
    /// The header area was not blank, so nobody had to look.
    Skipped,
    /// Zeros.
    Zero,
    /// Something, first at this byte of the device.
    Written(u64),
}

/// What a device holds.
#[derive(Debug)]
pub enum Content {
    /// Nothing: header area and probe regions are zero.
    Blank,
    /// A provisioning that was interrupted. It starts over.
    Interrupted(Marker),
    /// A LUKS2 header of which at least one copy could be parsed. Nothing more is known about it yet.
    Luks(Box<Copies>),
}

/// A parsed header. Its values are those of the disk: call [`Header::check`] before using any.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    uuid: String,
    label: String,
    subsystem: String,
    seqid: u64,
    metadata: Metadata,
    /// The first byte of the area that is not zero where there is nothing to be.
    stray: Option<usize>,
    /// The places of keyslots it does not have in which there is something all the same.
    leftover: Vec<Range<usize>>,
}

impl Header {
    /// Parses a header from its first copy alone, in at least 16 KiB. What is behind it is not looked at.
    pub fn parse(copy: &[u8]) -> Result<Self> {
        Self::parse_copy(copy, Side::Primary)
    }

    fn parse_copy(area: &[u8], side: Side) -> Result<Self> {
        let binary = binary::parse(area, side)?;
        Ok(Self {
            uuid: binary.uuid,
            label: binary.label.into(),
            subsystem: binary.subsystem.into(),
            seqid: binary.seqid,
            metadata: Metadata::parse(binary.json)?,
            stray: None,
            leftover: Vec::new(),
        })
    }

    /// The volume's UUID, lower-case.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The header's sequence number. It counts changes and is not authenticated.
    #[must_use]
    pub fn seqid(&self) -> u64 {
        self.seqid
    }

    /// The profile the header was made for, as it says itself. For reports: what may be opened comes from the configuration.
    #[must_use]
    pub fn claimed_profile(&self) -> Profile {
        let own = self.metadata.tokens.values().find_map(|token| match token {
            Token::Nightlatch(_) => Some(Profile::Nightlatch1),
            Token::Constellation { .. } => Some(Profile::Constellation),
            Token::Tpm2(_) | Token::Recovery { .. } => None,
        });
        own.unwrap_or(Profile::Luks2Strict)
    }
}

/// A text area without the zeros behind it.
fn used(area: &[u8]) -> &[u8] {
    let end = area.iter().position(|byte| *byte == 0);
    area.get(..end.unwrap_or(area.len())).unwrap_or_default()
}

/// A UUID in the only spelling accepted: it goes into key derivations.
fn uuid(text: &str) -> Option<String> {
    let good = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    let valid = text.len() == 36 && text.bytes().enumerate().all(good);
    valid.then(|| text.into())
}

/// The role of a word.
fn role(word: &str) -> Option<Role> {
    [Role::State, Role::Root]
        .into_iter()
        .find(|role| role.as_str() == word)
}

#[cfg(test)]
mod tests;
