// SPDX-License-Identifier: Apache-2.0
//! The file of a wrapped secret: JSON, `{"version":1,"id":…,"kek":…,"kms":…,"nonce":…,"sealed":…}`, bytes in padded base64,
//! and `recovery` where it was made for a recovery key, too, with `recovery-key`, which one that is. Neither is bound to the
//! file: it is told who could open it, and only opening it shows that he can.
//!
//! `kms` is what the KMS made of 32 random bytes. `sealed` is AES-256-GCM of the secret; its key is HKDF-SHA256 of those
//! bytes, its additional data the canonical JSON (RFC 8785) of `id`, `kek` and `version`. That binds the file to its
//! purpose where a KMS cannot.
//!
//! For keys that follow from nothing else, the salt of that HKDF is to be a secret of the service, so that nobody who may
//! wrap with the KMS's key can make a file that opens. The master secret is what such a secret would follow from, so for
//! it there is no salt, and two things stand in its place: the file is written by `nightlatchd` alone and nobody else may
//! write to it, and the store keeps a check value of the master secret, by which a start with another one is refused.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64ct::{Base64, Encoding as _};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret, fill_random};
use crate::keyservice::kms::WrappedKey;
use crate::protocol::Jwe;

/// The version of the format.
const VERSION: u32 = 1;

/// HKDF info of the key that seals the content. No `key-` name, so no id of a volume leads to it.
const INFO: &[u8] = b"nightlatchd wrapped key 1";

/// Lengths in bytes of AES-GCM's nonce and tag (NIST SP 800-38D, section 5.2.1).
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// The longest file, in bytes. Ours have about one thousand.
pub const FILE_LEN_MAX: usize = 32 << 10;

/// The longest `id` and `kek`, in bytes.
const NAME_LEN_MAX: usize = 512;

/// The longest of what a KMS gives back, in bytes. 4 KiB is the longest ciphertext of an RSA key, AWS's are below 6 KiB.
const WRAPPED_LEN_MAX: usize = 8 << 10;

/// The longest content, in bytes.
const CONTENT_LEN_MAX: usize = 4 << 10;

/// A wrapped secret.
#[derive(Debug)]
pub struct Envelope {
    id: String,
    wrapped: WrappedKey,
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
    recovery: Option<Recovery>,
}

/// The way without the KMS.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The thumbprint of whose it is, as the file says.
    pub key: Option<String>,
    /// The same key as the KMS has wrapped, wrapped for the owner of that one.
    pub wrapped: Jwe,
}

/// The file as it is written. Its members in the order of RFC 8785 are made by the canonical writer.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    id: String,
    kek: String,
    kms: String,
    nonce: String,
    sealed: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery: Option<Jwe>,
    #[serde(
        default,
        rename = "recovery-key",
        skip_serializing_if = "Option::is_none"
    )]
    recovery_key: Option<String>,
}

impl Envelope {
    /// Takes a file apart. The bytes are of whoever can write the file.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        if bytes.len() > FILE_LEN_MAX {
            return Err(format!("expected at most {FILE_LEN_MAX} bytes"));
        }
        let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!(
                "version: expected {VERSION}, found {}: a later nightlatchd made it",
                file.version
            ));
        }
        let key = file.recovery_key.as_ref().map(|key| ("recovery-key", key));
        for (member, text) in [("id", &file.id), ("kek", &file.kek)]
            .into_iter()
            .chain(key)
        {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
            if text.is_empty() || text.len() > NAME_LEN_MAX || !is_plain {
                return Err(format!("{member}: expected a name without spaces"));
            }
        }
        let nonce = decoded("nonce", &file.nonce, NONCE_LEN)?;
        let nonce = <[u8; NONCE_LEN]>::try_from(nonce)
            .map_err(|bytes| format!("nonce: expected {NONCE_LEN} bytes, found {}", bytes.len()))?;
        let sealed_len_max = CONTENT_LEN_MAX.saturating_add(TAG_LEN);
        let sealed = decoded("sealed", &file.sealed, sealed_len_max)?;
        if sealed.len() <= TAG_LEN {
            return Err("sealed: it is too short".into());
        }
        let bytes = decoded("kms", &file.kms, WRAPPED_LEN_MAX)?;
        if bytes.is_empty() {
            return Err("kms: it is empty".into());
        }
        Ok(Self {
            id: file.id,
            wrapped: WrappedKey {
                kek: file.kek,
                bytes,
            },
            nonce,
            sealed,
            recovery: file.recovery.map(|wrapped| Recovery {
                key: file.recovery_key,
                wrapped,
            }),
        })
    }

    /// The file, whose members are in one order and which ends with a line's end.
    pub fn text(&self) -> Result<String> {
        let recovery = self.recovery.as_ref();
        let file = File {
            version: VERSION,
            id: self.id.clone(),
            kek: self.wrapped.kek.clone(),
            kms: Base64::encode_string(&self.wrapped.bytes),
            nonce: Base64::encode_string(&self.nonce),
            sealed: Base64::encode_string(&self.sealed),
            recovery: recovery.map(|recovery| recovery.wrapped.clone()),
            recovery_key: recovery.and_then(|recovery| recovery.key.clone()),
        };
        let mut text = serde_json_canonicalizer::to_string(&file)
            .map_err(Error::failure)
            .doing("writing canonical JSON")?;
        text.push('\n');
        Ok(text)
    }

    /// Seals `content` with `key`, which the KMS has `wrapped`.
    pub fn seal(
        id: &str,
        wrapped: WrappedKey,
        content: &Secret,
        key: &Secret,
        recovery: Option<Recovery>,
    ) -> Result<Self> {
        if content.expose().len() > CONTENT_LEN_MAX {
            return Err(Error::failure("there is too much to wrap"));
        }
        let mut nonce = [0; NONCE_LEN];
        fill_random(&mut nonce)?;
        let payload = Payload {
            msg: content.expose(),
            aad: &additional(id, &wrapped.kek)?,
        };
        let sealed = cipher(key, None)?
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|error| Error::failure(format_args!("AES-GCM: {error}")))?;
        let envelope = Self {
            id: id.to_owned(),
            wrapped,
            nonce,
            sealed,
            recovery,
        };
        // A name or an answer that is too long would show at the next start.
        Self::parse(envelope.text()?.as_bytes())
            .map_err(Error::config)
            .doing("the file would be one that no start reads")?;
        Ok(envelope)
    }

    /// The content, with the key that the KMS unwrapped.
    pub fn open(&self, key: &Secret) -> Result<Secret> {
        self.open_salted(key, None)
    }

    fn open_salted(&self, key: &Secret, salt: Option<&[u8]>) -> Result<Secret> {
        let payload = Payload {
            msg: &self.sealed,
            aad: &additional(&self.id, &self.wrapped.kek)?,
        };
        cipher(key, salt)?
            .decrypt(&Nonce::from(self.nonce), payload)
            .map(Secret::new)
            .map_err(|_error| Error::refused("the file was altered, or put together from several"))
    }

    /// What it is.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the KMS gave back.
    #[must_use]
    pub fn wrapped(&self) -> &WrappedKey {
        &self.wrapped
    }

    /// The way without the KMS, as far as the file says.
    #[must_use]
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }
}

fn decoded(member: &str, text: &str, len_max: usize) -> std::result::Result<Vec<u8>, String> {
    let bytes = Base64::decode_vec(text).map_err(|error| format!("{member}: base64: {error}"))?;
    if bytes.len() > len_max {
        return Err(format!("{member}: expected at most {len_max} bytes"));
    }
    Ok(bytes)
}

fn additional(id: &str, kek: &str) -> Result<Vec<u8>> {
    let bound = serde_json::json!({ "id": id, "kek": kek, "version": VERSION });
    serde_json_canonicalizer::to_vec(&bound)
        .map_err(Error::failure)
        .doing("writing canonical JSON")
}

fn cipher(key: &Secret, salt: Option<&[u8]>) -> Result<Aes256Gcm> {
    let mut own = Zeroizing::new([0; KEY_LEN]);
    Hkdf::<Sha256>::new(salt, key.expose())
        .expand(INFO, own.as_mut())
        .map_err(|error| Error::failure(format_args!("HKDF: {error}")))?;
    Ok(Aes256Gcm::new(&(*own).into()))
}

#[cfg(test)]
#[path = "tests/envelope.rs"]
mod tests;
