// SPDX-License-Identifier: Apache-2.0
//! What a key service gives out, encrypted to a key that a node made for this boot: JSON web encryption with
//! ECDH-ES+A256KW on P-256 and A256GCM (RFC 7516, RFC 7518 sections 4.6 and 5.3).

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use aes_kw::KwAes256;
use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdh::diffie_hellman;
use p256::elliptic_curve::sec1::{FromSec1Point as _, ToSec1Point as _};
use p256::{PublicKey, Sec1Point, SecretKey};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Doing, Error, Result};
use crate::key::ecdh::agree;
use crate::key::{Secret, fill_random};
use crate::protocol::{EphemeralKey, Jwe};

/// The key agreement (RFC 7518, section 4.6).
const ALG: &str = "ECDH-ES+A256KW";
/// The content's encryption (RFC 7518, section 5.3).
const ENC: &str = "A256GCM";
const KTY: &str = "EC";
const CRV: &str = "P-256";

/// Length of a coordinate of P-256, of the content key and of the key that wraps it, in bytes.
const LEN: usize = 32;
/// Length of a wrapped content key, in bytes (RFC 3394).
const WRAPPED_LEN: usize = 40;
const IV_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// The longest protected header that is looked at, in characters. Ours has 231.
pub const PROTECTED_LEN_MAX: usize = 4096;
/// The longest content, in bytes. Keys have 32 or 64.
pub const CONTENT_LEN_MAX: usize = 4096;

/// Tries to draw a number that is a private key: nearly all are.
const DRAWS_MAX: u32 = 8;

/// A private key that a node uses for one handshake. It is wiped on drop and never printed.
pub struct EphemeralKeyPair(SecretKey);

impl EphemeralKeyPair {
    /// A new one, from the kernel's generator.
    pub fn generate() -> Result<Self> {
        for _ in 0..DRAWS_MAX {
            let mut bytes = Zeroizing::new([0; LEN]);
            fill_random(bytes.as_mut())?;
            if let Ok(key) = SecretKey::from_slice(bytes.as_ref()) {
                return Ok(Self(key));
            }
        }
        Err(Error::failure("drawing an ephemeral key"))
    }

    /// One that was made elsewhere.
    #[cfg(feature = "kms")]
    pub(crate) fn of(key: SecretKey) -> Self {
        Self(key)
    }

    /// What others encrypt to.
    #[must_use]
    pub fn public(&self) -> EphemeralKey {
        let (x, y) = coordinates(&self.0.public_key());
        EphemeralKey {
            kty: KTY.into(),
            crv: CRV.into(),
            alg: ALG.into(),
            x,
            y,
        }
    }

    /// Decrypts what was encrypted to this key. Whatever does not fit is refused.
    pub fn open(&self, jwe: &Jwe) -> Result<Secret> {
        self.open_now(jwe)
            .map_err(Error::refused)
            .doing("decrypting what the key service sent")
    }

    fn open_now(&self, jwe: &Jwe) -> std::result::Result<Secret, &'static str> {
        let theirs = sender(&jwe.protected)?;
        let wrapped: [u8; WRAPPED_LEN] = exactly(&jwe.encrypted_key).ok_or("encrypted_key")?;
        let iv: [u8; IV_LEN] = exactly(&jwe.iv).ok_or("iv: expected 12 bytes")?;
        let tag: [u8; TAG_LEN] = exactly(&jwe.tag).ok_or("tag: expected 16 bytes")?;
        if jwe.ciphertext.len() > Base64UrlUnpadded::encoded_len(&[0; CONTENT_LEN_MAX]) {
            return Err("ciphertext: too long");
        }
        let content = Base64UrlUnpadded::decode_vec(&jwe.ciphertext)
            .ok()
            .ok_or("ciphertext: expected base64url")?;
        let mut content = Zeroizing::new(content);
        let mut content_key = Zeroizing::new([0; LEN]);
        let shared = diffie_hellman(self.0.to_nonzero_scalar(), theirs.as_affine());
        wrapping(shared.raw_secret_bytes())
            .unwrap_key(&wrapped, content_key.as_mut())
            .ok()
            .ok_or("its content key was not wrapped for this node")?;
        Aes256Gcm::new(&(*content_key).into())
            .decrypt_inout_detached(
                &Nonce::from(iv),
                jwe.protected.as_bytes(),
                content.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .ok()
            .ok_or("it was altered, or encrypted with another key")?;
        Ok(Secret::new(std::mem::take(&mut *content)))
    }
}

impl fmt::Debug for EphemeralKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EphemeralKeyPair(..)")
    }
}

impl EphemeralKey {
    /// The point. A key of another kind, and coordinates that are not on the curve, are refused.
    pub fn check(&self) -> Result<()> {
        self.point()
            .map(|_| ())
            .map_err(Error::refused)
            .doing("tee-pubkey")
    }

    fn point(&self) -> std::result::Result<PublicKey, &'static str> {
        if self.alg != ALG {
            return Err("alg: expected ECDH-ES+A256KW");
        }
        point(&self.kty, &self.crv, &self.x, &self.y)
    }
}

impl Jwe {
    /// Encrypts `content`, of at most [`CONTENT_LEN_MAX`] bytes, to `to`.
    pub fn seal(content: &Secret, to: &EphemeralKey) -> Result<Self> {
        let theirs = to.point().map_err(Error::refused).doing("tee-pubkey")?;
        if content.expose().len() > CONTENT_LEN_MAX {
            return Err(Error::failure("there is too much to encrypt"));
        }
        let ours = agree(&theirs)?;
        let [x, y] = [ours.x, ours.y].map(|bytes| Base64UrlUnpadded::encode_string(&bytes));
        let header = serde_json::to_vec(&Header::of(x, y)).map_err(Error::failure)?;
        let protected = Base64UrlUnpadded::encode_string(&header);
        let mut content_key = Zeroizing::new([0; LEN]);
        fill_random(content_key.as_mut())?;
        let mut iv = [0; IV_LEN];
        fill_random(&mut iv)?;
        let mut wrapped = [0; WRAPPED_LEN];
        wrapping(&ours.shared[..])
            .wrap_key(content_key.as_ref(), &mut wrapped)
            .map_err(|error| Error::failure(format_args!("AES-KW: {error}")))?;
        let mut ciphertext = content.expose().to_vec();
        let tag = Aes256Gcm::new(&(*content_key).into())
            .encrypt_inout_detached(
                &Nonce::from(iv),
                protected.as_bytes(),
                ciphertext.as_mut_slice().into(),
            )
            .map_err(|error| Error::failure(format_args!("AES-GCM: {error}")))?;
        Ok(Self {
            protected,
            encrypted_key: Base64UrlUnpadded::encode_string(&wrapped),
            iv: Base64UrlUnpadded::encode_string(&iv),
            ciphertext: Base64UrlUnpadded::encode_string(&ciphertext),
            tag: Base64UrlUnpadded::encode_string(&tag),
        })
    }
}

/// The protected header. What would change the meaning of the rest is refused; other members are authenticated and
/// mean nothing here.
#[derive(Debug, Deserialize, Serialize)]
struct Header {
    alg: String,
    enc: String,
    epk: Epk,
    #[serde(default, skip_serializing)]
    apu: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    apv: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    crit: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    zip: Option<IgnoredAny>,
}

/// The sender's ephemeral public key.
#[derive(Debug, Deserialize, Serialize)]
struct Epk {
    crv: String,
    kty: String,
    x: String,
    y: String,
}

impl Header {
    fn of(x: String, y: String) -> Self {
        Self {
            alg: ALG.into(),
            enc: ENC.into(),
            epk: Epk {
                crv: CRV.into(),
                kty: KTY.into(),
                x,
                y,
            },
            apu: None,
            apv: None,
            crit: None,
            zip: None,
        }
    }
}

/// The sender's key, from the protected header.
fn sender(protected: &str) -> std::result::Result<PublicKey, &'static str> {
    if protected.len() > PROTECTED_LEN_MAX {
        return Err("protected: too long");
    }
    let header = Base64UrlUnpadded::decode_vec(protected)
        .ok()
        .ok_or("protected: expected base64url")?;
    let header: Header = serde_json::from_slice(&header)
        .ok()
        .ok_or("protected: expected alg, enc and epk in JSON")?;
    if header.alg != ALG || header.enc != ENC {
        return Err("expected alg ECDH-ES+A256KW and enc A256GCM");
    }
    if header.apu.is_some() || header.apv.is_some() || header.crit.is_some() || header.zip.is_some()
    {
        return Err("protected: expected neither apu, apv, crit nor zip");
    }
    point(
        &header.epk.kty,
        &header.epk.crv,
        &header.epk.x,
        &header.epk.y,
    )
}

fn point(kty: &str, crv: &str, x: &str, y: &str) -> std::result::Result<PublicKey, &'static str> {
    if kty != KTY || crv != CRV {
        return Err("expected a key of kty EC and crv P-256");
    }
    let x: [u8; LEN] = exactly(x).ok_or("x: expected 32 bytes in base64url")?;
    let y: [u8; LEN] = exactly(y).ok_or("y: expected 32 bytes in base64url")?;
    let point = Sec1Point::from_affine_coordinates(&x.into(), &y.into(), false);
    Option::from(PublicKey::from_sec1_point(&point)).ok_or("its point is not on the curve")
}

fn coordinates(key: &PublicKey) -> (String, String) {
    let point = key.to_sec1_point(false);
    let text = |coordinate: Option<&_>| {
        coordinate.map_or_else(String::new, |bytes: &p256::FieldBytes| {
            Base64UrlUnpadded::encode_string(bytes)
        })
    };
    (text(point.x()), text(point.y()))
}

/// The bytes of a text in base64url, if there are `N`.
fn exactly<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let decoded = Base64UrlUnpadded::decode(text, &mut bytes).ok()?;
    (decoded.len() == N).then_some(bytes)
}

/// The key that wraps the content key, from what both sides agreed on.
fn wrapping(shared: &[u8]) -> KwAes256 {
    let key = Zeroizing::new(concat_kdf(shared, ALG, [b"", b""], 256));
    KwAes256::new(&(*key).into())
}

/// One round of the Concat KDF with SHA-256, for at most 256 bits (NIST SP 800-56A section 5.8.1, RFC 7518 section 4.6.2).
fn concat_kdf(z: &[u8], algorithm: &str, parties: [&[u8]; 2], bits: u32) -> [u8; LEN] {
    const ROUND: u32 = 1;
    let [party_u, party_v] = parties;
    let mut hash = Sha256::new();
    hash.update(ROUND.to_be_bytes());
    hash.update(z);
    for part in [algorithm.as_bytes(), party_u, party_v] {
        // Lengths here are those of constants.
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(bits.to_be_bytes());
    hash.finalize().into()
}

#[cfg(test)]
#[path = "tests/jwe.rs"]
mod tests;
