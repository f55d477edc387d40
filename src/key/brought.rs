// SPDX-License-Identifier: Apache-2.0
//! What a person opens a volume with, where none of its sources is.

use super::Secret;

/// The passphrase of one of the volume's keyslots, and of which kind.
#[derive(Debug)]
pub enum Brought {
    /// The volume's secret.
    Secret(Secret),
    /// The text of a recovery key, in the spelling of its keyslot.
    RecoveryKey(Secret),
}

impl Brought {
    /// What opens the keyslot.
    #[must_use]
    pub fn passphrase(&self) -> &Secret {
        match self {
            Self::Secret(secret) | Self::RecoveryKey(secret) => secret,
        }
    }
}
