// SPDX-License-Identifier: Apache-2.0
//! One X.509 certificate (RFC 5280).

use std::fmt;
use std::time::Duration;

use p256::ecdsa::signature::Verifier;
use sha2::{Sha256, Sha384, Sha512};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::spki::{DecodePublicKey, SubjectPublicKeyInfoRef};

use crate::evidence::key::{Ek, PublicKey};
use crate::evidence::{Check, Refusal};

/// Longest certificate: an NV index holds no more than 2 KiB, intermediates are files.
const LEN_MAX: usize = 16 << 10;

// Signature algorithms (RFC 8017, appendix C; RFC 5758, section 3.2).
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
/// `id-RSAES-OAEP`: how some vendors write the algorithm of an RSA endorsement key (TCG EK Credential Profile, section 3.2.7).
const RSA_OAEP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7");
/// `tcg-kp-EKCertificate` (TCG EK Credential Profile, section 3.2.16).
const EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");

/// Critical extensions that are understood: key usage, subject alternative name (it names the TPM), basic constraints,
/// extended key usage (RFC 5280, section 4.2.1).
const KNOWN: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
];

/// A certificate, and the bytes its signature is over.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    parsed: x509_cert::Certificate,
    signed: Vec<u8>,
}

/// Why a certificate is no good.
type Verdict = Result<(), String>;

impl Certificate {
    /// Takes one DER certificate. Padding, as an NV index has after it, may follow: all zeros, or all ones.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let refuse =
            |why: String| Refusal::new(Check::Encoding, format_args!("certificate: {why}"));
        if bytes.len() > LEN_MAX {
            return Err(refuse(format!("{} bytes", bytes.len())));
        }
        let (parsed, signed, len) = split(bytes).map_err(|error| refuse(error.to_string()))?;
        let padding = bytes.get(len..).unwrap_or_default();
        let padded_with = |with: u8| padding.iter().all(|byte| *byte == with);
        if !padded_with(0) && !padded_with(0xff) {
            return Err(refuse("something follows it".into()));
        }
        Ok(Self { parsed, signed })
    }

    /// Whether its key is that of `ek`.
    pub(super) fn is_about(&self, ek: &Ek) -> Result<bool, Refusal> {
        let theirs = SubjectPublicKeyInfoRef::from_der(ek.spki_der())
            .map_err(|error| Refusal::new(Check::Encoding, error))?;
        let mine = self.parsed.tbs_certificate().subject_public_key_info();
        let same_key = mine.subject_public_key.raw_bytes() == theirs.subject_public_key.raw_bytes();
        let same_algorithm = mine.algorithm.oid == theirs.algorithm.oid
            || (mine.algorithm.oid == RSA_OAEP && matches!(ek.key(), PublicKey::Rsa(_)));
        let same_curve = matches!(ek.key(), PublicKey::Rsa(_))
            || p256::PublicKey::from_public_key_der(&der(mine)?).is_ok();
        Ok(same_key && same_algorithm && same_curve)
    }

    /// Whether the key may be used as an endorsement key, and for nothing that would make it an authority.
    pub(super) fn is_of_an_endorsement_key(&self, ek: &Ek) -> Verdict {
        self.has_known_extensions()?;
        if self
            .extension::<BasicConstraints>()?
            .is_some_and(|constraints| constraints.ca)
        {
            return Err("it is that of an authority".into());
        }
        if let Some(usage) = self.extension::<KeyUsage>()? {
            let fits = match ek.key() {
                PublicKey::Rsa(_) => usage.key_encipherment(),
                PublicKey::Ecc(_) => usage.key_agreement(),
            };
            if !fits {
                return Err("its key may not be used to encipher".into());
            }
        }
        // An authority that issues other certificates too may have issued one for a key that only looks like this one.
        match self.extension::<ExtendedKeyUsage>()? {
            Some(usage) if usage.0.contains(&EK_CERTIFICATE) => Ok(()),
            _ => Err("it does not say that its key may be used to endorse".into()),
        }
    }

    /// Whether it may issue certificates with `below` authorities between it and the endorsement certificate.
    pub(super) fn is_authority(&self, below: usize) -> Verdict {
        self.has_known_extensions()?;
        let constraints = self.extension::<BasicConstraints>()?;
        let Some(constraints) = constraints.filter(|constraints| constraints.ca) else {
            return Err("it is not that of an authority".into());
        };
        let path_len = constraints.path_len_constraint.map(usize::from);
        if path_len.is_some_and(|max| below > max) {
            return Err(format!("it allows no {below} authorities below it"));
        }
        match self.extension::<KeyUsage>()? {
            Some(usage) if !usage.key_cert_sign() => {
                Err("its key may not sign certificates".into())
            }
            _ => Ok(()),
        }
    }

    /// Whether `now`, since 1970, is within its validity.
    pub(super) fn is_valid(&self, now: Duration) -> Verdict {
        let validity = self.parsed.tbs_certificate().validity();
        if now < validity.not_before.to_unix_duration() {
            return Err(format!("it is valid from {} only", validity.not_before));
        }
        if now > validity.not_after.to_unix_duration() {
            return Err(format!("it expired at {}", validity.not_after));
        }
        Ok(())
    }

    /// Whether the key of `issuer` made its signature.
    pub(super) fn is_issued_by(&self, issuer: &Self) -> bool {
        let (mine, theirs) = (
            self.parsed.tbs_certificate(),
            issuer.parsed.tbs_certificate(),
        );
        let algorithm = self.parsed.signature_algorithm();
        if mine.issuer() != theirs.subject() || mine.signature() != algorithm {
            return false;
        }
        let (Ok(key), Some(signature)) = (
            der(theirs.subject_public_key_info()),
            self.parsed.signature().as_bytes(),
        ) else {
            return false;
        };
        is_signature(algorithm.oid, &key, &self.signed, signature)
    }

    /// Whom it is about.
    pub(super) fn subject(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    fn has_known_extensions(&self) -> Verdict {
        let extensions = self.parsed.tbs_certificate().extensions();
        let unknown = extensions
            .into_iter()
            .flatten()
            .find(|extension| extension.critical && !KNOWN.contains(&extension.extn_id));
        match unknown {
            Some(extension) => Err(format!(
                "critical extension {} is not understood",
                extension.extn_id
            )),
            None => Ok(()),
        }
    }

    /// One extension, there once at most.
    fn extension<'a, T>(&'a self) -> Result<Option<T>, String>
    where
        T: Decode<'a, Error = x509_cert::der::Error> + x509_cert::der::oid::AssociatedOid,
    {
        self.parsed
            .tbs_certificate()
            .get_extension::<T>()
            .map(|found| found.map(|(_, extension)| extension))
            .map_err(|error| format!("extension {}: {error}", T::OID))
    }
}

/// The subject, where there is one: endorsement certificates often have none.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = self.parsed.tbs_certificate();
        if certificate.subject().is_empty() {
            write!(f, "certificate {}", certificate.serial_number())
        } else {
            write!(f, "certificate of {}", certificate.subject())
        }
    }
}

/// The certificate, what is signed of it, and its length.
fn split(bytes: &[u8]) -> x509_cert::der::Result<(x509_cert::Certificate, Vec<u8>, usize)> {
    let whole = SliceReader::new(bytes)?.tlv_bytes()?;
    let parsed = x509_cert::Certificate::from_der(whole)?;
    let mut inside = SliceReader::new(whole)?;
    x509_cert::der::Header::decode(&mut inside)?;
    let signed = inside.tlv_bytes()?.to_vec();
    Ok((parsed, signed, whole.len()))
}

fn der(value: &impl Encode) -> Result<Vec<u8>, Refusal> {
    value
        .to_der()
        .map_err(|error| Refusal::new(Check::Encoding, format_args!("certificate: {error}")))
}

/// Whether `signature` is that of `key` (DER of a `SubjectPublicKeyInfo`) over `message`.
fn is_signature(algorithm: ObjectIdentifier, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    match algorithm {
        RSA_SHA256 => by_rsa::<Sha256>(key, message, signature),
        RSA_SHA384 => by_rsa::<Sha384>(key, message, signature),
        RSA_SHA512 => by_rsa::<Sha512>(key, message, signature),
        ECDSA_SHA256 => by_p256(key, message, signature),
        ECDSA_SHA384 => by_p384(key, message, signature),
        _ => false,
    }
}

fn by_rsa<D>(key: &[u8], message: &[u8], signature: &[u8]) -> bool
where
    D: sha2::Digest + x509_cert::der::oid::AssociatedOid,
{
    let key = rsa::PublicKey::from_public_key_der(key).map(rsa::pkcs1v15::VerifyingKey::<D>::new);
    let signature = rsa::pkcs1v15::Signature::try_from(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
}

fn by_p256(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = p256::ecdsa::VerifyingKey::from_public_key_der(key);
    let signature = p256::ecdsa::Signature::from_der(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
}

fn by_p384(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = p384::ecdsa::VerifyingKey::from_public_key_der(key);
    let signature = p384::ecdsa::Signature::from_der(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
}
