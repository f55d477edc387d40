// SPDX-License-Identifier: Apache-2.0
//! A credential only one TPM can open, and only while the named key is loaded there (`TPM2_MakeCredential` in software).
//!
//! TPM 2.0 part 1, section 24 (credential protection), sections 11.4.10.2 and 11.4.10.3 (`KDFa`, `KDFe`), annexes B.10
//! and C.6 (how the seed travels).
//!
//! **Never:** the endorsement key's private half: what is made here only its TPM opens.

use aes::Aes128;
use cfb_mode::cipher::KeyIvInit as _;
use getrandom::SysRng;
use hmac::{Hmac, KeyInit as _, Mac as _};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::oaep::EncryptingKey;
use rsa::traits::RandomizedEncryptor as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{Doing, Error, Result};
use crate::evidence::key::{Ek, Name, PublicKey};
use crate::key::ecdh::agree;
use crate::key::fill_random;

/// What the seed is encrypted for. The zero belongs to it.
const IDENTITY: &[u8] = b"IDENTITY\0";
/// Bytes of the seed: those of the digest of the endorsement key's name algorithm.
const SEED_LEN: usize = 32;

/// A challenge, as `TPM2_ActivateCredential` takes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// The `TPM2B_ID_OBJECT`, its length included.
    pub id_object: Vec<u8>,
    /// The `TPM2B_ENCRYPTED_SECRET`, its length included.
    pub encrypted_secret: Vec<u8>,
}

/// Wraps `secret` so that the TPM of `ek` gives it out only if it holds the key named `ak`.
pub fn make(ek: &Ek, ak: &Name, secret: &[u8; 32]) -> Result<Credential> {
    wrap(ek, ak, secret).doing("making a credential")
}

fn wrap(ek: &Ek, ak: &Name, secret: &[u8; 32]) -> Result<Credential> {
    let (seed, encrypted_secret) = match ek.key() {
        PublicKey::Rsa(key) => by_rsa(key)?,
        PublicKey::Ecc(key) => by_ecdh(key)?,
    };
    let key = kdfa::<16>(&seed[..], b"STORAGE\0", ak.as_bytes())?;
    let mut identity = Zeroizing::new(sized(secret)?);
    let cipher = cfb_mode::Encryptor::<Aes128>::new((&*key).into(), &[0; 16].into());
    cipher.encrypt(&mut identity);
    let key = kdfa::<32>(&seed[..], b"INTEGRITY\0", &[])?;
    let hmac = hmac(&key[..], &[&identity, ak.as_bytes()])?;
    let body = [&sized(&hmac[..])?[..], &identity].concat();
    Ok(Credential {
        id_object: sized(&body)?,
        encrypted_secret: sized(&encrypted_secret)?,
    })
}

type Seed = Zeroizing<[u8; SEED_LEN]>;

/// A random seed, encrypted (part 1, annex B.10.4).
fn by_rsa(key: &rsa::PublicKey) -> Result<(Seed, Vec<u8>)> {
    let mut seed = Zeroizing::new([0; SEED_LEN]);
    fill_random(&mut seed[..])?;
    let encrypted = EncryptingKey::<Sha256>::new_with_label(key.clone(), IDENTITY)
        .encrypt_with_rng(&mut SysRng, &seed[..])
        .map_err(|error| Error::failure(format_args!("RSA: {error}")))?;
    Ok((seed, encrypted))
}

/// A seed agreed on with a key of one use, whose point travels (part 1, annex C.6.1).
fn by_ecdh(theirs: &p256::PublicKey) -> Result<(Seed, Vec<u8>)> {
    let ours = agree(theirs)?;
    let (x, y) = (ours.x, ours.y);
    let [their_x, _] = coordinates(theirs)?;
    // KDFe(hash, Z, use, PartyUInfo, PartyVInfo, bits): one round gives all 256 bits.
    let seed = Sha256::new()
        .chain_update(1_u32.to_be_bytes())
        .chain_update(&ours.shared[..])
        .chain_update(IDENTITY)
        .chain_update(x)
        .chain_update(their_x)
        .finalize();
    let point = [sized(&x)?, sized(&y)?].concat();
    Ok((Zeroizing::new(seed.into()), point))
}

fn coordinates(key: &p256::PublicKey) -> Result<[[u8; 32]; 2]> {
    let point = key.to_sec1_point(false);
    match (point.x(), point.y()) {
        (Some(x), Some(y)) => Ok([(*x).into(), (*y).into()]),
        _ => Err(Error::failure("the point at infinity is no key")),
    }
}

/// KDFa(SHA-256, seed, label, context, none, 8 × N); one round gives up to 256 bits. The label ends with its zero.
fn kdfa<const N: usize>(seed: &[u8], label: &[u8], context: &[u8]) -> Result<Zeroizing<[u8; N]>> {
    let bits = u32::try_from(N)
        .ok()
        .and_then(|len| len.checked_mul(8))
        .ok_or_else(|| Error::failure("a key too long"))?;
    let round = hmac(
        seed,
        &[&1_u32.to_be_bytes(), label, context, &bits.to_be_bytes()],
    )?;
    let mut key = Zeroizing::new([0; N]);
    let bytes = round
        .get(..N)
        .ok_or_else(|| Error::failure("a key longer than one round of KDFa"))?;
    key.copy_from_slice(bytes);
    Ok(key)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|error| Error::failure(format_args!("HMAC: {error}")))?;
    for part in parts {
        mac.update(part);
    }
    Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
}

/// A `TPM2B`: two bytes of length, then the bytes.
fn sized(bytes: &[u8]) -> Result<Vec<u8>> {
    let len = u16::try_from(bytes.len()).map_err(Error::failure)?;
    Ok([&len.to_be_bytes(), bytes].concat())
}

#[cfg(test)]
mod tests;
