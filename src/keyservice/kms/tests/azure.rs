// SPDX-License-Identifier: Apache-2.0
//! The client of Key Vault and a managed HSM: what it asks, and what it makes of each answer. There is no server of others to
//! ask: the stub speaks what Microsoft's pages say.

use serde_json::{Value, json};

use super::answers::ROWS;
use super::*;
use crate::keyservice::kms::cloud::Cloud;
use crate::keyservice::kms::stub::{Asked, Told, told};
use crate::keyservice::kms::{Kms, MASTER_ID};

const ID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";
const VERSION: &str = "0123456789abcdef0123456789abcdef";

/// A vault, and a directory that gives tokens for it. What it wraps with RSA is long, as theirs is.
fn cloud(kind: &'static str) -> Cloud {
    let is_directory = |asked: &Asked| asked.path.starts_with(&format!("/{ID}/oauth2"));
    let own = move |asked: &Asked| {
        if is_directory(asked) {
            return ok(&json!({ "token_type": "Bearer", "access_token": "eyJ.good" }));
        }
        answer(asked, kind)
    };
    Cloud::start(
        "eyJ.federated.token",
        move |asked| !is_directory(asked),
        own,
    )
}

fn client(cloud: &Cloud) -> Kms {
    cloud.kms(&format!(
        "provider = \"azure\"\nkey = \"nightlatch\"\nlogin-url = \"{}\"\nrole = \"{ID}/{ID}\"\n",
        cloud.stub.url()
    ))
}

/// What the vault itself was asked.
fn asked(cloud: &Cloud) -> Vec<Asked> {
    let asked = cloud.stub.asked().into_iter();
    asked
        .filter(|asked| asked.path.starts_with("/keys"))
        .collect()
}

fn kid(version: &str) -> String {
    format!("https://example.vault.azure.net/keys/nightlatch/{version}")
}

fn answer(asked: &Asked, kind: &str) -> Told {
    assert_eq!(asked.header("authorization"), "Bearer eyJ.good");
    let body = asked.json();
    let algorithm = if kind == "oct-HSM" {
        "A256KW"
    } else {
        "RSA-OAEP-256"
    };
    let bytes = || Base64UrlUnpadded::decode_vec(body["value"].as_str().unwrap()).unwrap();
    let len = if kind == "oct-HSM" { 40 } else { 256 };
    let done = |bytes: &[u8]| {
        assert_eq!(body["alg"], algorithm);
        ok(&json!({ "kid": kid(VERSION), "value": Base64UrlUnpadded::encode_string(bytes) }))
    };
    let of = |verb: &str| format!("/keys/nightlatch/{VERSION}/{verb}?api-version=7.4");
    match asked.path.as_str() {
        "/keys/nightlatch?api-version=7.4" => ok(&got(kind)),
        path if path == of("wrapkey") => {
            let mut bytes = bytes();
            bytes.resize(len, 1);
            done(&bytes)
        }
        path if path == of("unwrapkey") => {
            let bytes = bytes();
            assert_eq!(bytes.len(), len);
            done(&bytes[..32])
        }
        _ => error(404, "KeyNotFound", ""),
    }
}

fn got(kind: &str) -> Value {
    json!({
        "key": { "kid": kid(VERSION), "kty": kind, "key_ops": ["wrapKey", "unwrapKey"], "n": "AA", "e": "AQAB" },
        "attributes": { "enabled": true, "created": 1, "updated": 1, "recoveryLevel": "Recoverable" },
    })
}

fn ok(body: &Value) -> Told {
    told(200, body.to_string())
}

fn error(status: u16, code: &str, inner: &str) -> Told {
    let inner = json!({ "code": inner });
    let body = json!({ "error": { "code": code, "message": "It was said", "innererror": inner } });
    told(status, body.to_string())
}

fn key() -> Secret {
    Secret::new(vec![7; 32])
}

#[test]
fn what_is_wrapped_comes_back_from_the_version_that_the_file_names() {
    for kind in ["RSA", "RSA-HSM", "oct-HSM"] {
        let cloud = cloud(kind);
        let kms = client(&cloud);
        let mut wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
        let host = cloud.stub.at;
        assert_eq!(
            wrapped.kek,
            format!("azure:{host}/keys/nightlatch:v{VERSION}")
        );
        assert!(kms.has_wrapped(&wrapped.kek));
        let back = kms.unwrap(MASTER_ID, &wrapped).unwrap();
        assert_eq!(back.expose(), key().expose());
        // Nothing there binds an id: the file's own seal does.
        kms.unwrap("other", &wrapped).unwrap();
        let before = asked(&cloud).len();
        for kek in [
            format!("azure:other.vault.azure.net/keys/nightlatch:v{VERSION}"),
            format!("azure:{host}/keys/nightlatch2:v{VERSION}"),
            format!("azure:{host}/keys/nightlatch:v"),
            format!("azure:{host}/keys/nightlatch:v{VERSION}/../other"),
        ] {
            wrapped.kek = kek;
            let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
            assert_eq!(failure.class, Class::Wrong, "{failure}");
        }
        assert_eq!(asked(&cloud).len(), before);
    }
}

#[test]
fn every_row_of_the_table_is_what_a_start_makes_of_that_answer() {
    let cloud = cloud("RSA");
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    for row in &ROWS {
        let said = error(400, row.error, row.says);
        let (status, lines, body) = said.clone();
        // Their pages spell it in two ways.
        let other = (status, lines, body.replace("innererror", "innerError"));
        for said in [said, other] {
            cloud.instead(&[said.clone(), said]);
            let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
            assert_eq!(failure.class, row.class, "{failure}");
            let text = failure.to_string();
            assert!(
                text.contains(row.what) && text.contains(row.error),
                "{text}"
            );
            let names_right = text.contains("unwrap on azure:");
            assert_eq!(names_right, row.class == Class::Denied, "{text}");
            assert!(!text.contains("eyJ"), "{text}");
            cloud.instead(&[]);
            // The control: the same call is granted.
            kms.unwrap(MASTER_ID, &wrapped).unwrap();
        }
    }
}

#[test]
fn what_no_row_explains_is_away() {
    let cloud = cloud("RSA");
    let kms = client(&cloud);
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    for (status, body) in [
        (200, "<html>sign in</html>"),
        (200, "{}"),
        (400, r#"{"error":{"code":"SomethingNew"}}"#),
        (403, r#"{"error":"Forbidden"}"#),
        (403, "<html>forbidden</html>"),
        (404, "{}"),
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
fn only_an_enabled_key_that_wraps_is_used_and_by_its_own_name() {
    let cloud = cloud("RSA");
    let kms = client(&cloud);
    let found = kms.describe().unwrap();
    assert_eq!(found.kind, "RSA");
    assert_eq!(
        found.versions,
        format!("version {VERSION} wraps, by RSA-OAEP-256")
    );
    let changed = |pointer: &str, value: Value| {
        let mut got = got("RSA");
        *got.pointer_mut(pointer).unwrap() = value;
        got
    };
    for (body, class) in [
        (changed("/attributes/enabled", json!(false)), Class::Gone),
        (changed("/key/kty", json!("EC")), Class::Unusable),
        (changed("/key/key_ops", json!(["wrapKey"])), Class::Unusable),
        (changed("/key/kid", json!(kid("a/b"))), Class::Unusable),
        (
            changed("/key/kid", json!("https://v/keys/other/1")),
            Class::Unusable,
        ),
    ] {
        cloud.instead(&[ok(&body)]);
        let failure = kms.wrap(MASTER_ID, &key()).unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
    }
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    let value = Base64UrlUnpadded::encode_string(&[7; 32]);
    cloud.instead(&[ok(&json!({ "kid": kid("another"), "value": value }))]);
    let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
    assert_eq!(failure.class, Class::Wrong, "{failure}");
    cloud.instead(&[ok(&json!({ "kid": kid(VERSION), "value": "AAAA" }))]);
    let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
    assert_eq!(failure.class, Class::Wrong, "{failure}");
    assert!(kms.rights().unwrap().is_none());
}
