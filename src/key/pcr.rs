// SPDX-License-Identifier: Apache-2.0
//! The key that an image's builder signs PCR values with, and its public half: RSA, since `systemd-cryptsetup` and most TPMs
//! take signatures of policies by nothing else.

use std::fmt;

use getrandom::SysRng;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPublicKey as _};
use rsa::pkcs1v15::{Signature, SigningKey, VerifyingKey};
use rsa::pkcs8::der::pem;
use rsa::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, LineEnding, SecretDocument,
};
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Verifier as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{BoxedUint, PrivateKey, PublicKey};
use sha2::{Digest as _, Sha256};

use super::Secret;
use crate::error::{Error, Result};

/// Labels of PEM (RFC 7468, sections 10 and 13; the second one is OpenSSL's).
const PKCS8: &str = "PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";
const SPKI: &str = "PUBLIC KEY";
/// The size that each TPM knows (PC Client Platform TPM Profile, section 4.6: RSA with 2048 bits is mandatory).
const BITS: u16 = 2048;
/// The exponent that each TPM has.
const EXPONENT: u32 = 65_537;

// Of `TPMT_PUBLIC` (TPM 2.0 Library, part 2, sections 6.3, 8.3 and 12.2).
const ALG_RSA: u16 = 0x0001;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
/// userWithAuth, decrypt and sign, as systemd sets them (src/shared/tpm2-util.c, `tpm2_tpm2b_public_from_openssl_pkey`): they
/// are part of the name that policies have.
const ATTRIBUTES: u32 = 0x0006_0040;

/// The key that PCR values are signed with. Wiped when it is dropped, as the crate does it, and not printed.
pub struct PcrKey {
    key: SigningKey<Sha256>,
    public: PcrPublicKey,
}

impl PcrKey {
    /// Takes a private key in PEM: PKCS #8 or PKCS #1, not encrypted.
    pub fn from_pem(text: &Secret) -> Result<Self> {
        let text = std::str::from_utf8(text.expose()).map_err(no_private_key)?;
        let (label, der) = SecretDocument::from_pem(text).map_err(no_private_key)?;
        let key = match label {
            PKCS8 => PrivateKey::from_pkcs8_der(der.as_bytes()).map_err(no_private_key)?,
            PKCS1 => PrivateKey::from_pkcs1_der(der.as_bytes()).map_err(no_private_key)?,
            other => return Err(no_private_key(format_args!("found {other}"))),
        };
        let public = PcrPublicKey::new(key.to_public_key())?;
        Ok(Self {
            key: SigningKey::new(key),
            public,
        })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> &PcrPublicKey {
        &self.public
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, section 8.2) over `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.key
            .try_sign_with_rng(&mut SysRng, message)
            .map(|signature| signature.to_vec())
            .map_err(|error| Error::failure(format_args!("RSA: {error}")))
    }
}

impl fmt::Debug for PcrKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PcrKey(..)")
    }
}

/// The public half of a [`PcrKey`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PcrPublicKey {
    key: PublicKey,
    fingerprint: [u8; 32],
    pem: String,
}

/// The name of a key in a TPM: algorithm ‖ digest of its public area (TPM 2.0 Library, part 1, section 16).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyName([u8; 34]);

impl KeyName {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PcrPublicKey {
    /// Takes a public key in PEM, as `openssl rsa -pubout` writes it. Zeros and line ends behind it do not count: a section
    /// of an image may end with them.
    pub fn from_pem(text: &[u8]) -> Result<Self> {
        let is_text = |byte: &u8| *byte != 0 && !byte.is_ascii_whitespace();
        let end = text.iter().rposition(is_text);
        let text = end.and_then(|end| text.get(..=end)).unwrap_or_default();
        let (label, der) = pem::decode_vec(text).map_err(no_public_key)?;
        if label != SPKI {
            return Err(no_public_key(format_args!("found {label}")));
        }
        Self::new(PublicKey::from_public_key_der(&der).map_err(no_public_key)?)
    }

    fn new(key: PublicKey) -> Result<Self> {
        let bits = key.n().bit_width_vartime();
        if bits != u32::from(BITS) {
            return Err(Error::config(format_args!(
                "expected an RSA key of {BITS} bits, which each TPM takes, found {bits}"
            )));
        }
        if *key.e() != BoxedUint::from(EXPONENT) {
            return Err(Error::config(format_args!(
                "expected an RSA key with the exponent {EXPONENT}, which is what TPMs have"
            )));
        }
        let der = key
            .to_pkcs1_der()
            .map_err(|error| Error::config(format_args!("RSA key: {error}")))?;
        let pem = key
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| Error::config(format_args!("RSA key: {error}")))?;
        Ok(Self {
            fingerprint: Sha256::digest(der.as_bytes()).into(),
            key,
            pem,
        })
    }

    /// The SHA-256 of its `RSAPublicKey` (RFC 8017, appendix A.1.1), by which signatures name their key.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Whether a certificate, in DER, is of this key: it has its modulus, which nothing else has.
    #[must_use]
    pub fn is_of_certificate(&self, certificate: &[u8]) -> bool {
        let modulus = self.key.n_bytes();
        certificate
            .windows(modulus.len())
            .any(|window| *window == *modulus)
    }

    /// The key in PEM, as [`PcrPublicKey::from_pem`] takes it and a token has it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The `TPMT_PUBLIC`. Each byte is in the name, so none is to be changed.
    #[must_use]
    pub fn public_area(&self) -> Vec<u8> {
        let modulus = self.key.n_bytes();
        let mut area = [ALG_RSA, ALG_SHA256].map(u16::to_be_bytes).concat();
        area.extend(ATTRIBUTES.to_be_bytes());
        // No policy; neither cipher nor scheme of its own.
        area.extend([0, ALG_NULL, ALG_NULL, BITS].map(u16::to_be_bytes).concat());
        // Written out, though zero would mean the same.
        area.extend(EXPONENT.to_be_bytes());
        area.extend((BITS / 8).to_be_bytes());
        area.extend(modulus.iter());
        area
    }

    /// Its name in every TPM.
    #[must_use]
    pub fn name(&self) -> KeyName {
        let digest = Sha256::digest(self.public_area());
        let bytes = ALG_SHA256.to_be_bytes().into_iter().chain(digest);
        let mut name = [0; 34];
        for (to, from) in name.iter_mut().zip(bytes) {
            *to = from;
        }
        KeyName(name)
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = VerifyingKey::<Sha256>::new(self.key.clone());
        Signature::try_from(signature).is_ok_and(|it| key.verify(message, &it).is_ok())
    }
}

/// By its fingerprint, as signatures name it.
impl fmt::Display for PcrPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.fingerprint))
    }
}

fn no_private_key(why: impl fmt::Display) -> Error {
    Error::config(format_args!(
        "expected an RSA private key in PEM, PKCS #8 or PKCS #1, that is not encrypted: {why}"
    ))
}

fn no_public_key(why: impl fmt::Display) -> Error {
    Error::config(format_args!(
        "expected an RSA public key in PEM, as `openssl rsa -pubout` writes it: {why}"
    ))
}

#[cfg(test)]
pub(crate) mod tests;
