// SPDX-License-Identifier: Apache-2.0
//! The sentence of a failed boot, kept in the TPM over the reboot that follows it.
//!
//! A hint that nothing relies on. Any boot has to be able to leave one, also that of an image which no longer opens the record, so the
//! index has no authorisation: whatever runs on this TPM can write it, and what it says is unproven. It is written where it says
//! something else, and by no boot that succeeds.
//!
//! | offset | length | what |
//! |---|---|---|
//! | 0 | 8 | `nlfailed` |
//! | 8 | 1 | version, 1 |
//! | 9 | 1 | exit code |
//! | 10 | 1 | zero |
//! | 11 | 1 | length of the sentence |
//! | 12 | 4 | the TPM's count of resets when it was first said |
//! | 16 | 184 | the sentence, printable ASCII, then zeros |

use serde::{Deserialize, Serialize};

use crate::config::{Config, NvIndex, Tcti};
use crate::error::{Doing, Error, Exit, Result};
use crate::logging::printable;
use crate::protocol::{LastFailure, SENTENCE_LEN_MAX};
use crate::tpm::DirectTpm;

/// Length of the index in bytes.
const FAILURE_LEN: u16 = 200;
const MAGIC: &[u8; 8] = b"nlfailed";
const VERSION: u8 = 1;
const HEAD_LEN: usize = 16;

/// What a sentence ends in that is longer.
const CUT: &str = "...";

/// A boot that failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Its verdict.
    pub exit: Exit,
    /// Its sentence, in printable ASCII.
    pub sentence: String,
    /// The TPM's count of resets in the first of the boots in a row that said so.
    pub reset_count: u32,
}

impl Failure {
    fn of(error: &Error, reset_count: u32) -> Self {
        let mut sentence = printable(&error.to_string());
        if sentence.len() > SENTENCE_LEN_MAX {
            sentence.truncate(SENTENCE_LEN_MAX.saturating_sub(CUT.len()));
            sentence.push_str(CUT);
        }
        Self {
            exit: error.exit(),
            sentence,
            reset_count,
        }
    }

    /// What a key service is told of it.
    #[must_use]
    pub fn told(self) -> LastFailure {
        LastFailure {
            exit: self.exit.code(),
            sentence: self.sentence,
            reset_count: self.reset_count,
        }
    }

    /// Reads an index, which anybody may have written; `None` where it holds no failure.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
        let [magic @ .., version, code, zero, len, r0, r1, r2, r3] = head else {
            return None;
        };
        if magic != MAGIC || (*version, *zero) != (VERSION, 0) {
            return None;
        }
        let (sentence, unused) = rest.split_at_checked(usize::from(*len))?;
        if sentence.is_empty() || unused.iter().any(|byte| *byte != 0) {
            return None;
        }
        let exit = Exit::from_code(*code).filter(|exit| exit.code() == *code);
        Some(Self {
            exit: exit?,
            sentence: printable(&String::from_utf8_lossy(sentence)),
            reset_count: u32::from_be_bytes([*r0, *r1, *r2, *r3]),
        })
    }

    /// The bytes for the TPM.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let sentence = self.sentence.as_bytes();
        let len = u8::try_from(sentence.len()).unwrap_or(u8::MAX);
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, self.exit.code(), 0, len]);
        bytes.extend(self.reset_count.to_be_bytes());
        bytes.extend(sentence);
        bytes.resize(usize::from(FAILURE_LEN), 0);
        bytes
    }
}

/// A failure, and how long ago it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// The failure.
    pub failure: Failure,
    /// How often the machine was started since its first boot; none where the TPM's count began anew.
    pub starts: Option<u32>,
}

/// Where a node keeps the sentence of a boot that failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailurePlace {
    /// The TPM.
    pub tcti: Tcti,
    /// The index.
    pub index: NvIndex,
}

impl FailurePlace {
    /// That of the node with this configuration; none where the index would not be one of the owner's.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let anchor = &config.anchor;
        Some(Self {
            tcti: config.tpm.tcti.clone(),
            index: anchor.index.failure(anchor.counter)?,
        })
    }

    /// Keeps the sentence of a boot that ended in `error`, where it is another one than what is there.
    ///
    /// Commands: `ReadClock`, `NV_Read`; where it is another one those of [`DirectTpm::write_open`].
    pub fn keep(&self, error: &Error) -> Result<()> {
        self.keep_now(error).doing("keeping why this boot failed")
    }

    fn keep_now(&self, error: &Error) -> Result<()> {
        let mut tpm = DirectTpm::open(&self.tcti)?;
        let new = Failure::of(error, tpm.reset_count()?);
        let is_same = self.read_in(&mut tpm)?.is_some_and(|old| {
            let old = (old.exit, old.sentence);
            old == (new.exit, new.sentence.clone())
        });
        if is_same {
            return Ok(());
        }
        tpm.write_open(self.index.handle(), &new.encode())
    }

    /// What is kept. Command: `NV_Read`.
    pub fn read(&self) -> Result<Option<Failure>> {
        self.read_in(&mut DirectTpm::open(&self.tcti)?)
            .doing("reading why a boot failed")
    }

    /// What is kept, and how long ago it was. Commands: `NV_Read`, `ReadClock`.
    pub fn tell(&self) -> Result<Option<Told>> {
        let told = DirectTpm::open(&self.tcti).and_then(|mut tpm| {
            let Some(failure) = self.read_in(&mut tpm)? else {
                return Ok(None);
            };
            let starts = tpm.reset_count()?.checked_sub(failure.reset_count);
            Ok(Some(Told { failure, starts }))
        });
        told.doing("reading why a boot failed")
    }

    /// Forgets what is kept; whether something was. The index stays, so that there is room for the next one.
    pub fn clear(&self) -> Result<bool> {
        let cleared = DirectTpm::open(&self.tcti).and_then(|mut tpm| {
            let is_there = self.read_in(&mut tpm)?.is_some();
            if is_there {
                tpm.write_open(self.index.handle(), &vec![0; usize::from(FAILURE_LEN)])?;
            }
            Ok(is_there)
        });
        cleared.doing("forgetting why a boot failed")
    }

    fn read_in(&self, tpm: &mut DirectTpm) -> Result<Option<Failure>> {
        let bytes = tpm.read_open(self.index.handle(), FAILURE_LEN)?;
        Ok(bytes.and_then(|bytes| Failure::parse(&bytes)))
    }
}

#[cfg(test)]
mod tests;
