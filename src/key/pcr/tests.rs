// SPDX-License-Identifier: Apache-2.0
use std::sync::OnceLock;

use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use openssl::symm::Cipher;

use super::*;
use crate::error::Exit;

fn generated(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

/// Two keys of the tests' own, made once: making one takes a while.
pub(crate) fn made() -> &'static [PKey<Private>; 2] {
    static KEYS: OnceLock<[PKey<Private>; 2]> = OnceLock::new();
    KEYS.get_or_init(|| [generated(2048), generated(2048)])
}

fn taken(pem: Vec<u8>) -> Result<PcrKey> {
    PcrKey::from_pem(&Secret::new(pem))
}

pub(crate) fn key(made: &PKey<Private>) -> PcrKey {
    taken(made.private_key_to_pem_pkcs8().unwrap()).unwrap()
}

/// OpenSSL takes what is signed here, and tells another message and another key.
#[test]
fn a_signature_is_what_openssl_verifies() {
    let [made, other] = made();
    let ours = key(made);
    let signature = ours.sign(b"message").unwrap();
    let is_good = |made: &PKey<Private>, message: &[u8]| {
        let mut verifier = Verifier::new(MessageDigest::sha256(), made).unwrap();
        verifier.verify_oneshot(&signature, message).unwrap()
    };
    assert!(is_good(made, b"message"));
    assert!(!is_good(made, b"other"));
    assert!(!is_good(other, b"message"));
    let public = ours.public();
    assert!(public.has_signed(b"message", &signature));
    assert!(!public.has_signed(b"other", &signature));
    assert!(!public.has_signed(b"message", &signature[1..]));
    assert!(!key(other).public().has_signed(b"message", &signature));
}

#[test]
fn a_key_is_the_same_however_it_is_written() {
    let [made, other] = made();
    let pkcs1 = made.rsa().unwrap().private_key_to_pem().unwrap();
    let spki = made.public_key_to_pem().unwrap();
    // i2d_PublicKey, not the SubjectPublicKeyInfo.
    let der = made.rsa().unwrap().public_key_to_der_pkcs1().unwrap();
    let fingerprint: [u8; 32] = Sha256::digest(der).into();
    assert_eq!(key(made).public().fingerprint(), fingerprint);
    assert_eq!(taken(pkcs1).unwrap().public().fingerprint(), fingerprint);
    // A section of an image may be filled up.
    for end in [&b""[..], b"\n", b"\0\0\0", b"\n\n\0"] {
        let public = PcrPublicKey::from_pem(&[&spki, end].concat()).unwrap();
        assert_eq!(public.fingerprint(), fingerprint);
    }
    assert_ne!(key(other).public().fingerprint(), fingerprint);
}

/// Whatever a TPM computes of it is the same as what systemd has it load: see the cases with `systemd-cryptsetup`.
#[test]
fn a_key_has_the_public_area_and_the_pem_that_others_write() {
    let [made, other] = made();
    let ours = key(made);
    let public = ours.public();
    assert_eq!(public.pem().as_bytes(), made.public_key_to_pem().unwrap());
    assert_eq!(public.to_string(), hex::encode(public.fingerprint()));
    let area = public.public_area();
    let start = "0001000b000600400000001000100800000100010100";
    assert_eq!(hex::encode(&area[..22]), start);
    assert_eq!(area[22..], made.rsa().unwrap().n().to_vec());
    let name = [&[0, 0x0b][..], &Sha256::digest(&area)].concat();
    assert_eq!(public.name().bytes(), name);
    assert_ne!(key(other).public().name(), public.name());
}

#[test]
fn what_is_no_such_key_is_told() {
    let [made, _] = made();
    let pem = made.private_key_to_pem_pkcs8().unwrap();
    taken(pem.clone()).unwrap();
    let encrypted = made
        .private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"pass")
        .unwrap();
    let curve = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
    let curve = PKey::from_ec_key(openssl::ec::EcKey::generate(&curve).unwrap()).unwrap();
    let exponent = BigNum::from_u32(3).unwrap();
    let three = PKey::from_rsa(Rsa::generate_with_e(2048, &exponent).unwrap()).unwrap();
    let pkcs8 = |key: &PKey<Private>| key.private_key_to_pem_pkcs8().unwrap();
    for (bad, why) in [
        (b"text".to_vec(), "expected an RSA private key in PEM"),
        (vec![0xff], "expected an RSA private key in PEM"),
        (
            pem[..pem.len() - 100].to_vec(),
            "expected an RSA private key in PEM",
        ),
        (encrypted, "found ENCRYPTED PRIVATE KEY"),
        (made.public_key_to_pem().unwrap(), "found PUBLIC KEY"),
        (pkcs8(&curve), "expected an RSA private key in PEM"),
        (
            pkcs8(&generated(1024)),
            "expected an RSA key of 2048 bits, which each TPM takes, found 1024",
        ),
        (pkcs8(&three), "expected an RSA key with the exponent 65537"),
    ] {
        let error = taken(bad).unwrap_err();
        assert_eq!(error.exit(), Exit::Config);
        assert!(error.to_string().contains(why), "{error}");
    }
    for bad in [&b""[..], b"\0\0", &pem, &curve.public_key_to_pem().unwrap()] {
        let error = PcrPublicKey::from_pem(bad).unwrap_err();
        let why = "expected an RSA public key in PEM";
        assert!(error.to_string().starts_with(why), "{error}");
    }
}

#[test]
fn a_key_does_not_print_its_bytes() {
    assert_eq!(format!("{:?}", key(&made()[0])), "PcrKey(..)");
}
