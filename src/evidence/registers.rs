// SPDX-License-Identifier: Apache-2.0
//! Sets of PCRs as a quote may select them, resettable ones included, and their values.
//!
//! **Never:** a PCR beyond the 24 that a quote may select.

use std::collections::BTreeMap;
use std::fmt;

use crate::pcr::{Bank, PcrSet};

/// PCRs of a PC client: 0 to 23 (TCG PC Client Platform TPM Profile, section 4.6).
pub const COUNT: u8 = 24;

/// The values of PCRs of one bank, by number.
pub type Values = BTreeMap<u8, Vec<u8>>;

/// A set of PCRs from 0 to 23. Displays as `7+11+12`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Registers(u32);

impl Registers {
    /// All 24, which is what the KBS protocol quotes.
    pub const ALL: Self = Self(0x00ff_ffff);

    /// The set of these numbers; `None` where one is above 23.
    #[must_use]
    pub fn of(indices: &[u8]) -> Option<Self> {
        indices.iter().try_fold(Self::default(), |set, index| {
            (*index < COUNT).then(|| Self(set.0 | bit(*index)))
        })
    }

    /// The set whose lowest bit is PCR 0; `None` where one is above 23.
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        (bits & !Self::ALL.0 == 0).then_some(Self(bits))
    }

    /// The numbers in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..COUNT).filter(move |index| self.contains(*index))
    }

    /// Whether PCR `index` is one of them.
    #[must_use]
    pub fn contains(self, index: u8) -> bool {
        index < COUNT && self.0 & bit(index) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The bit of a PCR; zero for a number above 31.
fn bit(index: u8) -> u32 {
    1_u32.checked_shl(u32::from(index)).unwrap_or_default()
}

impl From<PcrSet> for Registers {
    fn from(pcrs: PcrSet) -> Self {
        Self(u32::from(pcrs.bits()))
    }
}

impl FromIterator<u8> for Registers {
    /// The set of those numbers that are PCRs.
    fn from_iter<I: IntoIterator<Item = u8>>(indices: I) -> Self {
        let bits = indices.into_iter().filter(|index| *index < COUNT);
        Self(bits.fold(0, |bits, index| bits | bit(index)))
    }
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, index) in self.iter().enumerate() {
            let separator = if place == 0 { "" } else { "+" };
            write!(f, "{separator}{index}")?;
        }
        Ok(())
    }
}

/// The `TPM_ALG_ID` of a bank's algorithm (TCG Algorithm Registry).
#[must_use]
pub fn algorithm(bank: Bank) -> u16 {
    bank.algorithm_id()
}

/// The bank of a `TPM_ALG_ID`.
#[must_use]
pub fn bank(algorithm_id: u16) -> Option<Bank> {
    [Bank::Sha1, Bank::Sha256, Bank::Sha384, Bank::Sha512]
        .into_iter()
        .find(|bank| algorithm(*bank) == algorithm_id)
}

/// Bytes of a value of this bank.
#[must_use]
pub fn len(bank: Bank) -> usize {
    match bank {
        Bank::Sha1 => 20,
        Bank::Sha256 => 32,
        Bank::Sha384 => 48,
        Bank::Sha512 => 64,
    }
}
