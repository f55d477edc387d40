// SPDX-License-Identifier: Apache-2.0
//! A volume opened with what a person has brought, where none of its sources is.
//!
//! **Never:** a keyslot tried that the header does not have for such a key.

use super::{Existing, Offer, Passphrase, Unlocked};
use crate::config::Source;
use crate::error::{Error, Result};
use crate::header::{Candidate, Checked};
use crate::key::{Brought, Secret};
use crate::volume::Keyed;

impl Existing {
    /// Opens it with what a person has brought: the first keyslot that it can be for and that it opens.
    pub fn unlock_by(self, key: &Brought) -> Result<Keyed> {
        let proven = self.newest_of(|candidate| self.prove_by(candidate, key))?;
        // No source has given it, and nothing that asks for one comes after this.
        self.keyed(Source::Generate, proven)
    }

    fn prove_by(&self, candidate: &Candidate, key: &Brought) -> Result<Unlocked> {
        let mut failure = None;
        for keyslot in keyslots(key, &candidate.checked) {
            let offer = Offer {
                secret: Secret::new(key.passphrase().expose().to_vec()),
                keyslot,
                encoding: Passphrase::Raw,
            };
            match self.prove(candidate, || Ok(offer)) {
                Ok(unlocked) => return Ok(unlocked),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| {
            Error::refused("the header has no keyslot for such a key: name another key")
        }))
    }
}

/// The keyslots that it can be for. A stock volume does not say which is whose.
fn keyslots(key: &Brought, checked: &Checked) -> Vec<u8> {
    match (key, checked.pair) {
        (Brought::RecoveryKey(_), _) => checked.recovery.clone(),
        (Brought::Secret(_), Some(pair)) => vec![pair.secret()],
        (Brought::Secret(_), None) => {
            let sealed = checked.tpm.as_ref().map(|token| token.keyslot);
            let is_other = |id: &u8| checked.recovery.contains(id) || sealed == Some(*id);
            let ids = checked.keyslots.iter().copied();
            ids.filter(|id| !is_other(id)).collect()
        }
    }
}
