// SPDX-License-Identifier: Apache-2.0
//! Platform configuration registers: their numbers, sets of them, and the banks they exist in.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A PCR that lasts until the next reset: 0 to 15.
///
/// PCRs 16 to 23 can be reset or are bound to localities (TCG PC Client Platform TPM Profile, section 4.6.2), so nothing
/// that has to last may rest on them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Pcr(u8);

impl Pcr {
    /// The Secure Boot policy (TCG PC Client Platform Firmware Profile, section 3.3.4).
    pub const SECURE_BOOT: Self = Self(7);
    /// The unified kernel image and the boot phases (UAPI group, Linux TPM PCR registry).
    pub const KERNEL_IMAGE: Self = Self(11);
    /// What systemd-stub was handed beside the image: command line, credentials (same registry).
    pub const KERNEL_CONFIG: Self = Self(12);
    /// The identity of the system (same registry); the register Constellation keeps the clusterID in.
    pub const SYSTEM_IDENTITY: Self = Self(15);

    /// The register's number.
    #[must_use]
    pub fn index(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Pcr {
    type Error = String;

    fn try_from(index: u8) -> Result<Self, String> {
        if index <= 15 {
            Ok(Self(index))
        } else {
            Err(format!("expected a PCR from 0 to 15, found {index}"))
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
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
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
        f.write_str(self.name())
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
    M::new_from_slice(key)
        .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// One digest for each bank, in the TPM's order of banks.
pub type Digests = Vec<(Bank, Vec<u8>)>;
