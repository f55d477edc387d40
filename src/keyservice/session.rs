// SPDX-License-Identifier: Apache-2.0
//! Sessions: what the service has to remember between two requests of a node, sealed and handed to the node.
//!
//! Any replica with the same master secret opens what another one sealed, so replicas share nothing else. Each session
//! is sealed with a key of its own, HKDF-SHA256(session key, salt = 32 random bytes): no nonce of AES-256-GCM is ever
//! used twice with one key, however many sessions there are.
//!
//! **Never:** kept here: the node holds it, so any replica may be asked next.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64ct::{Base64UrlUnpadded, Encoding};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::volume_id::VolumeId;
use crate::error::{Doing, Error, Result};
use crate::key::{Secret, fill_random};
use crate::keyservice::audit::now_s;
use crate::keyservice::reply::{Fault, Rejection};
use crate::protocol::{Bytes, EphemeralKey};

const INFO: &[u8] = b"nightlatchd sealed session 1";
const SALT_LEN: usize = 32;

/// The longest cookie that is looked at, in characters. Ours have about 1,500 at most.
const TEXT_LEN_MAX: usize = 8192;

/// What the service has to remember.
#[derive(Debug, Deserialize, Serialize)]
pub enum Session {
    /// A node was given a nonce.
    Challenged(Challenged),
    /// A node was admitted.
    Admitted(Admitted),
}

/// A node was given a nonce.
#[derive(Debug, Deserialize, Serialize)]
pub struct Challenged {
    /// When the session ends, seconds since 1970.
    pub until_s: u64,
    /// The nonce, as it was sent.
    pub nonce: String,
    /// The id of its endorsement key.
    pub ek: String,
    /// Its attestation key's `TPMT_PUBLIC`.
    pub ak_public: Bytes,
    /// The SHA-256 of what the credential holds.
    pub credential_hash: Bytes,
}

/// A node was admitted.
#[derive(Debug, Deserialize, Serialize)]
pub struct Admitted {
    /// When the session ends, seconds since 1970.
    pub until_s: u64,
    /// The id of its endorsement key.
    pub ek: String,
    /// The key that secrets are encrypted to.
    pub tee_pubkey: EphemeralKey,
    /// The volumes it may have the keys of.
    pub volumes: Vec<VolumeId>,
    /// The image it booted, as the policy calls it.
    pub image: String,
}

/// What a request has of a session.
#[derive(Debug)]
pub enum PresentedSession {
    /// Nothing.
    Nothing,
    /// A text that this service, or one with the same master secret, did not make.
    Foreign,
    /// One of ours. It may have ended.
    Session(Session),
}

impl PresentedSession {
    /// The session, where there is one.
    pub(crate) fn session(&self) -> std::result::Result<&Session, Rejection> {
        let why = match self {
            Self::Session(session) => return Ok(session),
            Self::Nothing => "the request has no session",
            Self::Foreign => {
                "this service, or one with the same master secret, did not make the session"
            }
        };
        Err(Rejection::new(Fault::Session, "session", why))
    }

    /// The endorsement key of the machine, if it was admitted a short while ago.
    #[must_use]
    pub fn proven_ek(&self) -> Option<&str> {
        match self {
            Self::Session(Session::Admitted(session)) if session.until_s >= now_s() => {
                Some(&session.ek)
            }
            Self::Session(_) | Self::Nothing | Self::Foreign => None,
        }
    }
}

/// The hash a session remembers a credential's secret by.
#[must_use]
pub fn credential_hash(secret: &[u8]) -> Bytes {
    Bytes(Sha256::digest(secret).to_vec())
}

/// Seals a session into text that is safe in a cookie.
pub fn seal(key: &Secret, session: &Session) -> Result<String> {
    let mut salt = [0; SALT_LEN];
    fill_random(&mut salt)?;
    let mut sealed = serde_json::to_vec(session).map_err(Error::failure)?;
    cipher(key, &salt)?
        .encrypt_in_place(&Nonce::default(), &[], &mut sealed)
        .map_err(|error| Error::failure(format_args!("AES-GCM: {error}")))
        .doing("sealing a session")?;
    Ok(Base64UrlUnpadded::encode_string(
        &[&salt[..], &sealed].concat(),
    ))
}

/// Opens what [`seal`] made; `None` where it was not, or was changed.
#[must_use]
pub fn open(key: &Secret, text: &str) -> Option<Session> {
    if text.len() > TEXT_LEN_MAX {
        return None;
    }
    let bytes = Base64UrlUnpadded::decode_vec(text).ok()?;
    let (salt, sealed) = bytes.split_at_checked(SALT_LEN)?;
    let mut sealed = sealed.to_vec();
    cipher(key, salt)
        .ok()?
        .decrypt_in_place(&Nonce::default(), &[], &mut sealed)
        .ok()?;
    serde_json::from_slice(&sealed).ok()
}

fn cipher(key: &Secret, salt: &[u8]) -> Result<Aes256Gcm> {
    let mut own = zeroize::Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), key.expose())
        .expand(INFO, own.as_mut())
        .map_err(|error| Error::failure(format_args!("HKDF: {error}")))?;
    Aes256Gcm::new_from_slice(own.as_ref()).map_err(|error| Error::failure(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::Challenged(Challenged {
            until_s: 17,
            nonce: "AA==".into(),
            ek: "ab".into(),
            ak_public: Bytes(vec![1, 2, 3]),
            credential_hash: credential_hash(b"secret"),
        })
    }

    #[test]
    fn a_session_opens_with_its_key_only() {
        let (ours, other) = (Secret::new(vec![1; 32]), Secret::new(vec![2; 32]));
        let text = seal(&ours, &session()).unwrap();
        assert!(matches!(
            open(&ours, &text),
            Some(Session::Challenged(found)) if found.until_s == 17 && found.ak_public.0 == [1, 2, 3]
        ));
        assert!(open(&other, &text).is_none());
        assert_ne!(text, seal(&ours, &session()).unwrap());
    }

    #[test]
    fn a_session_with_any_bit_changed_does_not_open() {
        let key = Secret::new(vec![1; 32]);
        let text = seal(&key, &session()).unwrap();
        let bytes = Base64UrlUnpadded::decode_vec(&text).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = Base64UrlUnpadded::encode_string(&changed);
            assert!(open(&key, &changed).is_none(), "byte {at}");
            let short = Base64UrlUnpadded::encode_string(&bytes[..at]);
            assert!(open(&key, &short).is_none(), "{at} bytes");
        }
        assert!(open(&key, &"A".repeat(TEXT_LEN_MAX + 1)).is_none());
        assert!(open(&key, "no base64!").is_none());
    }
}
