// SPDX-License-Identifier: Apache-2.0
//! The token of a secret that is sealed to a TPM.

use base64ct::{Base64, Encoding};

use super::*;
use crate::sealed::values::SealedValues;
use crate::support::pcr_key;

#[test]
fn rule_c13_a_tpm_token_has_no_factor_but_pcrs() {
    let ours = Fixture::ours();
    check(&ours).unwrap();
    for (from, to, expected) in [
        (
            r#""tpm2-pin":false"#,
            r#""tpm2-pin":true"#,
            "tpm2-pin: expected false, found true",
        ),
        (
            r#""tpm2-pin":false"#,
            r#""tpm2_pcrlock":true"#,
            "tpm2_pcrlock: expected false, found true",
        ),
        (
            r#""tpm2-pin":false"#,
            r#""tpm2_pubkey":"AA==""#,
            "tpm2_pubkey_pcrs: expected this key, found none",
        ),
        (
            r#""tpm2-pin":false"#,
            r#""tpm2_pubkey_pcrs":[11]"#,
            "tpm2_pubkey_pcrs: expected no such key, found one",
        ),
        (
            r#""tpm2-pin":false"#,
            r#""tpm2_pubkey":"AA==","tpm2_pubkey_pcrs":[11]"#,
            "tpm2_pubkey: expected an RSA public key in PEM, as `openssl rsa -pubout` writes it: PEM preamble contains invalid data (NUL byte)",
        ),
        (
            r#""tpm2-pin":false"#,
            r#""tpm2_salt":"AA==""#,
            "tpm2_salt: expected no such key, found one",
        ),
        (
            "[7,11,12]",
            "[]",
            "tpm2-pcrs: expected at least one PCR, or any boot could unseal, found an array",
        ),
        (
            "[7,11,12]",
            "[7,7]",
            "tpm2-pcrs.1: expected PCRs from 0 to 15 in ascending order, found 7",
        ),
        (
            "[7,11,12]",
            "[23]",
            "tpm2-pcrs.0: expected PCRs from 0 to 15 in ascending order, found 23",
        ),
        (
            r#""tpm2-pcr-bank":"sha256""#,
            r#""tpm2-pcr-bank":"sha1""#,
            "tpm2-pcr-bank: expected \"sha256\" or \"sha384\", found \"sha1\"",
        ),
        (
            r#""ecc""#,
            r#""x""#,
            "tpm2-primary-alg: expected \"ecc\" or \"rsa\", found \"x\"",
        ),
        (
            "8ce5a74b",
            "8CE5a74b",
            "tpm2-policy-hash: expected lower-case hexadecimal, found \"8CE5a74bf207172cc78feb4024174b5422a63fa219045a85f16e94e1c76caec1\"",
        ),
        (
            "8ce5a74b",
            "8ce5a74c",
            "tpm2-blob: expected a sealed object with the policy in tpm2-policy-hash, found another",
        ),
        (
            r#""tpm2-blob":"AJ4A"#,
            r#""tpm2-blob":["AJ4A"],"x":"AJ4A"#,
            "tpm2-blob: expected a string, found an array",
        ),
        (
            "\"gQAAAQ",
            "\"gQAAAg",
            "tpm2_srk: expected the key at handle 0x81000001, found another",
        ),
        (
            "///glg==",
            "///glgA=",
            "tpm2_srk: expected a serialised key object, found something else",
        ),
    ] {
        assert_eq!(
            refusal(check(&ours.with(from, to))),
            format!("rule C13: tokens.1.{expected}")
        );
    }
}

#[test]
fn a_token_with_the_key_that_has_to_have_signed_is_read_and_written_back_the_same() {
    let key = pcr_key::new();
    let ours = Fixture::ours();
    let pem = Base64::encode_string(key.public().pem().as_bytes());
    let with = |more: &str| {
        let to = format!(r#""tpm2-pin":false,"tpm2_pubkey":"{pem}"{more}"#);
        check(&ours.with(r#""tpm2-pin":false"#, &to))
    };
    let token = with(r#","tpm2_pubkey_pcrs":[11]"#).unwrap().tpm.unwrap();
    assert_eq!(token.key, Some(key.public().clone()));
    let mut written: Value = serde_json::from_str(TPM2).unwrap();
    written["tpm2_pubkey"] = pem.clone().into();
    written["tpm2_pubkey_pcrs"] = serde_json::json!([11]);
    assert_eq!(token.to_json(), written);
    for (more, expected) in [
        (
            r#","tpm2_pubkey_pcrs":[4,11]"#,
            "tpm2_pubkey_pcrs: expected PCR 11 alone, found an array",
        ),
        (
            r#","tpm2_pubkey_pcrs":[]"#,
            "tpm2_pubkey_pcrs: expected at least one PCR, or any boot could unseal, found an array",
        ),
        (
            r#","tpm2_pubkey_pcrs":[11],"tpm2_pubkey_ref":"initrd""#,
            "tpm2_pubkey_ref: expected no such key, found one",
        ),
    ] {
        assert_eq!(
            refusal(with(more)),
            format!("rule C13: tokens.1.{expected}")
        );
    }
}

#[test]
fn rule_c13_a_blob_is_an_object_only_this_tpm_can_have_made() {
    let token = tpm2();
    let ours = Fixture::ours();
    let [private, public] = [&token.private, &token.public];
    let sized = |body: &[u8]| [&u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
    let with_blob = |blob: Vec<u8>| {
        let old = Base64::encode_string(&[sized(private), sized(public)].concat());
        check(&ours.with(&old, &Base64::encode_string(&blob)))
    };
    let with_public = |at: usize, what: &[u8]| {
        let mut other = public.clone();
        other[at..at + what.len()].copy_from_slice(what);
        with_blob([sized(private), sized(&other)].concat())
    };
    // The controls: the blob itself, and the attribute newer versions of systemd add.
    with_blob([sized(private), sized(public)].concat()).unwrap();
    with_public(4, &0x412_u32.to_be_bytes()).unwrap();

    let refused = |result: Result<Checked>, expected: &str| {
        let expected = format!("rule C13: tokens.1.tpm2-blob: expected {expected}");
        assert_eq!(refusal(result), expected);
    };
    let seed = [sized(private), sized(public), sized(&[1; 32])].concat();
    refused(
        with_blob(seed),
        "nothing after the TPM2B_PUBLIC, found an import seed",
    );
    refused(
        with_blob(sized(private)),
        "a TPM2B_PRIVATE and a TPM2B_PUBLIC, found less",
    );
    let empty = [sized(&[]), sized(public)].concat();
    refused(with_blob(empty), "a private part, found an empty one");
    let fixed = "a sealed object with attributes fixedTPM and fixedParent and without userWithAuth, found another";
    refused(with_public(4, &0_u32.to_be_bytes()), fixed);
    refused(with_public(4, &0x52_u32.to_be_bytes()), fixed);
    refused(
        with_public(0, &[0, 1]),
        "a sealed object with type KEYEDHASH, found another",
    );
    refused(
        with_public(2, &[0, 4]),
        "a sealed object with name algorithm SHA256, found another",
    );
    refused(
        with_public(42, &[0, 5]),
        "a sealed object with scheme NULL, found another",
    );
    refused(
        with_public(44, &[0, 31]),
        "a sealed object with a unique field of 32 bytes at its end, found another",
    );
}

/// What the PCRs held is ours to write, in as many bytes as the token's list has PCRs, and in the second form alone.
#[test]
fn the_values_of_sealing_time_are_read_back_and_fit_the_list_of_pcrs() {
    let values = SealedValues::new((0..96).collect());
    let token = Tpm2Token {
        values: Some(values),
        ..tpm2()
    };
    let with = |token: &Tpm2Token| Fixture::ours().with(TPM2, &token.to_json().to_string());
    let in_second = |token: &Tpm2Token| with(token).with("nightlatch-1", "nightlatch-2");
    let checked = check(&in_second(&token)).unwrap();
    assert_eq!(checked.profile_name(), "nightlatch-2");
    assert_eq!(checked.tpm, Some(token.clone()));
    let error = refusal(check(&with(&token)));
    assert!(
        error.ends_with("none of our values in form nightlatch-1, found some"),
        "{error}"
    );
    for len in [0, 32, 95, 97, 128] {
        let other = Tpm2Token {
            values: Some(SealedValues::new(vec![7; len])),
            ..token.clone()
        };
        let error = refusal(check(&in_second(&other)));
        assert!(
            error.contains("nightlatch-pcr-values: expected one value for each of tpm2-pcrs"),
            "{len}: {error}"
        );
    }
}
