// SPDX-License-Identifier: Apache-2.0
//! Signatures, `TPMT_SIGNATURE` (TPM 2.0 part 2, section 11.3.4).

use p256::elliptic_curve::sec1::ToSec1Point as _;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rsa::signature::Verifier as _;
use sha2::Sha256;

use super::PublicKey;
use super::public::{ECDSA, RSASSA, padded};
use crate::evidence::bytes::Bytes;
use crate::evidence::registers::algorithm;
use crate::evidence::{Check, Refusal};
use crate::pcr::Bank;

/// A signature with SHA-256.
pub(super) enum Signature {
    Rsassa(rsa::pkcs1v15::Signature),
    Ecdsa(p256::ecdsa::Signature),
}

impl Signature {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut bytes = Bytes::new(bytes, "signature", Check::Encoding);
        let scheme = bytes.be16()?;
        let hash = bytes.be16()?;
        if hash != algorithm(Bank::Sha256) {
            return Err(bytes.refusal(format_args!("expected SHA-256, found {hash:#06x}")));
        }
        let signature = match scheme {
            RSASSA => rsa::pkcs1v15::Signature::try_from(bytes.sized()?)
                .map(Self::Rsassa)
                .map_err(|error| bytes.refusal(error))?,
            ECDSA => {
                let (r, s) = (bytes.sized()?, bytes.sized()?);
                ecdsa(r, s)
                    .map(Self::Ecdsa)
                    .ok_or_else(|| bytes.refusal("its numbers are out of range"))?
            }
            _ => {
                return Err(bytes.refusal(format_args!(
                    "expected RSASSA or ECDSA, found {scheme:#06x}"
                )));
            }
        };
        bytes.finish()?;
        Ok(signature)
    }

    /// Whether it is the signature of `key` over `message`.
    pub(super) fn is_of(&self, key: &PublicKey, message: &[u8]) -> bool {
        match (self, key) {
            (Self::Rsassa(signature), PublicKey::Rsa(key)) => {
                let key = rsa::pkcs1v15::VerifyingKey::<Sha256>::new(key.clone());
                key.verify(message, signature).is_ok()
            }
            (Self::Ecdsa(signature), PublicKey::Ecc(key)) => {
                // By ring, which TLS needs anyway and which takes a fraction of the time.
                let key =
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.to_sec1_point(false));
                key.verify(message, &signature.to_bytes()).is_ok()
            }
            (Self::Rsassa(_), PublicKey::Ecc(_)) | (Self::Ecdsa(_), PublicKey::Rsa(_)) => false,
        }
    }
}

fn ecdsa(r: &[u8], s: &[u8]) -> Option<p256::ecdsa::Signature> {
    p256::ecdsa::Signature::from_scalars(padded(r)?, padded(s)?).ok()
}
