// SPDX-License-Identifier: Apache-2.0
//! The client of Cloud KMS: what it asks, and what it makes of each answer. There is no server of others to ask: the stub
//! speaks what Google's pages say.

use serde_json::{Value, json};

use super::answers::ROWS;
use super::login::tests::{account, private_key};
use super::*;
use crate::keyservice::kms::cloud::Cloud;
use crate::keyservice::kms::stub::{Asked, Stub, Told, told};
use crate::keyservice::kms::{Kms, MASTER_ID};

const KEY: &str = "projects/example/locations/europe-west3/keyRings/ring/cryptoKeys/nightlatch";

/// A Cloud KMS: bytes that come back for the same additional data.
fn cloud() -> Cloud {
    Cloud::start(&account(&private_key()), |_| true, answer)
}

fn client(cloud: &Cloud) -> Kms {
    cloud.kms(&format!("provider = \"gcp\"\nkey = \"{KEY}\"\n"))
}

fn answer(asked: &Asked) -> Told {
    let body = asked.json();
    let bytes = |name: &str| Base64::decode_vec(body[name].as_str().unwrap_or_default()).unwrap();
    let is_whole = |name: &str| body[format!("{name}Crc32c")] == checksum(&bytes(name)).as_str();
    assert!(asked.header("authorization").starts_with("Bearer ey"));
    let aad = Base64::encode_string(&bytes("additionalAuthenticatedData"));
    match asked.path.strip_prefix(&format!("/v1/{KEY}")) {
        Some(":encrypt") => {
            let both = is_whole("plaintext") && is_whole("additionalAuthenticatedData");
            let bound = format!("{} {aad}", Base64::encode_string(&bytes("plaintext")));
            ok(&encrypted(bound.as_bytes(), both))
        }
        Some(":decrypt") => {
            assert!(is_whole("ciphertext") && is_whole("additionalAuthenticatedData"));
            let bound = String::from_utf8(bytes("ciphertext")).unwrap();
            match bound.split_once(' ') {
                Some((plaintext, bound)) if bound == aad => {
                    let bytes = Base64::decode_vec(plaintext).unwrap();
                    ok(
                        &json!({ "plaintext": plaintext, "plaintextCrc32c": checksum(&bytes), "usedPrimary": true }),
                    )
                }
                _ => error(
                    400,
                    "INVALID_ARGUMENT",
                    "Decryption failed: verify that 'name' refers to the correct CryptoKey.",
                ),
            }
        }
        Some("") => ok(&described("ENABLED", PURPOSE)),
        Some(":testIamPermissions") => ok(&json!({ "permissions": [
            "cloudkms.cryptoKeyVersions.useToDecrypt",
            "cloudkms.cryptoKeys.get",
            "cloudkms.cryptoKeyVersions.destroy",
        ] })),
        _ => error(404, "NOT_FOUND", "not found"),
    }
}

fn encrypted(bytes: &[u8], is_verified: bool) -> Value {
    json!({
        "name": format!("{KEY}/cryptoKeyVersions/3"),
        "ciphertext": Base64::encode_string(bytes),
        "ciphertextCrc32c": checksum(bytes),
        "verifiedPlaintextCrc32c": is_verified,
        "verifiedAdditionalAuthenticatedDataCrc32c": is_verified,
        "protectionLevel": "HSM",
    })
}

fn described(state: &str, purpose: &str) -> Value {
    json!({ "name": KEY, "purpose": purpose, "primary": {
        "name": format!("{KEY}/cryptoKeyVersions/3"), "state": state,
        "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION", "protectionLevel": "HSM",
    } })
}

fn ok(body: &Value) -> Told {
    told(200, body.to_string())
}

fn error(code: u16, status: &str, message: &str) -> Told {
    let body = json!({ "error": { "code": code, "message": message, "status": status } });
    told(code, body.to_string())
}

fn key() -> Secret {
    Secret::new(vec![7; 32])
}

#[test]
fn what_is_wrapped_comes_back_for_its_id_alone() {
    let cloud = cloud();
    let kms = client(&cloud);
    let mut wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    assert_eq!(wrapped.kek, format!("gcp:{KEY}:v3"));
    assert!(kms.has_wrapped(&wrapped.kek));
    let back = kms.unwrap(MASTER_ID, &wrapped).unwrap();
    assert_eq!(back.expose(), key().expose());
    let failure = kms.unwrap("other", &wrapped).unwrap_err();
    assert_eq!(failure.class, Class::Wrong, "{failure}");
    let before = cloud.stub.asked().len();
    for kek in [
        format!("gcp:{KEY}2:v3"),
        format!("aws:{KEY}:v3"),
        format!("gcp:{KEY}"),
    ] {
        wrapped.kek = kek;
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, Class::Wrong, "{failure}");
    }
    assert_eq!(cloud.stub.asked().len(), before);
}

/// The checksum of "123456789" is the check value of CRC-32C (RFC 3720, appendix B.4, by the catalogue of its name).
#[test]
fn what_was_damaged_on_its_way_is_away_in_both_directions() {
    assert_eq!(checksum(b"123456789"), 0xe306_9283_u32.to_string());
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    let mut other = encrypted(b"bytes", true);
    other["ciphertext"] = json!(Base64::encode_string(b"Bytes"));
    let mut silent = encrypted(b"bytes", true);
    silent
        .as_object_mut()
        .unwrap()
        .remove("verifiedPlaintextCrc32c");
    for bad in [other, encrypted(b"bytes", false), silent] {
        cloud.instead(&[ok(&bad)]);
        let failure = kms.wrap(MASTER_ID, &key()).unwrap_err();
        assert_eq!(failure.class, Class::Away, "{failure}");
    }
    let plaintext = Base64::encode_string(&[7; 32]);
    for bad in [json!("1"), json!(1), json!("-1"), json!("x"), Value::Null] {
        cloud.instead(&[ok(
            &json!({ "plaintext": plaintext, "plaintextCrc32c": bad }),
        )]);
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, Class::Away, "{failure}");
    }
    // The controls: a checksum as text and as a number.
    for good in [json!(checksum(&[7; 32])), json!(crc32c::crc32c(&[7; 32]))] {
        cloud.instead(&[ok(
            &json!({ "plaintext": plaintext, "plaintextCrc32c": good }),
        )]);
        kms.unwrap(MASTER_ID, &wrapped).unwrap();
    }
}

#[test]
fn every_row_of_the_table_is_what_a_start_makes_of_that_answer() {
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    for row in &ROWS {
        let said = error(400, row.error, &format!("It {} x", row.says));
        cloud.instead(&[said.clone(), said]);
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, row.class, "{failure}");
        let text = failure.to_string();
        assert!(
            text.contains(row.what) && text.contains(row.error),
            "{text}"
        );
        let names_right = text.contains("cloudkms.cryptoKeyVersions.useToDecrypt on projects/");
        assert_eq!(names_right, row.class == Class::Denied, "{text}");
        assert!(!text.contains("Bearer") && !text.contains("eyJ"), "{text}");
        cloud.instead(&[]);
        // The control: the same call is granted.
        kms.unwrap(MASTER_ID, &wrapped).unwrap();
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
        (
            400,
            r#"{"error":{"status":"INVALID_ARGUMENT","message":"The checksum in field ciphertext_crc32c did not match"}}"#,
        ),
        (
            400,
            r#"{"error":{"status":"FAILED_PRECONDITION","message":"something new"}}"#,
        ),
        (400, r#"{"error":"NOT_FOUND"}"#),
        (403, "<html>forbidden</html>"),
        (404, "{}"),
        (404, "404 page not found"),
        (302, ""),
        (503, ""),
    ] {
        cloud.instead(&[told(status, body)]);
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, Class::Away, "{status} {body}: {failure}");
    }
    kms.unwrap(MASTER_ID, &wrapped).unwrap();
}

#[test]
fn a_clock_that_is_off_is_no_denial() {
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    let denied = |code: u16, status: &str, date: &str| {
        let (_, _, body) = error(code, status, "no");
        (code, format!("Date: {date}\r\n"), body)
    };
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    let past = "Sun, 30 Aug 2015 12:36:00 GMT";
    for (code, status, date, class) in [
        (401, "UNAUTHENTICATED", past, Class::Away),
        (401, "UNAUTHENTICATED", now.as_str(), Class::Denied),
        (401, "UNAUTHENTICATED", "no date", Class::Denied),
        // A token was taken, so the clock has nothing to do with it.
        (403, "PERMISSION_DENIED", past, Class::Denied),
    ] {
        cloud.instead(&[denied(code, status, date), denied(code, status, date)]);
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
        cloud.instead(&[]);
    }
}

/// By the metadata service, as the client of a machine in that cloud.
#[test]
fn a_clock_that_is_off_explains_no_token_of_the_metadata_service() {
    let google = |asked: &Asked| {
        if asked.path.starts_with("/computeMetadata") {
            let given = r#"{"access_token":"ya29.abcdefghijkl"}"#;
            return (200, "Metadata-Flavor: Google\r\n".into(), given.into());
        }
        let (_, _, body) = error(401, "UNAUTHENTICATED", "bad: ya29.abcdefghijkl");
        (401, "Date: Sun, 30 Aug 2015 12:36:00 GMT\r\n".into(), body)
    };
    let stub = Stub::start(google);
    let key = KeyName::try_from(KEY.to_owned()).unwrap();
    let gcp = Gcp {
        server: Server::on_link(&stub.url()),
        key,
        login: Login::Machine(Server::on_link(&stub.url())),
        deadline: Duration::from_secs(20),
    };
    let failure = gcp.describe().unwrap_err();
    assert_eq!(failure.class, Class::Denied, "{failure}");
    // Cloud KMS itself has said it, and a text that repeats the token is not quoted.
    let text = failure.to_string();
    assert!(text.contains("401") && !text.contains("ya29"), "{text}");
    assert_eq!(failure.while_running().class, Class::Denied);
}

#[test]
fn a_version_that_is_not_made_yet_is_told_from_one_that_is_destroyed() {
    let cloud = cloud();
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    for (state, class) in [
        ("PENDING_GENERATION", Class::Away),
        ("PENDING_IMPORT", Class::Away),
        ("PENDING_EXTERNAL_DESTRUCTION", Class::Gone),
        ("EXTERNAL_DESTRUCTION_FAILED", Class::Gone),
        ("DISABLED", Class::Gone),
    ] {
        let says = format!("{KEY}/cryptoKeyVersions/1 is not enabled, current state is: {state}.");
        cloud.instead(&[error(400, "FAILED_PRECONDITION", &says)]);
        let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
    }
}

#[test]
fn a_key_is_described_by_its_primary_version_and_its_purpose() {
    let cloud = cloud();
    let kms = client(&cloud);
    let found = kms.describe().unwrap();
    assert_eq!(found.kind, "GOOGLE_SYMMETRIC_ENCRYPTION");
    assert_eq!(found.versions, "version 3 wraps, held in HSM");
    for (body, class) in [
        (described("DISABLED", PURPOSE), Class::Gone),
        (described("DESTROYED", PURPOSE), Class::Gone),
        (described("DESTROY_SCHEDULED", PURPOSE), Class::Gone),
        (described("PENDING_GENERATION", PURPOSE), Class::Away),
        (described("ENABLED", "RAW_ENCRYPT_DECRYPT"), Class::Unusable),
        (described("ENABLED", "ASYMMETRIC_DECRYPT"), Class::Unusable),
        (
            described("PENDING_EXTERNAL_DESTRUCTION", PURPOSE),
            Class::Gone,
        ),
        (
            described("EXTERNAL_DESTRUCTION_FAILED", PURPOSE),
            Class::Gone,
        ),
        (json!({ "name": KEY, "purpose": PURPOSE }), Class::Gone),
    ] {
        cloud.instead(&[ok(&body)]);
        let failure = kms.describe().unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
    }
    let mut other = encrypted(b"bytes", true);
    other["name"] = json!(format!("{KEY}2/cryptoKeyVersions/1"));
    cloud.instead(&[ok(&other)]);
    let failure = kms.wrap(MASTER_ID, &key()).unwrap_err();
    assert_eq!(failure.class, Class::Unusable, "{failure}");
}

#[test]
fn rights_are_those_that_are_needed_missing_or_too_many() {
    let cloud = cloud();
    let kms = client(&cloud);
    let rights = kms.rights().unwrap().unwrap();
    assert_eq!(rights.missing, [""; 0]);
    assert_eq!(rights.only_commands, ["cloudkms.cryptoKeys.get"]);
    assert_eq!(rights.excess, ["cloudkms.cryptoKeyVersions.destroy"]);
    cloud.instead(&[ok(&json!({}))]);
    let rights = kms.rights().unwrap().unwrap();
    assert_eq!(rights.missing, ["cloudkms.cryptoKeyVersions.useToDecrypt"]);
    let denied = error(403, "PERMISSION_DENIED", "no");
    cloud.instead(&[denied.clone(), denied]);
    assert!(kms.rights().unwrap().is_none());
}
