// SPDX-License-Identifier: Apache-2.0
//! The client of AWS KMS: what it asks, and what it makes of each answer. The stub's bodies follow AWS's pages; a server of
//! others is asked in tests/kms.

use serde_json::{Value, json};

use super::answers::ROWS;
use super::*;
use crate::keyservice::kms::cloud::Cloud;
use crate::keyservice::kms::stub::{Asked, Told, told};
use crate::keyservice::kms::{Kms, MASTER_ID};

const KEY: &str = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const PAIR: &str = r#"{"Version":1,"AccessKeyId":"AKIDGOOD","SecretAccessKey":"very-secret"}"#;

/// An AWS KMS: bytes that come back for the same context.
fn cloud() -> Cloud {
    Cloud::start(PAIR, |_| true, answer)
}

fn client(cloud: &Cloud) -> Kms {
    cloud.kms(&format!("provider = \"aws\"\nkey = \"{KEY}\"\n"))
}

fn answer(asked: &Asked) -> Told {
    let body = asked.json();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let context = body["EncryptionContext"].to_string();
    assert_eq!(text("KeyId"), KEY);
    match asked.header("x-amz-target") {
        "TrentService.Encrypt" if body["DryRun"] == true => error(412, "DryRunOperationException"),
        "TrentService.Encrypt" => {
            let bound = format!("{} {context}", text("Plaintext"));
            let blob = Base64::encode_string(bound.as_bytes());
            ok(&json!({ "CiphertextBlob": blob, "KeyId": KEY, "EncryptionAlgorithm": SYMMETRIC }))
        }
        "TrentService.Decrypt" => {
            let blob = Base64::decode_vec(&text("CiphertextBlob")).unwrap();
            let bound = String::from_utf8(blob).unwrap();
            match bound.split_once(' ') {
                Some((plaintext, bound)) if bound == context => {
                    ok(&json!({ "Plaintext": plaintext, "KeyId": KEY }))
                }
                _ => error(400, "InvalidCiphertextException"),
            }
        }
        "TrentService.DescribeKey" => ok(&described("Enabled", SYMMETRIC)),
        _ => error(400, "AccessDeniedException"),
    }
}

fn described(state: &str, spec: &str) -> Value {
    json!({ "KeyMetadata": { "KeyState": state, "KeySpec": spec, "Origin": "AWS_KMS", "Arn": KEY } })
}

fn ok(body: &Value) -> Told {
    told(200, body.to_string())
}

fn error(status: u16, name: &str) -> Told {
    told(
        status,
        json!({ "__type": name, "message": "It was said" }).to_string(),
    )
}

fn key() -> Secret {
    Secret::new(vec![7; 32])
}

#[test]
fn what_is_wrapped_comes_back_for_its_id_alone() {
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    assert_eq!(wrapped.kek, format!("aws:{KEY}"));
    let back = kms.unwrap(MASTER_ID, &wrapped).unwrap();
    assert_eq!(back.expose(), key().expose());
    let failure = kms.unwrap("other", &wrapped).unwrap_err();
    assert_eq!(failure.class, Class::Wrong, "{failure}");
    let asked = cloud.stub.asked();
    let first = &asked[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/"));
    assert_eq!(
        first.json()["EncryptionContext"],
        json!({ "nightlatch-id": "master" })
    );
    assert_eq!(first.header("host"), cloud.stub.at.to_string());
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&first.body));
    assert_eq!(first.header("x-amz-content-sha256"), digest);
    let scope = "/eu-central-1/kms/aws4_request, SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target,";
    let authorization = first.header("authorization");
    assert!(authorization.contains(scope), "{authorization}");
    assert!(!format!("{first:?}").contains("very-secret"));
}

#[test]
fn every_row_of_the_table_is_what_a_start_makes_of_that_answer() {
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    for row in &ROWS {
        for name in [
            row.error.to_owned(),
            format!("com.amazonaws.kms#{}:http://x", row.error),
        ] {
            let body = json!({ "__type": name, "message": format!("{} x", row.says) });
            let said = told(400, body.to_string());
            cloud.instead(&[said.clone(), said]);
            let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
            assert_eq!(failure.class, row.class, "{failure}");
            let text = failure.to_string();
            assert!(
                text.contains(row.what) && text.contains(row.error),
                "{text}"
            );
            let names_right = text.contains("kms:Decrypt on arn:aws:kms:");
            assert_eq!(names_right, row.class == Class::Denied, "{text}");
            assert!(!text.contains("very-secret"), "{text}");
            cloud.instead(&[]);
            // The control: the same call is granted.
            kms.unwrap(MASTER_ID, &wrapped).unwrap();
        }
    }
}

/// A key store that does not answer has the name of the error that a deletion has.
#[test]
fn a_state_that_ends_the_key_is_told_from_an_outage_by_its_text() {
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    for (says, class) in [
        (" is pending deletion.", Class::Gone),
        (" is pending replica deletion.", Class::Gone),
        (" is pending import.", Class::Gone),
        (" is unavailable.", Class::Away),
        (" is creating.", Class::Away),
        ("", Class::Away),
    ] {
        let message = format!("{KEY}{says}");
        let body = json!({ "__type": "KMSInvalidStateException", "message": message });
        cloud.instead(&[told(400, body.to_string())]);
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
    }
}

/// The text of this one repeats the request, and the token with it.
#[test]
fn a_text_that_may_repeat_a_token_is_not_quoted() {
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    for (name, is_quoted) in [
        ("InvalidSignatureException", false),
        ("SignatureDoesNotMatch", false),
        ("IncompleteSignatureException", false),
        ("AccessDeniedException", true),
    ] {
        let message = "x-amz-security-token:to/ken";
        let said = told(
            400,
            json!({ "__type": name, "message": message }).to_string(),
        );
        cloud.instead(&[said.clone(), said]);
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, Class::Denied, "{failure}");
        let text = failure.to_string();
        assert!(text.contains(name), "{text}");
        assert_eq!(text.contains("to/ken"), is_quoted, "{text}");
    }
}

#[test]
fn what_no_row_explains_is_away() {
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    for (status, body) in [
        (200, "<html>sign in</html>"),
        (200, "{}"),
        (400, "{\"__type\":\"SomethingNew\"}"),
        (400, "{\"message\":\"DisabledException\"}"),
        (403, "<ErrorResponse/>"),
        (403, ""),
        (404, "DisabledException"),
        (500, ""),
        (503, "{}"),
        (301, ""),
    ] {
        cloud.instead(&[told(status, body)]);
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, Class::Away, "{status} {body}: {failure}");
    }
    kms.unwrap(MASTER_ID, &wrapped).unwrap();
}

#[test]
fn a_denial_is_asked_about_twice_with_the_key_pair_read_anew() {
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    let before = cloud.stub.asked().len();
    cloud.instead(&[error(400, "ExpiredTokenException")]);
    kms.unwrap(MASTER_ID, &wrapped).unwrap();
    assert_eq!(cloud.stub.asked().len(), before + 2);
}

#[test]
fn another_key_in_the_file_or_in_an_answer_is_wrong() {
    let cloud = cloud();
    let kms = client(&cloud);
    let mut wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    let other = KEY.replace("1234abcd", "00000000");
    let plaintext = Base64::encode_string(&[7; 32]);
    cloud.instead(&[ok(&json!({ "Plaintext": plaintext, "KeyId": other }))]);
    let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
    assert_eq!(failure.class, Class::Wrong, "{failure}");
    cloud.instead(&[ok(&json!({ "CiphertextBlob": "AA==", "KeyId": other }))]);
    let failure = kms.wrap(MASTER_ID, &key()).unwrap_err();
    assert_eq!(failure.class, Class::Unusable, "{failure}");
    cloud.instead(&[ok(&json!({ "Plaintext": "AAAA", "KeyId": KEY }))]);
    let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
    assert_eq!(failure.class, Class::Wrong, "{failure}");
    kms.unwrap(MASTER_ID, &wrapped).unwrap();
    let before = cloud.stub.asked().len();
    for kek in [
        format!("aws:{other}"),
        format!("aws:{KEY}:v1"),
        KEY.to_owned(),
    ] {
        wrapped.kek = kek;
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, Class::Wrong, "{failure}");
    }
    assert_eq!(cloud.stub.asked().len(), before);
}

#[test]
fn a_key_is_described_by_its_state_and_kind() {
    let cloud = cloud();
    let kms = client(&cloud);
    assert_eq!(kms.describe().unwrap().kind, SYMMETRIC);
    for (state, spec, class) in [
        ("Disabled", SYMMETRIC, Class::Gone),
        ("PendingDeletion", SYMMETRIC, Class::Gone),
        ("PendingImport", SYMMETRIC, Class::Gone),
        ("Unavailable", SYMMETRIC, Class::Away),
        ("Creating", SYMMETRIC, Class::Away),
        ("Enabled", "RSA_2048", Class::Unusable),
    ] {
        cloud.instead(&[ok(&described(state, spec))]);
        let failure = kms.describe().unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
    }
}

#[test]
fn rights_are_tried_dry() {
    let cloud = cloud();
    let rights = client(&cloud).rights().unwrap().unwrap();
    let right = |operation: &str| format!("kms:{operation} on {KEY}");
    assert_eq!(
        rights.only_commands,
        [right("Encrypt"), right("DescribeKey")]
    );
    assert_eq!(rights.excess, [""; 0]);
    // Of four questions the last two, each denied twice, come first in the list.
    let denied = || error(400, "AccessDeniedException");
    let may = || error(412, "DryRunOperationException");
    cloud.instead(&[may(), may(), denied(), denied(), denied(), denied()]);
    let rights = client(&cloud).rights().unwrap().unwrap();
    assert_eq!(rights.only_commands, [""; 0]);
    let excess = [
        right("GenerateDataKey"),
        right("GenerateDataKeyWithoutPlaintext"),
    ];
    assert_eq!(rights.excess, excess);
}

#[test]
fn a_file_that_is_no_key_pair_is_told_without_what_is_in_it() {
    let cloud = cloud();
    let kms = client(&cloud);
    kms.describe().unwrap();
    for bad in [
        "very-secret",
        "{\"SecretAccessKey\":\"very-secret\"}",
        "[default]\nx = very-secret",
    ] {
        cloud.hand_over(bad);
        let failure = kms.describe().unwrap_err();
        assert_eq!(failure.class, Class::Unusable, "{failure}");
        assert!(!failure.to_string().contains("very-secret"), "{failure}");
    }
    cloud.hand_over("");
    assert_eq!(kms.describe().unwrap_err().class, Class::Away);
    cloud.hand_over(PAIR);
    kms.describe().unwrap();
}
