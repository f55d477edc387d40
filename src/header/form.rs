// SPDX-License-Identifier: Apache-2.0
//! The two forms of our own profile. A configuration names the profile and takes both; which one a header has it says itself,
//! under its MAC.

/// What a header of our profile may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// One pair of keyslots and nothing beside it.
    First,
    /// The same with one or two recovery keyslots. A program that knows the first form alone refuses it.
    Second,
}

impl Form {
    /// The form of a header with these recovery keyslots: without any it is the first, byte for byte.
    #[must_use]
    pub fn with(recovery: &[u8]) -> Self {
        if recovery.is_empty() {
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
