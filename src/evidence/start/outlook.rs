// SPDX-License-Identifier: Apache-2.0
//! What is known of a PCR in the next start.

/// What a PCR will hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outlook {
    /// This value.
    Value(Vec<u8>),
    /// Another value than in this boot, for this reason. Which one the file does not say.
    Other(String),
    /// That cannot be told, for this reason.
    Unknown(String),
}
