// SPDX-License-Identifier: Apache-2.0
use serde_json::{Value, json};

use super::*;
use crate::error::Exit;
use crate::support::pcr_key::{PcrKey, file};

/// From `systemd-measure sign` of systemd 254 over sections of 7, 6 and 7 bytes, and a software TPM that has loaded its key.
/// PCR 11 in the initrd, and the policy that is signed.
const VALUE: &str = "b856b524b4cb96ea3c018da29deb000698458b221f756928546c9667a69fae88";
const POLICY: &str = "006ef278db89030332f46f64d2ea0ba0650de6ba92174f88b56c815d3eb3f58c";

#[test]
fn what_is_signed_is_what_systemd_measure_signs() {
    let value = hex::decode(VALUE).unwrap();
    let entry = PcrKey::new().entry(Bank::Sha256, &value);
    assert_eq!(entry["pol"], POLICY);
}

#[test]
fn a_key_has_its_fingerprint_and_the_public_area_that_systemd_loads() {
    let key = PcrKey::new();
    let public = key.public();
    assert_eq!(public.pem().as_bytes(), key.pem());
    assert_eq!(
        key.entry(Bank::Sha256, &[0; 32])["pkfp"],
        public.to_string()
    );
    let area = public.public_area();
    assert_eq!(
        hex::encode(&area[..22]),
        "0001000b000600400000001000100800000100010100"
    );
    assert_eq!(area.len(), 22 + MODULUS_LEN);
    assert_eq!(public.name().bytes()[..2], [0, 0x0b]);
}

#[test]
fn only_what_every_tpm_knows_is_a_key() {
    let pem = String::from_utf8(PcrKey::new().pem()).unwrap();
    PolicyKey::parse(pem.as_bytes()).unwrap();
    PolicyKey::parse(format!("\n{pem}\n").as_bytes()).unwrap();
    let large = String::from_utf8(PcrKey::of_bits(3072).pem()).unwrap();
    let small = String::from_utf8(PcrKey::of_bits(1024).pem()).unwrap();
    let curve = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n\
        -----END PUBLIC KEY-----\n";
    let private = pem.replace("PUBLIC", "PRIVATE");
    for wrong in ["", "no key", &pem[..100], &large, &small, curve, &private] {
        let error = PolicyKey::parse(wrong.as_bytes()).unwrap_err();
        assert_eq!(error.exit(), Exit::Config);
        assert!(
            error
                .to_string()
                .starts_with("expected an RSA key with 2048 bits and exponent 65537 in PEM"),
            "{error}"
        );
    }
}

#[test]
fn what_a_signature_is_not_meant_for_is_passed_over() {
    let key = PcrKey::new();
    let value = [7; 32];
    let policy: [u8; 32] = hex::decode(key.entry(Bank::Sha256, &value)["pol"].as_str().unwrap())
        .unwrap()
        .try_into()
        .unwrap();
    let find = |change: &dyn Fn(&mut Value)| {
        let mut entry = key.entry(Bank::Sha256, &value);
        change(&mut entry);
        let signatures = PcrSignatures::parse(&file(&[entry]), Bank::Sha256).unwrap();
        signatures.find(&key.public(), &policy).is_ok()
    };
    assert!(find(&|_| ()));
    // What later versions add.
    assert!(find(&|entry| entry["tbs"] = json!("00")));
    assert!(!find(&|entry| entry["ref"] = json!("initrd")));
    assert!(!find(&|entry| entry["pcrs"] = json!([4, 11])));
    assert!(!find(&|entry| entry["pkfp"] = json!("00".repeat(32))));
    assert!(!find(&|entry| entry["pkfp"] = json!("no digest")));
    assert!(!find(&|entry| entry["pol"] = json!("00".repeat(32))));
    assert!(!find(&|entry| entry["sig"] = json!("AAAA")));
    // Signatures of another bank's values are not of this one's.
    let other = json!({"sha384": [key.entry(Bank::Sha256, &value)]}).to_string();
    let other = PcrSignatures::parse(other.as_bytes(), Bank::Sha256).unwrap();
    assert_eq!(other, PcrSignatures(Vec::new()));
}

#[test]
fn what_is_no_file_of_signatures_is_refused_and_padding_is_none() {
    let key = PcrKey::new();
    let good = file(&[key.entry(Bank::Sha256, &[1; 32])]);
    PcrSignatures::parse(&good, Bank::Sha256).unwrap();
    // ukify pads the section with spaces.
    let padded = [&good[..], b"    \n"].concat();
    PcrSignatures::parse(&padded, Bank::Sha256).unwrap();
    assert_eq!(
        PcrSignatures::parse(b"{}", Bank::Sha256).unwrap(),
        PcrSignatures(Vec::new())
    );
    for wrong in [
        &b""[..],
        b"{\"sha256\":7}",
        &good[..good.len() - 1],
        b"\xff",
    ] {
        let error = PcrSignatures::parse(wrong, Bank::Sha256).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
    }
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 1;
        drop(PcrSignatures::parse(&altered, Bank::Sha256));
    }
}
