// SPDX-License-Identifier: Apache-2.0
//! The volume key of a volume that exists, from the sources in their order.

use base64ct::{Base64, Encoding};
use log::warn;
use zeroize::Zeroizing;

use super::{Device, HeaderFile, How, Keyed, Luks};
use crate::config::{self, Source};
use crate::error::{Doing, Error, Result};
use crate::header::{Checked, Tpm2Token};
use crate::key::Secret;
use crate::pcr::{Bank, PcrSet};
use crate::tpm::Sealed;

/// A volume whose header has been checked.
#[derive(Debug)]
pub struct Existing {
    device: Device,
    header: HeaderFile,
    checked: Checked,
}

/// A secret that a source gave, and the keyslot it is for.
#[derive(Debug)]
pub(super) struct Offer {
    secret: Secret,
    keyslot: u8,
    encoding: Passphrase,
}

/// How a keyslot's passphrase is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Passphrase {
    /// The secret's bytes.
    Raw,
    /// Their base64 text, as systemd does with what it unseals.
    Base64,
}

impl Passphrase {
    /// The passphrase for `secret`.
    #[must_use]
    pub(super) fn of(self, secret: &Secret) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Raw => secret.expose().to_vec(),
            Self::Base64 => Base64::encode_string(secret.expose()).into_bytes(),
        })
    }
}

impl Existing {
    pub(super) fn new(device: Device, header: HeaderFile, checked: Checked) -> Self {
        Self {
            device,
            header,
            checked,
        }
    }

    /// Tries the configured sources in order until one gives a secret that opens its keyslot.
    ///
    /// A source that fails is logged and the next one is tried; the last failure is the one returned. `unseal` is the only
    /// way to the TPM.
    pub fn unlock(
        self,
        volume: &config::Volume,
        policy: &config::Tpm,
        mut unseal: impl FnMut(&Sealed) -> Result<Secret>,
    ) -> Result<Keyed> {
        let mut last = Error::refused("no source can open a volume that exists");
        for source in &volume.sources {
            let offer = match source {
                Source::Tpm => self.offer_of_tpm(policy, &mut unseal),
                Source::Generate => continue,
            };
            match offer.and_then(|offer| self.try_offer(offer)) {
                Ok((offer, volume_key)) => return Ok(self.keyed(*source, offer, volume_key)),
                Err(error) => {
                    warn!(volume = volume.name.as_str(); "source {}: {error}", source.word());
                    last = error;
                }
            }
        }
        Err(last)
    }

    fn offer_of_tpm(
        &self,
        policy: &config::Tpm,
        unseal: &mut impl FnMut(&Sealed) -> Result<Secret>,
    ) -> Result<Offer> {
        let token = self.checked.tpm.as_ref().ok_or_else(|| {
            Error::refused("the volume has no systemd-tpm2 token, so nothing of it is sealed")
        })?;
        require_policy(token, policy)?;
        let secret = unseal(&Sealed {
            private: token.private.clone(),
            public: token.public.clone(),
            policy_hash: token.policy_hash,
            srk: token.srk.clone(),
        })
        .doing("unsealing")?;
        Ok(Offer {
            secret,
            keyslot: token.keyslot,
            encoding: Passphrase::Base64,
        })
    }

    fn try_offer(&self, offer: Offer) -> Result<(Offer, Secret)> {
        let mut luks = Luks::load(&self.header, self.device.path())?;
        let passphrase = offer.encoding.of(&offer.secret);
        let volume_key = luks.volume_key(offer.keyslot, &passphrase)?;
        Ok((offer, volume_key))
    }

    fn keyed(self, source: Source, offer: Offer, volume_key: Secret) -> Keyed {
        Keyed {
            device: self.device,
            header: self.header,
            volume_key,
            secret: offer.secret,
            salt: self.checked.nightlatch.map(|token| token.salt),
            uuid: self.checked.uuid,
            how: How::Unlocked,
            source,
            keyslot: offer.keyslot,
        }
    }

    /// Opens keyslot `keyslot` with a secret the caller has, its bytes being the passphrase.
    pub fn unlock_with(self, secret: Secret, keyslot: u8) -> Result<Keyed> {
        let offer = Offer {
            secret,
            keyslot,
            encoding: Passphrase::Raw,
        };
        let (offer, volume_key) = self.try_offer(offer)?;
        Ok(self.keyed(Source::Generate, offer, volume_key))
    }
}

/// The policy is the configuration's; a token may not relax it (rule C13).
fn require_policy(token: &Tpm2Token, policy: &config::Tpm) -> Result<()> {
    let (pcrs, bank) = (PcrSet::of(&token.pcrs), Bank::from(policy.bank));
    if pcrs == policy.pcrs && token.bank == bank {
        return Ok(());
    }
    Err(Error::refused(format_args!(
        "rule C13: the token is sealed to {} {pcrs}, the configuration says {bank} {}",
        token.bank, policy.pcrs
    )))
}
