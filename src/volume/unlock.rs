// SPDX-License-Identifier: Apache-2.0
//! The volume key of a volume that exists, from the sources in their order.

mod brought;

use base64ct::{Base64, Encoding};
use log::warn;
use zeroize::Zeroizing;

use super::{Device, HeaderFile, How, Keyed, Luks};
use crate::config::{self, Source};
use crate::error::{Doing, Error, Exit, Result};
use crate::header::{Candidate, Checked, NightlatchToken, Stamp, Tpm2Token};
use crate::key::{Secret, volume_key_id};
use crate::parallel::join;
use crate::pcr::PcrSet;
use crate::protocol::recovery::WaitingVolume;
use crate::tpm::{Policy, Sealed};

/// A volume whose header has been checked.
#[derive(Debug)]
pub struct Existing {
    device: Device,
    /// One, or the two copies of a header that differ.
    candidates: Vec<Candidate>,
}

/// Takes what was sealed.
pub type Unseal<'a> = Box<dyn FnMut(&Sealed) -> Result<Secret> + Send + 'a>;

/// Takes a volume's UUID.
pub type Ask<'a> = Box<dyn FnMut(&str) -> Result<Secret> + Send + 'a>;

/// Who keeps secrets outside of the disk.
pub struct SecretProviders<'a> {
    /// The TPM.
    pub unseal: Unseal<'a>,
    /// The key service.
    pub ask: Ask<'a>,
}

impl std::fmt::Debug for SecretProviders<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretProviders(..)")
    }
}

impl<'a> SecretProviders<'a> {
    /// The TPM alone.
    pub fn tpm(unseal: impl FnMut(&Sealed) -> Result<Secret> + Send + 'a) -> Self {
        Self {
            unseal: Box::new(unseal),
            ask: Box::new(|_| {
                Err(Error::config(
                    "there is no key service in the configuration",
                ))
            }),
        }
    }
}

/// A candidate that a secret opened and that its volume key has proven genuine.
struct Unlocked {
    candidate: Candidate,
    header: HeaderFile,
    offer: Offer,
    volume_key: Secret,
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
    pub(super) fn new(device: Device, candidates: Vec<Candidate>) -> Self {
        Self { device, candidates }
    }

    /// Tries the configured sources in order until one gives a secret that opens its keyslot.
    ///
    /// A source that fails is logged and the next one is tried. Of several failures the last one that may pass is returned,
    /// else the last one. Where the copies of the header differ, the genuine one with the highest epoch is taken.
    pub fn unlock(
        self,
        volume: &config::Volume,
        policy: Policy,
        mut providers: SecretProviders<'_>,
    ) -> Result<Keyed> {
        let mut last = Error::refused("no source can open a volume that exists");
        for source in &volume.sources {
            let proven = match source {
                Source::Tpm => {
                    self.newest(|checked| offer_of_tpm(checked, policy, &mut providers.unseal))
                }
                Source::Service => self.newest(|checked| {
                    Ok(Offer {
                        secret: (providers.ask)(&checked.uuid)?,
                        keyslot: checked.secret_keyslot(),
                        encoding: Passphrase::Raw,
                    })
                }),
                // The first makes secrets and keeps none; the second is what waits: see [`Existing::unlock_pushed`].
                Source::Generate | Source::Recovery => continue,
            };
            match proven {
                Ok(proven) => return self.keyed(*source, proven),
                Err(error) => {
                    warn!(volume = volume.name.as_str(); "source {}: {error}", source.as_str());
                    // What may pass is worth another try of the whole boot.
                    if last.exit() != Exit::Temporary || error.exit() == Exit::Temporary {
                        last = error;
                    }
                }
            }
        }
        Err(last)
    }

    /// Its UUID and the epoch of its header, as the header says.
    pub(super) fn claim(&self) -> Result<(String, Option<u64>)> {
        let first = self
            .candidates
            .first()
            .ok_or_else(|| Error::failure("there is no header to open"))?;
        let highest = self.candidates.iter().filter_map(epoch).max();
        Ok((first.checked.uuid.clone(), highest))
    }

    /// The genuine candidate with the highest epoch among those that the offer for each opens.
    fn newest(&self, mut offer: impl FnMut(&Checked) -> Result<Offer> + Send) -> Result<Unlocked> {
        self.newest_of(|candidate| self.prove(candidate, || offer(&candidate.checked)))
    }

    fn newest_of(&self, mut prove: impl FnMut(&Candidate) -> Result<Unlocked>) -> Result<Unlocked> {
        let mut best: Option<Unlocked> = None;
        let mut failure = None;
        for candidate in &self.candidates {
            match prove(candidate) {
                Ok(proven) => {
                    let newer = best
                        .as_ref()
                        .is_none_or(|best| epoch(&best.candidate) < epoch(candidate));
                    if newer {
                        best = Some(proven);
                    }
                }
                // It may be the newest: that it cannot be told now does not make an older one the volume's.
                Err(error) if error.exit() == Exit::Temporary && best.is_none() => {
                    return Err(error);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let none = || failure.unwrap_or_else(|| Error::failure("there is no header to open"));
        best.ok_or_else(none)
    }

    /// The keyslot gives the volume key, and that key says whether the header is genuine. Nothing is mapped.
    ///
    /// While the keeper thinks about its offer, the header is made ready for it.
    fn prove(
        &self,
        candidate: &Candidate,
        offer: impl FnOnce() -> Result<Offer> + Send,
    ) -> Result<Unlocked> {
        let (offer, loaded) = join(offer, || {
            let header = HeaderFile::sealed(candidate)?;
            let luks = Luks::load(&header, self.device.path())?;
            Ok((header, luks))
        });
        let offer = offer?;
        let (header, mut luks) = loaded?;
        let passphrase = offer.encoding.of(&offer.secret);
        let volume_key = luks.volume_key(offer.keyslot, &passphrase)?;
        drop(luks);
        candidate.authenticate(&volume_key)?;
        Ok(Unlocked {
            candidate: candidate.clone(),
            header,
            offer,
            volume_key,
        })
    }

    fn keyed(self, source: Source, proven: Unlocked) -> Result<Keyed> {
        let Unlocked {
            candidate,
            header,
            offer,
            volume_key,
        } = proven;
        let checked = &candidate.checked;
        Ok(Keyed {
            device: self.device,
            header,
            salt: checked.nightlatch.as_ref().map(|token| token.salt),
            stamp: stamp(&candidate),
            key_id: volume_key_id(&volume_key, &checked.uuid)?,
            uuid: checked.uuid.clone(),
            needs_repair: candidate.needs_repair(),
            candidate,
            volume_key,
            secret: offer.secret,
            how: How::Unlocked,
            source,
            keyslot: offer.keyslot,
            next: None,
            rekeyed: None,
            changed: None,
        })
    }

    /// Opens the keyslot of the volume's secret with one that an operator has pushed.
    pub(crate) fn unlock_pushed(self, secret: &Secret) -> Result<Keyed> {
        let proven = self.newest(|checked| {
            Ok(Offer {
                secret: Secret::new(secret.expose().to_vec()),
                keyslot: checked.secret_keyslot(),
                encoding: Passphrase::Raw,
            })
        })?;
        self.keyed(Source::Recovery, proven)
    }

    /// What an operator is told of it before its key is known. Nothing of that is proven.
    pub(crate) fn waiting(&self, volume: &config::Volume) -> Result<WaitingVolume> {
        let (uuid, highest) = self.claim()?;
        let newest = self.candidates.iter().find(|it| epoch(it) == highest);
        let token = newest.and_then(|it| it.checked.nightlatch.as_ref());
        Ok(WaitingVolume {
            name: volume.name.to_string(),
            uuid,
            role: volume.role,
            key_id: token.map(|token| hex::encode(token.key_id)),
            epoch: highest,
            needs: Vec::new(),
            why: String::new(),
        })
    }

    /// Opens keyslot `keyslot` with a secret the caller has, its bytes being the passphrase.
    pub fn unlock_with(self, secret: &Secret, keyslot: u8) -> Result<Keyed> {
        let proven = self.newest(|_| {
            Ok(Offer {
                secret: Secret::new(secret.expose().to_vec()),
                keyslot,
                encoding: Passphrase::Raw,
            })
        })?;
        self.keyed(Source::Generate, proven)
    }
}

/// The stamp of its token.
pub(super) fn stamp(candidate: &Candidate) -> Option<Stamp> {
    let token = candidate.checked.nightlatch.as_ref();
    token.map(NightlatchToken::stamp)
}

fn epoch(candidate: &Candidate) -> Option<u64> {
    stamp(candidate).map(|stamp| stamp.epoch)
}

fn offer_of_tpm(
    checked: &Checked,
    policy: Policy,
    unseal: &mut impl FnMut(&Sealed) -> Result<Secret>,
) -> Result<Offer> {
    let token = checked.tpm.as_ref().ok_or_else(|| {
        Error::refused("the volume has no systemd-tpm2 token, so nothing of it is sealed")
    })?;
    require_policy(token, policy)?;
    let secret = unseal(&Sealed {
        private: token.private.clone(),
        public: token.public.clone(),
        policy_hash: token.policy_hash,
        key: token.key.clone(),
        values: token.values.clone(),
        srk: token.srk.clone(),
    })
    .doing("unsealing")?;
    Ok(Offer {
        secret,
        keyslot: token.keyslot,
        encoding: Passphrase::Base64,
    })
}

/// The policy is the configuration's; a token may not relax it (rule C13).
fn require_policy(token: &Tpm2Token, policy: Policy) -> Result<()> {
    let pcrs = PcrSet::of(&token.pcrs);
    if pcrs != policy.pcrs || token.bank != policy.bank {
        return Err(Error::refused(format_args!(
            "rule C13: the token is sealed to {} {pcrs}, the configuration says {} {}",
            token.bank, policy.bank, policy.pcrs
        )));
    }
    match (&token.key, policy.key) {
        (None, None) => Ok(()),
        (Some(key), Some(name)) if key.name() == name => Ok(()),
        (Some(key), _) => Err(Error::refused(format_args!(
            "rule C13: the token is sealed to what the key {key} signs, which is not the key of tpm.signed in the configuration"
        ))),
        (None, Some(_)) => Err(Error::refused(
            "rule C13: the token is sealed to no key, the configuration has tpm.signed",
        )),
    }
}
