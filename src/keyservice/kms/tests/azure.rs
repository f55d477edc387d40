// SPDX-License-Identifier: Apache-2.0
//! The client of Key Vault and a managed HSM: what it asks, and what it makes of each answer. There is no server of others to
//! ask: the stub speaks what Microsoft's pages say.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::answers::ROWS;
use super::*;
use crate::keyservice::kms::stub::{Asked, Stub, Told, told};
use crate::keyservice::kms::{Kms, MASTER_ID};

const ID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";
const VERSION: &str = "0123456789abcdef0123456789abcdef";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A vault of one test, or what it is told to answer. What it wraps with RSA is long, as theirs is.
struct Cloud {
    stub: Stub,
    path: PathBuf,
    instead: Arc<Mutex<Vec<Told>>>,
}

impl Cloud {
    fn start(kind: &'static str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-azure-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "eyJ.federated.token").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let instead = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&instead);
        let stub = Stub::start(move |asked| {
            if asked.path.starts_with(&format!("/{ID}/oauth2")) {
                return ok(&json!({ "token_type": "Bearer", "access_token": "eyJ.good" }));
            }
            let said = said.lock().unwrap().pop();
            said.unwrap_or_else(|| answer(asked, kind))
        });
        Self {
            stub,
            path,
            instead,
        }
    }

    fn kms(&self) -> Kms {
        let config = format!(
            "provider = \"azure\"\nkey = \"nightlatch\"\nurl = \"{0}\"\nlogin-url = \"{0}\"\nrole = \"{ID}/{ID}\"\n\
             credentials = \"file:{1}\"\ndeadline-s = 20\n",
            self.stub.url(),
            self.path.display()
        );
        Kms::new(&toml::from_str(&config).unwrap()).unwrap()
    }

    /// The next answers of the vault, of which the last comes first; a denial is asked about twice.
    fn instead(&self, answers: &[Told]) {
        *self.instead.lock().unwrap() = answers.to_vec();
    }

    /// What the vault itself was asked.
    fn asked(&self) -> Vec<Asked> {
        let asked = self.stub.asked().into_iter();
        asked
            .filter(|asked| asked.path.starts_with("/keys"))
            .collect()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        fs::remove_file(&self.path).unwrap();
    }
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
        let cloud = Cloud::start(kind);
        let kms = cloud.kms();
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
        let before = cloud.asked().len();
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
        assert_eq!(cloud.asked().len(), before);
    }
}

#[test]
fn every_row_of_the_table_is_what_a_start_makes_of_that_answer() {
    let cloud = Cloud::start("RSA");
    let kms = cloud.kms();
    let wrapped = kms.wrap(MASTER_ID, &key()).unwrap();
    for row in &ROWS {
        let said = error(400, row.code, row.inner);
        let (status, lines, body) = said.clone();
        // Their pages spell it in two ways.
        let other = (status, lines, body.replace("innererror", "innerError"));
        for said in [said, other] {
            cloud.instead(&[said.clone(), said]);
            let failure = kms.unwrap(MASTER_ID, &wrapped).unwrap_err();
            assert_eq!(failure.class, row.class, "{failure}");
            let text = failure.to_string();
            assert!(text.contains(row.what) && text.contains(row.code), "{text}");
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
    let cloud = Cloud::start("RSA");
    let kms = cloud.kms();
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
    let cloud = Cloud::start("RSA");
    let kms = cloud.kms();
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
