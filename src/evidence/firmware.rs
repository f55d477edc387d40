// SPDX-License-Identifier: Apache-2.0
//! The parts that a firmware says it is made of: PCR 0 (TCG PC Client Platform Firmware Profile, section 3.3.4.1).
//!
//! Comparing them is a guard against negligence: only a launch measurement binds a firmware that the host may choose.
//!
//! **Never:** a part is known by what the log calls it: only by the digest.

use std::fmt;

use super::eventlog::Event;
use crate::pcr::Bank;

/// A part of a firmware.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FirmwarePart {
    /// The digest of what was measured.
    Digest(Vec<u8>),
    /// A version, which is measured as text.
    Version(String),
}

impl FirmwarePart {
    /// A digest where it looks like one of the bank, a version otherwise.
    #[must_use]
    pub fn parse(bank: Bank, text: &str) -> Self {
        match hex::decode(text) {
            Ok(digest) if digest.len() == bank.zero().len() => Self::Digest(digest),
            _ => Self::Version(text.to_owned()),
        }
    }

    /// Whether the event is this part. A version is measured as UTF-16 with its zero (`EV_S_CRTM_VERSION`, section 10.4.1).
    #[must_use]
    pub fn is(&self, event: &Event, bank: Bank) -> bool {
        match self {
            Self::Digest(digest) => event.digest == *digest,
            Self::Version(version) => {
                let units = version.encode_utf16().chain([0]);
                let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
                event.digest == bank.hash(&bytes)
            }
        }
    }
}

/// What was measured and is none of `parts`, in words; that nothing was is none of them either.
#[must_use]
pub fn unlisted<'a>(
    parts: &[FirmwarePart],
    measured: impl Iterator<Item = &'a Event>,
    bank: Bank,
) -> Vec<String> {
    let mut measured = measured.peekable();
    if measured.peek().is_none() {
        return vec!["nothing".into()];
    }
    measured
        .filter(|event| !parts.iter().any(|part| part.is(event, bank)))
        .map(|event| format!("{} with {}", event.what, hex::encode(&event.digest)))
        .collect()
}

impl fmt::Display for FirmwarePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => f.write_str(&hex::encode(digest)),
            Self::Version(version) => write!(f, "version {version:?}"),
        }
    }
}
