// SPDX-License-Identifier: Apache-2.0
//! What machines of the tests do on P-256, by OpenSSL: none of it is what the service checks it with, and a thousand
//! machines at once leave the service some of the processors.

use base64ct::{Base64UrlUnpadded, Encoding};
use openssl::aes::{AesKey, unwrap_key};
use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{EcGroup, EcGroupRef, EcKey, EcPoint, EcPointRef};
use openssl::ecdsa::EcdsaSig;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sha::{Sha256, sha256};
use openssl::symm::{Cipher, decrypt_aead};

use nightlatch::protocol::{EphemeralKey, Jwe};

/// A private key on the curve.
pub(crate) type Key = EcKey<Private>;

/// The key with this private number.
pub(crate) fn key(scalar: &[u8; 32]) -> Key {
    let group = group();
    let scalar = BigNum::from_slice(scalar).unwrap();
    let mut public = EcPoint::new(&group).unwrap();
    public
        .mul_generator2(&group, &scalar, &mut context())
        .unwrap();
    EcKey::from_private_components(&group, &scalar, &public).unwrap()
}

/// A key as `SubjectPublicKeyInfo`.
pub(crate) fn spki(key: &Key) -> Vec<u8> {
    let key = PKey::from_ec_key(key.clone()).unwrap();
    key.public_key_to_der().unwrap()
}

/// A new key.
pub(super) fn generate() -> Key {
    EcKey::generate(&group()).unwrap()
}

/// Its public point.
pub(super) fn public(key: &Key) -> [[u8; 32]; 2] {
    coordinates(key.group(), key.public_key())
}

/// Its public point as a JSON web key (RFC 7517, RFC 7518 section 6.2).
pub(super) fn web_key(key: &Key) -> EphemeralKey {
    let [x, y] = public(key).map(|bytes| Base64UrlUnpadded::encode_string(&bytes));
    EphemeralKey {
        kty: "EC".into(),
        crv: "P-256".into(),
        alg: "ECDH-ES+A256KW".into(),
        x,
        y,
    }
}

/// Signs with ECDSA and SHA-256: both numbers.
pub(super) fn sign(key: &Key, message: &[u8]) -> [[u8; 32]; 2] {
    let signature = EcdsaSig::sign(&sha256(message), key).unwrap();
    [padded(signature.r()), padded(signature.s())]
}

/// Agrees with the holder of a point on a secret, if it is on the curve.
pub(super) fn agree(key: &Key, x: &[u8], y: &[u8]) -> Option<[u8; 32]> {
    let group = key.group();
    let number = |bytes| BigNum::from_slice(bytes).unwrap();
    let mut theirs = EcPoint::new(group).unwrap();
    theirs
        .set_affine_coordinates_gfp(group, &number(x), &number(y), &mut context())
        .ok()?;
    let mut both = EcPoint::new(group).unwrap();
    both.mul2(group, &theirs, key.private_key(), &mut context())
        .unwrap();
    let [shared, _] = coordinates(group, &both);
    Some(shared)
}

/// Decrypts what was encrypted with ECDH-ES+A256KW and A256GCM (RFC 7518, sections 4.6 and 5.3).
pub(super) fn open(key: &Key, jwe: &Jwe) -> Option<Vec<u8>> {
    let bytes = |text: &str| Base64UrlUnpadded::decode_vec(text).ok();
    let header: serde_json::Value = serde_json::from_slice(&bytes(&jwe.protected)?).ok()?;
    if (&header["alg"], &header["enc"]) != (&"ECDH-ES+A256KW".into(), &"A256GCM".into()) {
        return None;
    }
    let [x, y] = ["x", "y"].map(|name| header["epk"][name].as_str());
    let shared = agree(key, &bytes(x?)?, &bytes(y?)?)?;
    // The Concat KDF: one round, the algorithm's name behind its length, no parties, 256 bits.
    let mut hash = Sha256::new();
    hash.update(&[0, 0, 0, 1]);
    hash.update(&shared);
    hash.update(b"\0\0\0\x0eECDH-ES+A256KW");
    hash.update(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    let wrapping = AesKey::new_decrypt(&hash.finish()).ok()?;
    let mut content_key = [0; 32];
    unwrap_key(
        &wrapping,
        None,
        &mut content_key,
        &bytes(&jwe.encrypted_key)?,
    )
    .ok()?;
    decrypt_aead(
        Cipher::aes_256_gcm(),
        &content_key,
        Some(&bytes(&jwe.iv)?),
        jwe.protected.as_bytes(),
        &bytes(&jwe.ciphertext)?,
        &bytes(&jwe.tag)?,
    )
    .ok()
}

fn group() -> EcGroup {
    EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()
}

fn context() -> BigNumContext {
    BigNumContext::new().unwrap()
}

fn coordinates(group: &EcGroupRef, point: &EcPointRef) -> [[u8; 32]; 2] {
    let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    point
        .affine_coordinates(group, &mut x, &mut y, &mut context())
        .unwrap();
    [padded(&x), padded(&y)]
}

fn padded(number: &BigNumRef) -> [u8; 32] {
    number.to_vec_padded(32).unwrap().try_into().unwrap()
}
