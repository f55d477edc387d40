// SPDX-License-Identifier: Apache-2.0
//! The two keys evidence rests on: the attestation key (AK) that signs, and the endorsement key (EK) that vouches for its TPM.
//!
//! **Never:** a private key, or a public one with attributes that were not compared with its template.

mod public;
mod signature;
mod template;

use std::fmt;

use p256::pkcs8::EncodePublicKey as _;
use p256::pkcs8::der::pem;
use sha2::{Digest as _, Sha256};

use self::public::{Area, Material, Scheme, attribute, has};
use self::signature::Signature;
use super::registers::algorithm;
use super::{Check, Refusal};
use crate::pcr::Bank;

/// What starts a public key in PEM (RFC 7468, section 13).
const PEM: &[u8] = b"-----BEGIN PUBLIC KEY-----";
/// What starts a public key in DER: a sequence.
const SEQUENCE: u8 = 0x30;

/// The name of an object: its name algorithm and the digest of its public area (TPM 2.0 part 1, section 16). Only
/// SHA-256 names are used here.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name([u8; 34]);

impl Name {
    /// The name of a public area whose name algorithm is SHA-256.
    fn of(public: &[u8]) -> Self {
        let mut name = [0; 34];
        let (start, digest) = name.split_at_mut(2);
        start.copy_from_slice(&algorithm(Bank::Sha256).to_be_bytes());
        digest.copy_from_slice(&Sha256::digest(public));
        Self(name)
    }

    /// The name as it is marshalled.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The public half of a key, of one of the two kinds there are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PublicKey {
    /// RSA with 2048 bits and exponent 65537.
    Rsa(rsa::PublicKey),
    /// A point on NIST P-256.
    Ecc(p256::PublicKey),
}

impl PublicKey {
    /// The key as DER of a `SubjectPublicKeyInfo`.
    fn spki_der(&self) -> Result<Vec<u8>, Refusal> {
        let der = match self {
            Self::Rsa(key) => key.to_public_key_der(),
            Self::Ecc(key) => key.to_public_key_der(),
        };
        der.map(p256::pkcs8::Document::into_vec)
            .map_err(|error| Refusal::new(Check::Encoding, format_args!("key: {error}")))
    }
}

/// An attestation key whose public area says that it signs what its TPM made and nothing else.
///
/// Who made the public area is another question: credential activation answers it, or a key known before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ak {
    key: PublicKey,
    name: Name,
    spki: Vec<u8>,
}

impl Ak {
    /// Takes a `TPMT_PUBLIC` (part 2, section 12.2.4): ECDSA on P-256 or RSASSA with 2048 bits, both with SHA-256.
    ///
    /// Fails [`Check::Encoding`], [`Check::AkAttributes`] or [`Check::AkScheme`].
    pub fn parse(public: &[u8]) -> Result<Self, Refusal> {
        let area = Area::parse(public, "attestation key")?;
        let wanted = attribute::FIXED_TPM
            | attribute::FIXED_PARENT
            | attribute::SENSITIVE_DATA_ORIGIN
            | attribute::RESTRICTED
            | attribute::SIGN;
        if !has(area.attributes, wanted) || area.attributes & attribute::DECRYPT != 0 {
            return Err(Refusal::new(
                Check::AkAttributes,
                format_args!(
                    "expected a restricted signing key fixed to its TPM, found attributes {:#010x}",
                    area.attributes
                ),
            ));
        }
        let signs = matches!(
            (&area.material, area.scheme),
            (Material::Rsa(_), Scheme::Rsassa(hash)) | (Material::Ecc(_), Scheme::Ecdsa(hash))
                if hash == algorithm(Bank::Sha256)
        );
        if !signs || area.symmetric.is_some() {
            return Err(Refusal::new(
                Check::AkScheme,
                "expected ECDSA or RSASSA with SHA-256",
            ));
        }
        let key = area.key(Check::AkScheme)?;
        Ok(Self {
            spki: key.spki_der()?,
            name: Name::of(public),
            key,
        })
    }

    /// The key's name, which a credential is bound to.
    #[must_use]
    pub fn name(&self) -> Name {
        self.name
    }

    /// The key as DER of a `SubjectPublicKeyInfo`: `ak_public` of the KBS protocol, before base64.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The same as PEM.
    pub fn spki_pem(&self) -> Result<String, Refusal> {
        pem::encode_string("PUBLIC KEY", pem::LineEnding::LF, &self.spki)
            .map_err(|error| Refusal::new(Check::Encoding, format_args!("key: {error}")))
    }

    /// Checks a `TPMT_SIGNATURE` (part 2, section 11.3.4) over `message`.
    ///
    /// Fails [`Check::Encoding`] or [`Check::Signature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        if Signature::parse(signature)?.is_of(&self.key, message) {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Signature,
            "the signature over the statement is not that of the attestation key",
        ))
    }
}

/// A public key that somebody kept, as DER of a `SubjectPublicKeyInfo`: it may be PEM, that DER, or an attestation key's
/// `TPMT_PUBLIC`, with the length a `TPM2B_PUBLIC` starts with or without.
///
/// Fails [`Check::Encoding`], or as [`Ak::parse`] does.
pub fn known(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    if bytes.starts_with(PEM) {
        return pem::decode_vec(bytes)
            .map(|(_, der)| der)
            .map_err(|error| Refusal::new(Check::Encoding, format_args!("key: {error}")));
    }
    if bytes.first() == Some(&SEQUENCE) {
        return Ok(bytes.to_vec());
    }
    let area = match bytes.split_first_chunk::<2>() {
        Some((len, area)) if usize::from(u16::from_be_bytes(*len)) == area.len() => area,
        _ => bytes,
    };
    Ok(Ak::parse(area)?.spki)
}

/// An endorsement key as the TCG's templates make it, which decrypts for its TPM only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ek {
    key: PublicKey,
    id: [u8; 32],
    spki: Vec<u8>,
}

impl Ek {
    /// Takes a `TPMT_PUBLIC` of a key made from template L-1 (RSA 2048) or L-2 (ECC P-256) of the TCG EK Credential
    /// Profile, section B.3, and from nothing else.
    ///
    /// A certificate vouches for the key, not for the rest of its public area, which anybody can write. With one public
    /// area for each key, a certificate is one machine.
    ///
    /// Fails [`Check::Encoding`] or [`Check::EkTemplate`].
    pub fn parse(public: &[u8]) -> Result<Self, Refusal> {
        let area = Area::parse(public, "endorsement key")?;
        if area.attributes != template::ATTRIBUTES {
            return Err(Refusal::new(
                Check::EkTemplate,
                format_args!(
                    "expected the attributes {:#010x} of template L-1 or L-2, found {:#010x}",
                    template::ATTRIBUTES,
                    area.attributes
                ),
            ));
        }
        let key = area.key(Check::EkTemplate)?;
        let start = template::start(&key);
        if !public.starts_with(&start) {
            return Err(Refusal::new(
                Check::EkTemplate,
                "expected the policy, the ciphers and the exponent of template L-1 or L-2",
            ));
        }
        let unique = template::unique(&key).ok_or_else(|| {
            Refusal::new(Check::EkTemplate, "expected a key of the template's length")
        })?;
        Ok(Self {
            spki: key.spki_der()?,
            id: Sha256::digest([start, unique].concat()).into(),
            key,
        })
    }

    /// What the key is enrolled under: the SHA-256 of its public area, with the numbers of the key in full length as the
    /// template has them. It follows from the key alone. Displays of it are lower-case hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// The key itself.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The key as DER of a `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }
}

#[cfg(test)]
mod tests;
