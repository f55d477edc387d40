// SPDX-License-Identifier: Apache-2.0
//! The template of each profile. A header is compared with it, value by value; there is no list of bad values.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::binary::JSON_LEN;
use super::broken::{broken, equal, unexpected};
use super::metadata::{Digest, Integrity, Keyslot, KeyslotKdf};
use super::token::{NightlatchToken, Token, Tpm2Token};
use super::{AREA_LEN, DATA_OFFSET, Header, KEYSLOTS_OFFSET, MIN_DEVICE_LEN};
use crate::config::{Profile, Role};
use crate::error::Result;

/// The label of every volume of profile `nightlatch-1`. Its subsystem is the word of its role.
pub const LABEL: &str = "nightlatch";

/// Encryption of segments and of keyslot areas.
const ENCRYPTION: &str = "aes-xts-plain64";
/// Bytes of the key of [`ENCRYPTION`] (AES-256-XTS) and of [`INTEGRITY`], which make the volume key together.
const ENCRYPTION_KEY_LEN: u64 = 64;
const INTEGRITY_KEY_LEN: u64 = 32;
const VOLUME_KEY_LEN: u64 = ENCRYPTION_KEY_LEN + INTEGRITY_KEY_LEN;
const INTEGRITY: &str = "hmac(sha256)";
const SECTOR_LEN: u64 = 4096;
/// Stripes of the anti-forensic splitter (LUKS1 specification, section 5.5).
const AF_STRIPES: u64 = 4000;
/// Bytes of a keyslot's area: volume key times stripes, rounded up to 4 KiB (`get_area_size` in libcryptsetup).
const KEYSLOT_AREA_LEN: u64 = (VOLUME_KEY_LEN * AF_STRIPES).next_multiple_of(4096);
/// Iterations for a passphrase that is uniform: the least libcryptsetup takes.
const MIN_ITERATIONS: u64 = 1000;
/// The keyslot of the TPM's secret in profile `nightlatch-1`.
const TPM_KEYSLOT: u8 = 1;

/// What the caller knows about the volume.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect {
    /// What it is for; `None` takes any role.
    pub role: Option<Role>,
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
    /// The token of the secret sealed to the TPM.
    pub tpm: Option<Tpm2Token>,
    /// Our own token. Always there in profile `nightlatch-1`.
    pub nightlatch: Option<NightlatchToken>,
}

impl Header {
    /// Compares the header with the template of `profile`, which comes from the configuration.
    pub fn check(&self, profile: Profile, expect: &Expect) -> Result<Checked> {
        self.check_config()?;
        self.check_segment(expect)?;
        self.check_keyslots(profile)?;
        self.check_digest()?;
        let (tpm, nightlatch) = self.check_tokens(profile)?;
        if let Some(nightlatch) = &nightlatch {
            self.check_identity(nightlatch, expect)?;
        }
        Ok(Checked {
            profile,
            uuid: self.uuid.clone(),
            keyslots: self.metadata.keyslots.keys().copied().collect(),
            tpm,
            nightlatch,
        })
    }

    /// Rule B7. Names are constants in `nightlatch-1`; a stock volume may have any, they mean nothing.
    fn check_identity(&self, token: &NightlatchToken, expect: &Expect) -> Result<()> {
        equal("B7", "label", self.label.as_str(), LABEL)?;
        equal(
            "B7",
            "subsystem",
            self.subsystem.as_str(),
            token.role.word(),
        )?;
        match expect.role {
            Some(role) => equal(
                "C13",
                "token nightlatch: role",
                token.role.word(),
                role.word(),
            ),
            None => Ok(()),
        }
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
                    return Err(broken(
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

    /// Rule C11.
    fn check_keyslots(&self, profile: Profile) -> Result<()> {
        let slots = &self.metadata.keyslots;
        let ids: Vec<u8> = slots.keys().copied().collect();
        let allowed = match profile {
            Profile::Nightlatch1 => matches!(ids.as_slice(), [0] | [0, TPM_KEYSLOT]),
            Profile::Luks2Strict => (1..=8).contains(&ids.len()),
        };
        if !allowed {
            let expected = match profile {
                Profile::Nightlatch1 => "[0] or [0, 1]",
                Profile::Luks2Strict => "1 to 8 keyslots",
            };
            return Err(unexpected("C11", "keyslots", expected, ids));
        }
        for (id, slot) in slots {
            check_slot(*id, slot)?;
            match (profile, *id) {
                (Profile::Nightlatch1, 0) => check_kdf(*id, slot, &OUR_COST)?,
                (Profile::Nightlatch1, _) => check_kdf(*id, slot, &TPM_COST)?,
                (Profile::Luks2Strict, _) => check_kdf(*id, slot, &STRICT_COST)?,
            }
        }
        self.check_areas(profile)
    }

    /// Rule C11: no two keyslots share a byte, and in our profile no byte is left over to hide something in.
    fn check_areas(&self, profile: Profile) -> Result<()> {
        let mut areas: Vec<(u64, u8)> = self
            .metadata
            .keyslots
            .iter()
            .map(|(id, slot)| (slot.area_offset, *id))
            .collect();
        areas.sort_unstable();
        let next = areas.iter().skip(1);
        let overlap = areas
            .iter()
            .zip(next)
            .find(|(this, next)| this.0.saturating_add(KEYSLOT_AREA_LEN) > next.0);
        if let Some((this, next)) = overlap {
            return Err(broken(
                "C11",
                format_args!("keyslots.{}.area.offset", next.1),
                format_args!(
                    "expected an area of its own, found it inside that of keyslot {}",
                    this.1
                ),
            ));
        }
        match (profile, self.stray) {
            (Profile::Nightlatch1, Some(at)) => Err(broken(
                "C11",
                "keyslots area",
                format_args!("expected zeros outside the keyslots, found something at byte {at}"),
            )),
            (Profile::Nightlatch1, None) | (Profile::Luks2Strict, _) => Ok(()),
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
            equal("C12", "digests.0.hash", hash.as_str(), "sha256")?;
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
    fn check_tokens(
        &self,
        profile: Profile,
    ) -> Result<(Option<Tpm2Token>, Option<NightlatchToken>)> {
        let (mut tpm, mut nightlatch) = (None, None);
        for (id, token) in &self.metadata.tokens {
            let path = format!("tokens.{id}");
            let (keyslot, twice) = match token {
                Token::Tpm2(token) => (Some(token.keyslot), tpm.replace(token.clone()).is_some()),
                Token::Nightlatch(token) => (None, nightlatch.replace(token.clone()).is_some()),
                Token::Recovery { keyslot } => (Some(*keyslot), profile == Profile::Nightlatch1),
            };
            if twice {
                return Err(broken(
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
        match profile {
            Profile::Nightlatch1 => {
                let there = "expected exactly one token \"nightlatch\", found none";
                nightlatch
                    .as_ref()
                    .ok_or_else(|| broken("C13", "tokens", there))?;
                let slot = self
                    .metadata
                    .keyslots
                    .keys()
                    .copied()
                    .find(|id| *id == TPM_KEYSLOT);
                let sealed = tpm.as_ref().map(|token| token.keyslot);
                equal("C13", "keyslot of token \"systemd-tpm2\"", sealed, slot)?;
            }
            Profile::Luks2Strict if nightlatch.is_some() => {
                let none = "expected no token \"nightlatch\" in a stock volume, found one";
                return Err(broken("C13", "tokens", none));
            }
            Profile::Luks2Strict => {}
        }
        Ok((tpm, nightlatch))
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

/// Everything about a keyslot but its KDF.
fn check_slot(id: u8, slot: &Keyslot) -> Result<()> {
    let path = |key: &str| format!("keyslots.{id}.{key}");
    // Exactly: the digest proves only as many bytes as this says, so a 1-byte key would open with almost any passphrase.
    equal("C11", path("key_size"), slot.key_size, VOLUME_KEY_LEN)?;
    equal(
        "C11",
        path("area.encryption"),
        slot.area_encryption.as_str(),
        ENCRYPTION,
    )?;
    equal(
        "C11",
        path("area.key_size"),
        slot.area_key_size,
        ENCRYPTION_KEY_LEN,
    )?;
    equal("C11", path("area.size"), slot.area_size, KEYSLOT_AREA_LEN)?;
    let last = (AREA_LEN as u64).saturating_sub(KEYSLOT_AREA_LEN);
    within(
        "C11",
        path("area.offset"),
        slot.area_offset,
        &(KEYSLOTS_OFFSET as u64..=last),
    )?;
    if !slot.area_offset.is_multiple_of(4096) {
        let aligned = "a multiple of 4096";
        return Err(unexpected(
            "C11",
            path("area.offset"),
            aligned,
            slot.area_offset,
        ));
    }
    equal("C11", path("af.stripes"), slot.af_stripes, AF_STRIPES)?;
    match slot.priority {
        Some(priority) => equal("C11", path("priority"), priority, 1),
        None => Ok(()),
    }
}

/// Bounds of what stretching a passphrase may cost: not less than it needs, not so much that the host can stop us.
struct Cost {
    /// Kinds of Argon2, passes, memory in KiB, lanes.
    argon2: Option<Argon2Cost>,
    pbkdf2_hashes: &'static [&'static str],
    pbkdf2_iterations: RangeInclusive<u64>,
}

struct Argon2Cost {
    kinds: &'static [&'static str],
    time: RangeInclusive<u64>,
    memory_kib: RangeInclusive<u64>,
    cpus: RangeInclusive<u64>,
}

/// What provisioning asks for. libcryptsetup cuts the lanes to the CPUs that are online.
const OUR_COST: Cost = Cost {
    argon2: Some(Argon2Cost {
        kinds: &["argon2id"],
        time: 4..=4,
        memory_kib: 65_536..=65_536,
        cpus: 1..=4,
    }),
    ..TPM_COST
};

/// What `systemd-cryptenroll` sets for a secret of 256 random bits.
const TPM_COST: Cost = Cost {
    argon2: None,
    pbkdf2_hashes: &["sha512"],
    pbkdf2_iterations: MIN_ITERATIONS..=MIN_ITERATIONS,
};

/// Whatever `cryptsetup luksFormat` chooses after its benchmark, up to 1 GiB. It makes no Argon2 of less than 4 passes.
const STRICT_COST: Cost = Cost {
    argon2: Some(Argon2Cost {
        kinds: &["argon2id", "argon2i"],
        time: 4..=100,
        memory_kib: 32..=1_048_576,
        cpus: 1..=8,
    }),
    pbkdf2_hashes: &["sha256", "sha512"],
    pbkdf2_iterations: MIN_ITERATIONS..=10_000_000,
};

fn check_kdf(id: u8, slot: &Keyslot, cost: &Cost) -> Result<()> {
    let path = |key: &str| format!("keyslots.{id}.{key}");
    match (&slot.kdf, &cost.argon2) {
        (
            KeyslotKdf::Argon2 {
                kind,
                time,
                memory_kib,
                cpus,
            },
            Some(cost),
        ) => {
            one_of(&path("kdf.type"), kind, cost.kinds)?;
            within("C11", path("kdf.time"), *time, &cost.time)?;
            within("C11", path("kdf.memory"), *memory_kib, &cost.memory_kib)?;
            within("C11", path("kdf.cpus"), *cpus, &cost.cpus)?;
            one_of(&path("af.hash"), &slot.af_hash, &["sha256"])
        }
        (KeyslotKdf::Argon2 { kind, .. }, None) => one_of(&path("kdf.type"), kind, &["pbkdf2"]),
        (KeyslotKdf::Pbkdf2 { hash, iterations }, _) => {
            one_of(&path("kdf.hash"), hash, cost.pbkdf2_hashes)?;
            within(
                "C11",
                path("kdf.iterations"),
                *iterations,
                &cost.pbkdf2_iterations,
            )?;
            // libcryptsetup takes the KDF's hash for the splitter too; the specification's default is sha256.
            one_of(&path("af.hash"), &slot.af_hash, &["sha256", hash])
        }
    }
}

fn one_of(path: &str, found: &str, expected: &[&str]) -> Result<()> {
    if expected.contains(&found) {
        return Ok(());
    }
    let expected = match expected {
        [only] => format!("{only:?}"),
        several => format!("one of {several:?}"),
    };
    Err(unexpected("C11", path, expected, found))
}

fn within(
    rule: &str,
    field: impl std::fmt::Display,
    found: u64,
    bounds: &RangeInclusive<u64>,
) -> Result<()> {
    let (least, most) = (bounds.start(), bounds.end());
    if bounds.contains(&found) {
        return Ok(());
    }
    let expected = if least == most {
        least.to_string()
    } else {
        format!("{least} to {most}")
    };
    Err(unexpected(rule, field, expected, found))
}
