// SPDX-License-Identifier: Apache-2.0
//! The way without the KMS: a P-256 key pair whose public half the configuration names, and whose private half is kept
//! away from the service, on paper or in a token.
//!
//! The 32 bytes that the KMS wraps are wrapped a second time for its owner (ECDH-ES+A256KW, RFC 7518 section 4.6), in the
//! same file, so what either unwraps opens the same content. Anybody can wrap for a public key: it is the content that is
//! bound to the file, and the store's check value that tells the fleet's master secret from another one.

use std::path::Path;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use p256::{PublicKey, SecretKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroize as _;

use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret};
use crate::keyservice::config::secret::SecretSource;
use crate::keyservice::kms::envelope::{Envelope, Recovery};
use crate::protocol::jwe::EphemeralKeyPair;
use crate::protocol::{EphemeralKey, Jwe};

/// Whom the key of a file is wrapped for as well.
#[derive(Debug)]
pub struct RecoveryKey(EphemeralKey);

impl RecoveryKey {
    /// Reads a public key: `PUBLIC KEY` in PEM (RFC 7468, section 13).
    pub fn load(path: &Path) -> Result<Self> {
        let read = || {
            let der = SubjectPublicKeyInfoDer::from_pem_file(path).map_err(Error::config)?;
            let key = PublicKey::from_public_key_der(&der).map_err(Error::config)?;
            Ok::<_, Error>(Self(jwk(&key)))
        };
        read()
            .doing("expected a public key of P-256 in PEM")
            .doing(path.display())
            .doing("kms.recovery-key")
    }

    pub(super) fn seal(&self, key: &Secret) -> Result<Recovery> {
        Ok(Recovery {
            key: Some(self.thumbprint()?),
            wrapped: Jwe::seal(key, &self.0).doing("wrapping for the recovery key")?,
        })
    }

    /// What it is told by in a file: the thumbprint of RFC 7638, section 3.
    pub fn thumbprint(&self) -> Result<String> {
        let EphemeralKey { kty, crv, x, y, .. } = &self.0;
        let members = serde_json::json!({ "crv": crv, "kty": kty, "x": x, "y": y });
        let text = serde_json_canonicalizer::to_vec(&members)
            .map_err(Error::failure)
            .doing("writing canonical JSON")?;
        Ok(Base64UrlUnpadded::encode_string(&Sha256::digest(text)))
    }
}

/// As a JSON web key (RFC 7518, section 6.2.1).
fn jwk(key: &PublicKey) -> EphemeralKey {
    let point = key.to_sec1_point(false);
    // SEC 1, section 2.3.3: a byte that says "not compressed", then the coordinates.
    let coordinates = point.as_bytes().get(1..).unwrap_or_default();
    let (x, y) = coordinates.split_at_checked(KEY_LEN).unwrap_or_default();
    let [x, y] = [x, y].map(Base64UrlUnpadded::encode_string);
    EphemeralKey {
        kty: "EC".into(),
        crv: "P-256".into(),
        alg: "ECDH-ES+A256KW".into(),
        x,
        y,
    }
}

/// The private half. It is wiped on drop, and so is what it was read from.
#[derive(Debug)]
pub struct RecoveryPrivateKey(EphemeralKeyPair);

impl RecoveryPrivateKey {
    /// Reads it: `PRIVATE KEY` in PEM (RFC 7468, section 10).
    pub fn load(path: &Path) -> Result<Self> {
        let read = || {
            let text = SecretSource::File(path.to_owned()).read("")?;
            let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes());
            let mut der = der.map_err(Error::config)?;
            let key = SecretKey::from_pkcs8_der(der.secret_pkcs8_der());
            der.zeroize();
            let key = key.map_err(Error::config)?;
            Ok::<_, Error>(Self(EphemeralKeyPair::of(key)))
        };
        read()
            .doing(
                "expected a private key of P-256 in PEM, PKCS #8 and not encrypted; openssl pkey makes one of others",
            )
            .doing(path.display())
    }

    /// Opens a file that was wrapped for this key as well.
    pub fn open(&self, envelope: &Envelope) -> Result<Secret> {
        let Some(recovery) = envelope.recovery() else {
            return Err(Error::refused(
                "it was made without kms.recovery-key: nothing but the KMS's key opens it",
            ));
        };
        let key = self.0.open(&recovery.wrapped).map_err(|_error| {
            Error::refused("it was wrapped for another recovery key, or was altered")
        })?;
        if key.expose().len() != KEY_LEN {
            return Err(Error::refused(
                "what was wrapped for the recovery key is no key",
            ));
        }
        envelope.open(&key)
    }
}

#[cfg(test)]
#[cfg(feature = "kms-openbao")]
#[path = "tests/recovery.rs"]
mod tests;
