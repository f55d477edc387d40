// SPDX-License-Identifier: Apache-2.0
//! The two forms of our own profile. A configuration names the profile and takes both; which one a header has it says itself,
//! under its MAC.

use crate::sealed::values::SealedValues;

/// What a header of our profile may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// One pair of keyslots and nothing beside it.
    First,
    /// The same with up to two recovery keyslots, and with the values that the PCRs had when the secret was sealed: one of them at
    /// least. A program that knows the first form alone refuses it.
    Second,
}

impl Form {
    /// The form of a header with these recovery keyslots and values of sealing time: the first, byte for byte, where nothing came with the
    /// second.
    #[must_use]
    pub fn with(recovery: &[u8], values: Option<&SealedValues>) -> Self {
        if recovery.is_empty() && values.is_none() {
            Self::First
        } else {
            Self::Second
        }
    }

    /// The word in the token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "nightlatch-1",
            Self::Second => "nightlatch-2",
        }
    }

    /// The form of a word.
    pub(super) fn of(word: &str) -> Option<Self> {
        [Self::First, Self::Second]
            .into_iter()
            .find(|form| form.as_str() == word)
    }
}
