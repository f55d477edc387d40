// SPDX-License-Identifier: Apache-2.0
//! A volume's secret changed for another one, or sealed anew. The volume key, and so the data, stays as it is.
//!
//! The new header is made in memory: it has the other pair of keyslots, filled and tried, and none of the old. What order
//! it reaches the disk in is [`crate::header::Candidate::steps`].

use super::provision::token;
use super::unlock::Passphrase;
use super::{HeaderFile, Keyed, Luks};
use crate::config::{self, Kdf};
use crate::error::{Doing, Error, Result};
use crate::header::{Form, NIGHTLATCH_TOKEN, NightlatchToken, TPM2_TOKEN};
use crate::key::Secret;
use crate::tpm::{Policy, Sealed};

/// What becomes of a volume's secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rekeyed {
    /// It is the key service's from then on.
    Enrolled,
    /// It is another one that the node drew itself.
    Rotated,
    /// It is what it was, and is sealed anew.
    Sealed,
}

impl Keyed {
    /// Makes ready to change the volume's secret to `secret`, which `seal` seals to the TPM: [`super::open`] with a next epoch makes
    /// and [`super::Opened::renew`] writes
    /// a header with it. Nothing is written before.
    ///
    /// Both new keyslots must give the volume key first. Only volumes that have a keyslot for the TPM are changed.
    pub fn rekey(
        &mut self,
        volume: &config::Volume,
        policy: Policy,
        (rekeyed, secret): (Rekeyed, &Secret),
        seal: impl FnOnce(&Secret) -> Result<Sealed>,
    ) -> Result<()> {
        let checked = &self.candidate.checked;
        let (Some(old), Some(mine), Some(_)) = (checked.pair, &checked.nightlatch, &checked.tpm)
        else {
            return Err(Error::refused(
                "only a volume of profile nightlatch-1 with a keyslot for the TPM can be given another secret",
            ));
        };
        let new = old.other();
        let token = token(seal(secret).doing("sealing")?, policy, new.tpm());
        let mine = NightlatchToken {
            form: Form::with(&checked.recovery, token.values.as_ref()),
            own_secret: match rekeyed {
                Rekeyed::Enrolled => false,
                Rekeyed::Rotated => true,
                Rekeyed::Sealed => mine.own_secret,
            },
            ..mine.clone()
        };
        let draft = HeaderFile::draft(&self.candidate)?;
        let mut luks = Luks::load(&draft, self.device.path())?;
        for (slot, kdf, encoding) in [
            (new.secret(), volume.kdf, Passphrase::Raw),
            (new.tpm(), Kdf::Pbkdf2, Passphrase::Base64),
        ] {
            self.fill_keyslot(&mut luks, slot, kdf, &encoding.of(secret))?;
        }
        luks.replace_token(TPM2_TOKEN, &token.to_json())?;
        luks.replace_token(NIGHTLATCH_TOKEN, &mine.to_json())?;
        for slot in [old.secret(), old.tpm()] {
            luks.destroy_keyslot(slot)?;
        }
        drop(luks);
        let next = self.candidate.rekeyed(&draft.tidied()?, mine.own_secret);
        self.next = Some(next.doing("checking the new header")?);
        self.rekeyed = Some(rekeyed);
        Ok(())
    }

    /// Puts the volume key into a keyslot, which must give it again.
    pub(super) fn fill_keyslot(
        &self,
        luks: &mut Luks,
        slot: u8,
        kdf: Kdf,
        passphrase: &[u8],
    ) -> Result<()> {
        luks.add_keyslot(slot, kdf, passphrase, &self.volume_key)?;
        let given = luks.volume_key(slot, passphrase)?;
        if given.expose() == self.volume_key.expose() {
            return Ok(());
        }
        Err(Error::failure(format_args!(
            "keyslot {slot} gives another key than it was given"
        )))
    }

    /// Whether the node made the volume's secret itself, as the header says.
    #[must_use]
    pub fn has_own_secret(&self) -> bool {
        let mine = self.candidate.checked.nightlatch.as_ref();
        mine.is_some_and(|token| token.own_secret)
    }

    /// What [`Keyed::rekey`] has made a header for that is not written yet.
    #[must_use]
    pub fn next_change(&self) -> Option<Rekeyed> {
        self.rekeyed
    }

    /// Whether there is more to write than the next epoch: another secret, other recovery keyslots, or what an interruption left undone.
    #[must_use]
    pub fn is_to_be_rewritten(&self) -> bool {
        self.next.is_some() || self.needs_repair
    }
}
