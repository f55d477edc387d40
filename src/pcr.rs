// SPDX-License-Identifier: Apache-2.0
//! Platform configuration registers: their numbers, sets of them, and the banks they exist in.
//!
//! **Never:** a PCR that can be reset: 16 to 23 cannot be named.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// How many PCRs a bank has (TCG PC Client Platform TPM Profile, section 4.6.2).
pub const PCR_COUNT: usize = 24;

/// A PCR that lasts until the next reset: 0 to 15.
///
/// PCRs 16 to 23 can be reset or are bound to localities (TCG PC Client Platform TPM Profile, section 4.6.2), so nothing
/// that has to last may rest on them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Pcr(u8);

impl Pcr {
    /// The firmware itself (TCG PC Client Platform Firmware Profile, section 3.3.4).
    pub const FIRMWARE: Self = Self(0);
    /// Drivers that the firmware loads from outside of itself, such as option ROMs (TCG PC Client Platform Firmware Profile,
    /// section 3.3.4).
    pub const DRIVERS: Self = Self(2);
    /// The programs that the firmware starts (same section).
    pub const BOOT_PROGRAMS: Self = Self(4);
    /// The Secure Boot policy (TCG PC Client Platform Firmware Profile, section 3.3.4).
    pub const SECURE_BOOT: Self = Self(7);
    /// Files that the kernel and loaders were handed, such as an initrd from outside of the image (same registry as the next).
    pub const LOADED_FILES: Self = Self(9);
    /// The unified kernel image and the boot phases (UAPI group, Linux TPM PCR registry).
    pub const KERNEL_IMAGE: Self = Self(11);
    /// What systemd-stub was handed beside the image: command line, credentials (same registry).
    pub const KERNEL_CONFIG: Self = Self(12);
    /// System extensions that systemd-stub was handed beside the image (same registry).
    pub const SYSTEM_EXTENSIONS: Self = Self(13);
    /// The identity of the system (same registry); the register Constellation keeps the clusterID in.
    pub const SYSTEM_IDENTITY: Self = Self(15);

    /// The highest number.
    const LAST: u8 = 15;

    /// The register's number.
    #[must_use]
    pub fn index(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Pcr {
    type Error = String;

    fn try_from(index: u8) -> Result<Self, String> {
        if index <= Self::LAST {
            Ok(Self(index))
        } else {
            Err(format!(
                "expected a PCR from 0 to {}, found {index}",
                Self::LAST
            ))
        }
    }
}

impl From<Pcr> for u8 {
    fn from(pcr: Pcr) -> Self {
        pcr.0
    }
}

impl fmt::Display for Pcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of PCRs, in ascending order, each once. Displays as `7+11+12`, which `systemd-cryptenroll` takes as well.
///
/// In a configuration and in a token it is a list of numbers, of which order and repetition mean nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "Vec<Pcr>", into = "Vec<Pcr>")]
pub struct PcrSet(u16);

impl PcrSet {
    /// Those that say how a machine was started: the firmware's, and those of what is added to an image.
    pub const STARTED: Self = Self(0b0011_0000_1111_1111);

    /// The set of these PCRs.
    #[must_use]
    pub const fn of(pcrs: &[Pcr]) -> Self {
        let mut bits = 0;
        let mut rest = pcrs;
        while let Some((pcr, after)) = rest.split_first() {
            bits |= 1 << pcr.0;
            rest = after;
        }
        Self(bits)
    }

    /// The PCRs in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Pcr> {
        (0..=Pcr::LAST)
            .map(Pcr)
            .filter(move |pcr| self.contains(*pcr))
    }

    /// Whether `pcr` is one of them.
    #[must_use]
    pub fn contains(self, pcr: Pcr) -> bool {
        self.0 & (1 << pcr.0) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One bit for each PCR, the lowest for PCR 0, as a TPM selects them.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl From<Vec<Pcr>> for PcrSet {
    fn from(pcrs: Vec<Pcr>) -> Self {
        Self::of(&pcrs)
    }
}

impl From<PcrSet> for Vec<Pcr> {
    fn from(pcrs: PcrSet) -> Self {
        pcrs.iter().collect()
    }
}

impl fmt::Display for PcrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, pcr) in self.iter().enumerate() {
            let separator = if place == 0 { "" } else { "+" };
            write!(f, "{separator}{pcr}")?;
        }
        Ok(())
    }
}

/// Hash algorithms a PCR bank may use and this program can compute.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bank {
    /// SHA-1, 20 bytes. Extended so that no bank is left open, never relied on.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Bank {
    /// The name systemd and tpm2-tools use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Its `TPM_ALG_ID` (TCG Algorithm Registry).
    #[must_use]
    pub fn algorithm_id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The value of a PCR of this bank that nothing was measured into.
    #[must_use]
    pub fn zero(self) -> Vec<u8> {
        vec![0; self.hash(&[]).len()]
    }

    /// The digest of `data`.
    #[must_use]
    pub fn hash(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha384 => Sha384::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    /// HMAC of `data` under `key`. A key of any length is valid (RFC 2104), so this cannot fail.
    #[must_use]
    pub fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, data),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, data),
            Self::Sha384 => mac::<Hmac<Sha384>>(key, data),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, data),
        }
    }

    /// The value of a PCR of this bank that held `before` and was extended with `digest`.
    #[must_use]
    pub fn extended(self, before: &[u8], digest: &[u8]) -> Vec<u8> {
        self.hash(&[before, digest].concat())
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
    M::new_from_slice(key)
        .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// One digest for each bank, in the TPM's order of banks.
pub type Digests = Vec<(Bank, Vec<u8>)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_in_order_and_has_each_pcr_once() {
        let set: PcrSet = serde_json::from_str("[12,7,11,7]").unwrap();
        assert_eq!(set, PcrSet::of(&[Pcr(7), Pcr(11), Pcr(12)]));
        assert_eq!(set.to_string(), "7+11+12");
        assert_eq!(serde_json::to_string(&set).unwrap(), "[7,11,12]");
        assert!(set.contains(Pcr(11)) && !set.contains(Pcr(10)));
        assert!(!set.is_empty() && PcrSet::default().is_empty());
        let ends = PcrSet::of(&[Pcr(15), Pcr(0)]);
        assert_eq!((ends.bits(), ends.to_string()), (0x8001, "0+15".into()));
    }

    #[test]
    fn a_set_takes_no_pcr_that_a_program_can_reset() {
        serde_json::from_str::<PcrSet>("[15]").unwrap();
        let error = serde_json::from_str::<PcrSet>("[16]").unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected a PCR from 0 to 15, found 16 at line 1 column 4"
        );
    }
}
