// SPDX-License-Identifier: Apache-2.0
//! Signatures of what PCR 11 holds in an image's initrd, made by who built the image, and the key that they are by.
//!
//! What is sealed to a key opens to each image that carries such a signature (TPM 2.0 part 3, `TPM2_PolicyAuthorize`). The
//! signatures come with the image, in the file that systemd-stub lays into the initrd and `systemd-measure sign` writes
//! (systemd-stub(7), systemd-measure(1)); the TPM checks them, so they need no trust. The key comes from the measured
//! configuration.
//!
//! Pure functions of bytes. A key that comes with the signatures is never taken.

use std::fmt;

use base64ct::{Base64, Encoding};
use rsa::PublicKey;
use rsa::pkcs1::EncodeRsaPublicKey as _;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pcr::{Bank, Pcr};

/// Where systemd-stub lays the signatures, below the root of the initrd (systemd-stub(7)).
pub const SIGNATURES_PATH: &str = ".extra/tpm2-pcr-signature.json";
/// The longest such file in bytes. A signature has some 600, and an image has a few.
pub const SIGNATURES_LEN_MAX: u64 = 1 << 20;
/// The PCR whose values are signed: that of the image's own parts.
pub const SIGNED_PCR: Pcr = Pcr::KERNEL_IMAGE;

/// The size that each TPM knows, in bytes (PC Client Platform TPM Profile, section 4.6: RSA with 2048 bits is mandatory).
const MODULUS_LEN: usize = 256;
/// The only exponent that each TPM knows, 65537 (TPM 2.0 part 2, section 12.2.3.5).
const EXPONENT: [u8; 3] = [1, 0, 1];

// Of `TPMT_PUBLIC` (TPM 2.0 part 2, sections 6.3, 8.3 and 12.2).
const ALG_RSA: u16 = 0x0001;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
/// userWithAuth, decrypt and sign, as systemd sets them (src/shared/tpm2-util.c, `tpm2_tpm2b_public_from_openssl_pkey`): they
/// are part of the name that policies have.
const ATTRIBUTES: u32 = 0x0006_0040;
const RSA_BITS: u16 = 2048;

/// The name of a key in a TPM: algorithm ‖ digest of its public area (TPM 2.0 part 1, section 16).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyName([u8; 34]);

impl KeyName {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The public half of the key that signs values of PCR 11: RSA with 2048 bits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyKey {
    modulus: Vec<u8>,
    fingerprint: [u8; 32],
    pem: String,
}

impl PolicyKey {
    /// Takes a key in PEM (`BEGIN PUBLIC KEY`), as `openssl rsa -pubout` writes it.
    pub fn parse(pem: &[u8]) -> Result<Self> {
        let wrong = || {
            Error::config(
                "expected an RSA key with 2048 bits and exponent 65537 in PEM, \
                 as \"openssl genrsa -out pcr.key 2048\" makes it and \"openssl rsa -in pcr.key -pubout\" prints it",
            )
        };
        let pem = std::str::from_utf8(pem).map_err(|_not_text| wrong())?;
        let key = PublicKey::from_public_key_pem(pem.trim()).map_err(|_no_key| wrong())?;
        let modulus = key.n_bytes().to_vec();
        let has_all_bits = modulus.first().is_some_and(|first| first & 0x80 != 0);
        if modulus.len() != MODULUS_LEN || !has_all_bits {
            return Err(wrong());
        }
        if key.e_bytes().as_ref() != EXPONENT {
            return Err(wrong());
        }
        let der = key.to_pkcs1_der().map_err(Error::failure)?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(&Bank::Sha256.hash(der.as_bytes()));
        Ok(Self {
            modulus,
            fingerprint,
            pem: pem.to_owned(),
        })
    }

    /// The text that it was parsed from.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What signatures name it by: SHA-256 of its `RSAPublicKey` in DER (RFC 8017, section A.1.1).
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The `TPMT_PUBLIC`. Each byte is in the name, so none is to be changed.
    #[must_use]
    pub fn public_area(&self) -> Vec<u8> {
        let mut area = [ALG_RSA, ALG_SHA256].map(u16::to_be_bytes).concat();
        area.extend(ATTRIBUTES.to_be_bytes());
        // No policy; neither cipher nor scheme of its own.
        area.extend(
            [0, ALG_NULL, ALG_NULL, RSA_BITS]
                .map(u16::to_be_bytes)
                .concat(),
        );
        // Written out, though zero would mean the same.
        area.push(0);
        area.extend(EXPONENT);
        area.extend([1, 0]);
        area.extend(&self.modulus);
        area
    }

    /// Its name in every TPM.
    #[must_use]
    pub fn name(&self) -> KeyName {
        let digest = Bank::Sha256.hash(&self.public_area());
        let mut name = [0; 34];
        for (to, from) in name
            .iter_mut()
            .zip(ALG_SHA256.to_be_bytes().into_iter().chain(digest))
        {
            *to = from;
        }
        KeyName(name)
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.fingerprint))
    }
}

/// The signatures that came with an image, of one bank.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PcrSignatures(Vec<Signed>);

/// One of them, of a value of PCR 11 alone. Others mean nothing here.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Signed {
    fingerprint: [u8; 32],
    policy: [u8; 32],
    signature: Vec<u8>,
}

/// The file: for each bank the signatures. What else there is in it belongs to others.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    sha256: Vec<Entry>,
    #[serde(default)]
    sha384: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    pcrs: Vec<u32>,
    pkfp: String,
    pol: String,
    sig: String,
    /// What the signature is for, where it is not for all there is (systemd 262, `--policyref`).
    #[serde(rename = "ref")]
    reference: Option<String>,
}

impl PcrSignatures {
    /// Takes the file apart.
    pub fn parse(bytes: &[u8], bank: Bank) -> Result<Self> {
        let file: File = serde_json::from_slice(bytes).map_err(|error| {
            Error::refused(format_args!("expected signatures of PCR values: {error}"))
        })?;
        let entries = match bank {
            Bank::Sha256 => file.sha256,
            Bank::Sha384 => file.sha384,
            Bank::Sha1 | Bank::Sha512 => Vec::new(),
        };
        Ok(Self(entries.iter().filter_map(Signed::of).collect()))
    }

    /// The signature by `key` of the policy with the digest `policy`.
    ///
    /// Without one the refusal says which of the two is another.
    pub fn find(&self, key: &PolicyKey, policy: &[u8; 32]) -> Result<&[u8]> {
        let mut by_key = self.0.iter().filter(|it| it.fingerprint == key.fingerprint);
        let Some(first) = by_key.next() else {
            return Err(Error::refused(format_args!(
                "the image carries no signature of PCR {SIGNED_PCR} by the key of the configuration, {key}: \
                 sign it with \"nightlatchctl policy sign\" and that key before it gets its signature for Secure Boot"
            )));
        };
        std::iter::once(first)
            .chain(by_key)
            .find(|it| it.policy == *policy)
            .map(|it| it.signature.as_slice())
            .ok_or_else(|| {
                Error::refused(format_args!(
                    "the signatures by the key of the configuration are of other values of PCR {SIGNED_PCR} than this boot's: \
                     the image was changed after \"nightlatchctl policy sign\", or something was measured beside it"
                ))
            })
    }
}

impl Signed {
    fn of(entry: &Entry) -> Option<Self> {
        let digest = |text: &str| hex::decode(text).ok()?.try_into().ok();
        let is_meant = entry.reference.is_none() && entry.pcrs == [u32::from(SIGNED_PCR.index())];
        Some(Self {
            fingerprint: digest(&entry.pkfp)?,
            policy: digest(&entry.pol)?,
            signature: Base64::decode_vec(&entry.sig).ok()?,
        })
        .filter(|signed| is_meant && signed.signature.len() == MODULUS_LEN)
    }
}

#[cfg(test)]
mod tests;
