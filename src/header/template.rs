// SPDX-License-Identifier: Apache-2.0
//! The template of each profile. A header is compared with it, value by value; there is no list of bad values.

use std::collections::BTreeSet;

use super::binary::JSON_LEN;
use super::keyslots;
use super::layout::{ENCRYPTION, HASHES, INTEGRITY, INTEGRITY_KEY_LEN, MIN_ITERATIONS, SECTOR_LEN};
use super::metadata::{Digest, Integrity};
use super::slot_pair::SlotPair;
use super::token::{NightlatchToken, Token, Tpm2Token};
use super::violation::{equal, one_of, unexpected, violation, within};
use super::{DATA_OFFSET, Form, Header, KEYSLOTS_OFFSET, MIN_DEVICE_LEN, constellation};
use crate::config::{Profile, Role, VolumeName};
use crate::error::Result;
use crate::sealed::values::SealedValues;

/// The label of every volume of our own profile. Its subsystem is the word of its role.
pub const LABEL: &str = "nightlatch";

/// What the caller knows about the volume.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// What it is for; `None` takes any role.
    pub role: Option<Role>,
    /// Its name; `None` takes any.
    pub volume: Option<VolumeName>,
    /// Length of the device in bytes; `None` where there is only a copy of the header area.
    pub device_len: Option<u64>,
}

/// A header that equals the template of its profile.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The profile it was compared with.
    pub profile: Profile,
    /// The volume's UUID, lower-case.
    pub uuid: String,
    /// Every keyslot. None but these may be tried.
    pub keyslots: Vec<u8>,
    /// Which pair of keyslots is used. Always there in our own profile.
    pub pair: Option<SlotPair>,
    /// The token of the secret sealed to the TPM.
    pub tpm: Option<Tpm2Token>,
    /// Our own token. Always there in our own profile.
    pub nightlatch: Option<NightlatchToken>,
    /// The keyslots that have the token of a recovery key.
    pub recovery: Vec<u8>,
    /// What the token of profile `constellation` says. Nothing follows from it: anybody could have written it.
    pub initialized: Option<bool>,
}

/// What the tokens say.
struct Tokens {
    tpm: Option<Tpm2Token>,
    nightlatch: Option<NightlatchToken>,
    recovery: Vec<u8>,
}

impl Checked {
    /// The keyslot of the volume's secret.
    #[must_use]
    pub fn secret_keyslot(&self) -> u8 {
        self.pair.unwrap_or(SlotPair::First).secret()
    }

    /// What the PCRs held when the secret was sealed, where its token tells it.
    #[must_use]
    pub fn values(&self) -> Option<&SealedValues> {
        self.tpm.as_ref().and_then(|token| token.values.as_ref())
    }

    /// The profile's word, which in our own says the form.
    #[must_use]
    pub fn profile_name(&self) -> &'static str {
        match &self.nightlatch {
            Some(token) => token.form.as_str(),
            None => self.profile.as_str(),
        }
    }
}

impl Header {
    /// Compares the header with the template of `profile`, which comes from the configuration.
    pub fn check(&self, profile: Profile, expect: &Expect) -> Result<Checked> {
        self.check_config()?;
        self.check_segment(expect)?;
        keyslots::check(self, profile)?;
        self.check_digest()?;
        let Tokens {
            tpm,
            nightlatch,
            recovery,
        } = self.check_tokens(profile)?;
        let initialized = match profile {
            Profile::Constellation => Some(constellation::check(self)?),
            Profile::Nightlatch1 | Profile::Luks2Strict => None,
        };
        if let Some(nightlatch) = &nightlatch {
            self.check_identity(nightlatch, expect)?;
        }
        Ok(Checked {
            profile,
            uuid: self.uuid.clone(),
            keyslots: self.metadata.keyslots.keys().copied().collect(),
            pair: match profile {
                Profile::Nightlatch1 => self.pair(),
                Profile::Luks2Strict | Profile::Constellation => None,
            },
            tpm,
            nightlatch,
            recovery,
            initialized,
        })
    }

    /// Rule B7. Names are constants in `nightlatch-1`; a stock volume may have any, they mean nothing.
    fn check_identity(&self, token: &NightlatchToken, expect: &Expect) -> Result<()> {
        equal("B7", "label", self.label.as_str(), LABEL)?;
        equal(
            "B7",
            "subsystem",
            self.subsystem.as_str(),
            token.role.as_str(),
        )?;
        if let Some(role) = expect.role {
            let field = "token nightlatch: role";
            equal("C13", field, token.role.as_str(), role.as_str())?;
        }
        if let Some(volume) = &expect.volume {
            let field = "token nightlatch: volume";
            equal("C13", field, token.volume.as_str(), volume.as_str())?;
        }
        Ok(())
    }

    /// Rule C9.
    fn check_config(&self) -> Result<()> {
        let metadata = &self.metadata;
        equal(
            "C9",
            "config.json_size",
            metadata.json_size,
            JSON_LEN as u64,
        )?;
        let keyslots_len = DATA_OFFSET.saturating_sub(KEYSLOTS_OFFSET as u64);
        equal(
            "C9",
            "config.keyslots_size",
            metadata.keyslots_size,
            keyslots_len,
        )
    }

    /// Rule C10.
    fn check_segment(&self, expect: &Expect) -> Result<()> {
        let segments = &self.metadata.segments;
        let ids: Vec<u8> = segments.keys().copied().collect();
        equal("C10", "segments", ids, vec![0])?;
        for segment in segments.values() {
            let encryption = segment.encryption.as_str();
            equal("C10", "segments.0.encryption", encryption, ENCRYPTION)?;
            equal("C10", "segments.0.offset", segment.offset, DATA_OFFSET)?;
            equal("C10", "segments.0.size", segment.size.as_str(), "dynamic")?;
            equal("C10", "segments.0.iv_tweak", segment.iv_tweak, 0)?;
            equal(
                "C10",
                "segments.0.sector_size",
                segment.sector_size,
                SECTOR_LEN,
            )?;
            match &segment.integrity {
                Some(integrity) => check_integrity(integrity)?,
                None => {
                    return Err(violation(
                        "C10",
                        "segments.0.integrity",
                        format_args!("expected {INTEGRITY:?}, found no integrity"),
                    ));
                }
            }
        }
        match expect.device_len {
            Some(len) if len < MIN_DEVICE_LEN => Err(unexpected(
                "C10",
                "device",
                format_args!("at least {MIN_DEVICE_LEN} bytes"),
                len,
            )),
            _ => Ok(()),
        }
    }

    /// Rule C12.
    fn check_digest(&self) -> Result<()> {
        let digests = &self.metadata.digests;
        let ids: Vec<u8> = digests.keys().copied().collect();
        equal("C12", "digests", ids, vec![0])?;
        let all: BTreeSet<u8> = self.metadata.keyslots.keys().copied().collect();
        for Digest {
            keyslots,
            segments,
            hash,
            iterations,
        } in digests.values()
        {
            equal("C12", "digests.0.keyslots", keyslots, &all)?;
            equal("C12", "digests.0.segments", segments, &BTreeSet::from([0]))?;
            one_of("C12", "digests.0.hash", hash.as_str(), HASHES)?;
            within(
                "C12",
                "digests.0.iterations",
                *iterations,
                &(MIN_ITERATIONS..=10_000_000),
            )?;
        }
        Ok(())
    }

    /// Rule C13.
    fn check_tokens(&self, profile: Profile) -> Result<Tokens> {
        let (mut tpm, mut nightlatch, mut recovery) = (None, None, Vec::new());
        for (id, token) in &self.metadata.tokens {
            let path = format!("tokens.{id}");
            let (keyslot, twice) = match token {
                Token::Tpm2(token) => (Some(token.keyslot), tpm.replace(token.clone()).is_some()),
                Token::Nightlatch(token) => (None, nightlatch.replace(token.clone()).is_some()),
                Token::Recovery { keyslot } => {
                    recovery.push(*keyslot);
                    (Some(*keyslot), false)
                }
                Token::Constellation { .. } if profile != Profile::Constellation => {
                    let only = "expected a token of this profile, found one of constellation";
                    return Err(violation("C13", path, only));
                }
                Token::Constellation { .. } => (None, false),
            };
            if twice {
                return Err(violation(
                    "C13",
                    path,
                    "expected no further token of this type, found one",
                ));
            }
            if let Some(keyslot) = keyslot
                && !self.metadata.keyslots.contains_key(&keyslot)
            {
                return Err(unexpected(
                    "C13",
                    path + ".keyslots",
                    "a keyslot there is",
                    keyslot,
                ));
            }
        }
        recovery.sort_unstable();
        match profile {
            Profile::Nightlatch1 => {
                self.check_recovery_tokens(&recovery)?;
                let there = "expected exactly one token \"nightlatch\", found none";
                nightlatch
                    .as_ref()
                    .ok_or_else(|| violation("C13", "tokens", there))?;
                let slot = self.pair().map(SlotPair::tpm);
                let slot = slot.filter(|id| self.metadata.keyslots.contains_key(id));
                let sealed = tpm.as_ref().map(|token| token.keyslot);
                equal("C13", "keyslot of token \"systemd-tpm2\"", sealed, slot)?;
                let has_values = tpm.as_ref().is_some_and(|token| token.values.is_some());
                if has_values && self.form() == Some(Form::First) {
                    let none = "expected none of our values in form nightlatch-1, found some";
                    return Err(violation("C13", "token \"systemd-tpm2\"", none));
                }
            }
            Profile::Luks2Strict if nightlatch.is_some() => {
                let none = "expected no token \"nightlatch\" in a stock volume, found one";
                return Err(violation("C13", "tokens", none));
            }
            Profile::Luks2Strict | Profile::Constellation => {}
        }
        Ok(Tokens {
            tpm,
            nightlatch,
            recovery,
        })
    }
}

fn check_integrity(integrity: &Integrity) -> Result<()> {
    let path = |key: &str| format!("segments.0.integrity.{key}");
    equal("C10", path("type"), integrity.algorithm.as_str(), INTEGRITY)?;
    let encryption = integrity.journal_encryption.as_str();
    equal("C10", path("journal_encryption"), encryption, "none")?;
    let journal = integrity.journal_mac.as_str();
    equal("C10", path("journal_integrity"), journal, "none")?;
    // libcryptsetup 2.8 may write it; older ones do not.
    match integrity.key_size {
        Some(len) => equal("C10", path("key_size"), len, INTEGRITY_KEY_LEN),
        None => Ok(()),
    }
}
