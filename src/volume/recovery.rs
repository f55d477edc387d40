// SPDX-License-Identifier: Apache-2.0
//! Recovery keyslots made and emptied. The volume key and the volume's secret stay as they are.
//!
//! As in a change of the secret the new header is made in memory and tried, and [`super::open`] and [`super::Opened::renew`] write
//! it with the stamp of the boot.

use super::luks::KeyslotToken;
use super::{HeaderFile, How, Keyed, Luks};
use crate::config::Kdf;
use crate::error::{Doing, Error, Result};
use crate::header::{
    Candidate, Form, NIGHTLATCH_TOKEN, NightlatchToken, RECOVERY_KEYSLOTS, RECOVERY_TOKEN,
    recovery_token,
};
use crate::key::Secret;
use crate::key::recovery::RecoveryKey;

/// What became of a recovery key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Added {
    /// This keyslot was made for it.
    New(u8),
    /// It opens this keyslot already: a boot before this one made it.
    Known(u8),
    /// No keyslot is free.
    NoRoom,
}

impl Keyed {
    /// The keyslots of recovery keys, in the header that the volume is to have.
    #[must_use]
    pub fn recovery_keyslots(&self) -> &[u8] {
        &self.latest().checked.recovery
    }

    /// The same, in the header that it had at the start of this boot or has by now.
    #[must_use]
    pub fn recovery_keyslots_before(&self) -> &[u8] {
        &self.candidate.checked.recovery
    }

    /// Makes ready a keyslot for `key` in a place that is free and none of `taken`. It must give the volume key first.
    pub fn add_recovery_key(&mut self, key: &RecoveryKey, taken: &[u8]) -> Result<Added> {
        let base = self.changeable()?;
        let passphrase = key.text();
        let draft = HeaderFile::draft(base)?;
        let mut luks = Luks::load(&draft, self.device.path())?;
        let used = &base.checked.recovery;
        for keyslot in used {
            // A refusal says no more than that it is another key's.
            if let Ok(given) = luks.volume_key(*keyslot, passphrase.as_bytes())
                && given.expose() == self.volume_key.expose()
            {
                return Ok(Added::Known(*keyslot));
            }
        }
        let mut free = RECOVERY_KEYSLOTS.into_iter();
        let free = free.find(|id| !used.contains(id) && !taken.contains(id));
        let Some(keyslot) = free else {
            return Ok(Added::NoRoom);
        };
        self.fill(&mut luks, base, keyslot, passphrase.as_bytes())?;
        luks.add_token(&recovery_token(keyslot))?;
        let mut recovery = [used.as_slice(), &[keyslot]].concat();
        recovery.sort_unstable();
        let next = finish(luks, &draft, base, &recovery)?;
        self.next = Some(next);
        Ok(Added::New(keyslot))
    }

    /// Makes ready to empty a recovery keyslot; `false` where there is none to empty.
    pub fn remove_recovery_key(&mut self, keyslot: u8) -> Result<bool> {
        let base = self.changeable()?;
        let mut recovery = base.checked.recovery.clone();
        if !recovery.contains(&keyslot) {
            return Ok(false);
        }
        recovery.retain(|id| *id != keyslot);
        let draft = HeaderFile::draft(base)?;
        let mut luks = Luks::load(&draft, self.device.path())?;
        luks.remove_token(KeyslotToken {
            kind: RECOVERY_TOKEN,
            keyslot,
        })?;
        luks.destroy_keyslot(keyslot)?;
        let next = finish(luks, &draft, base, &recovery)?;
        self.next = Some(next);
        Ok(true)
    }

    /// The header that the volume is to have.
    fn latest(&self) -> &Candidate {
        self.next.as_ref().unwrap_or(&self.candidate)
    }

    fn changeable(&self) -> Result<&Candidate> {
        if self.how == How::Unlocked && self.stamp.is_some() {
            return Ok(self.latest());
        }
        Err(Error::refused(
            "only a volume of our own profile that existed before this boot can be given recovery keyslots",
        ))
    }

    /// Puts the volume key into `keyslot`, in its place.
    ///
    /// libcryptsetup takes the first place that is free, so what is free in front of it is filled for the time being.
    fn fill(
        &self,
        luks: &mut Luks,
        base: &Candidate,
        keyslot: u8,
        passphrase: &[u8],
    ) -> Result<()> {
        let free = (0..keyslot).filter(|id| !base.checked.keyslots.contains(id));
        let free: Vec<u8> = free.collect();
        let nobody = Secret::random()?;
        for id in &free {
            luks.add_keyslot(*id, Kdf::Pbkdf2, nobody.expose(), &self.volume_key)?;
        }
        self.fill_keyslot(luks, keyslot, Kdf::Pbkdf2, passphrase)?;
        for id in &free {
            luks.destroy_keyslot(*id)?;
        }
        Ok(())
    }
}

/// The header in `draft`, which is to have these recovery keyslots and to say so, without what libcryptsetup leaves elsewhere.
fn finish(
    mut luks: Luks,
    draft: &HeaderFile,
    base: &Candidate,
    recovery: &[u8],
) -> Result<Candidate> {
    let mine = base.checked.nightlatch.clone();
    let mine = mine.ok_or_else(|| Error::failure("the header has no token \"nightlatch\""))?;
    let mine = NightlatchToken {
        form: Form::with(recovery, base.checked.values()),
        ..mine
    };
    luks.replace_token(NIGHTLATCH_TOKEN, &mine.to_json())?;
    drop(luks);
    base.with_recovery(&draft.tidied()?, recovery)
        .doing("checking the new header")
}
