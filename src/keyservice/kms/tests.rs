// SPDX-License-Identifier: Apache-2.0
//! A transit engine of a test's own, which answers with what it is told to, and keys of its own making.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};

use super::stub::Stub;
use crate::keyservice::config::kms::Kms as Config;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The only token that it lets in.
pub(crate) const TOKEN: &str = "hvs.good";

/// What it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// Answers that come before all others, for what a path begins with.
    pub(crate) instead: VecDeque<(&'static str, u16, String)>,
    /// An answer to everything, if there is one.
    pub(crate) always: Option<(u16, String)>,
    /// Where each answer points to.
    pub(crate) location: Option<String>,
    /// What its key is.
    pub(crate) key: Value,
    /// The token it lets in.
    pub(crate) token: String,
    /// What was asked for: method, path and body.
    pub(crate) seen: Vec<(String, Value)>,
}

/// A running engine. It is not encryption, only bytes that come back for the same associated data.
pub(crate) struct Engine {
    pub(crate) at: SocketAddr,
    directory: PathBuf,
    script: Arc<Mutex<Script>>,
}

impl Engine {
    pub(crate) fn start() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-transit-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let script = Arc::new(Mutex::new(Script {
            key: json!({ "type": "aes256-gcm96", "latest_version": 1, "min_decryption_version": 1 }),
            token: TOKEN.into(),
            ..Script::default()
        }));
        let scripted = Arc::clone(&script);
        let stub = Stub::start(move |asked| {
            let mut script = scripted.lock().unwrap();
            let path = asked.path.strip_prefix("/v1/").unwrap_or_default();
            let token = asked.header("x-vault-token");
            let (status, text) = answer(&mut script, path, token, &asked.json());
            let location = script.location.as_ref();
            let location = location.map_or_else(String::new, |to| format!("Location: {to}\r\n"));
            (status, location, text)
        });
        let engine = Self {
            at: stub.at,
            directory,
            script,
        };
        engine.hand_over(TOKEN);
        engine
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub(crate) fn seen(&self) -> Vec<(String, Value)> {
        self.script.lock().unwrap().seen.clone()
    }

    /// Everything is answered so from now on.
    pub(crate) fn always(&self, status: u16, body: &str) {
        self.change(|script| script.always = Some((status, body.to_owned())));
    }

    /// It is itself again.
    pub(crate) fn restore(&self) {
        self.change(|script| script.always = None);
    }

    /// Puts the token where the service reads it.
    pub(crate) fn hand_over(&self, token: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path("token");
        fs::write(&path, format!("{token}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The table for it, with these lines.
    pub(crate) fn table(&self, lines: &str) -> String {
        format!(
            "provider = \"openbao\"\nkey = \"transit/nightlatch\"\nurl = \"http://{}\"\n\
             credentials = \"file:{}\"\n{lines}\n",
            self.at,
            self.path("token").display()
        )
    }

    pub(crate) fn config(&self) -> Config {
        toml::from_str(&self.table("deadline-s = 20")).unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn answer(script: &mut Script, path: &str, token: &str, body: &Value) -> (u16, String) {
    script.seen.push((path.to_owned(), body.clone()));
    let at = script
        .instead
        .iter()
        .position(|(start, ..)| path.starts_with(start));
    if let Some((_, status, text)) = at.and_then(|at| script.instead.remove(at)) {
        return (status, text);
    }
    if let Some(always) = &script.always {
        return always.clone();
    }
    if token != script.token {
        return errors(403, "permission denied");
    }
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    match path {
        "transit/keys/nightlatch" => (200, json!({ "data": script.key }).to_string()),
        "transit/encrypt/nightlatch" => {
            let bound = format!("{}.{}", text("plaintext"), text("associated_data"));
            let ciphertext = format!("vault:v1:{}", Base64::encode_string(bound.as_bytes()));
            (
                200,
                json!({ "data": { "ciphertext": ciphertext } }).to_string(),
            )
        }
        "transit/decrypt/nightlatch" => {
            let ciphertext = text("ciphertext");
            let bytes = Base64::decode_vec(ciphertext.strip_prefix("vault:v1:").unwrap()).unwrap();
            let bound = String::from_utf8(bytes).unwrap();
            match bound.split_once('.') {
                Some((plaintext, id)) if id == text("associated_data") => (
                    200,
                    json!({ "data": { "plaintext": plaintext } }).to_string(),
                ),
                _ => errors(400, "cipher: message authentication failed"),
            }
        }
        "sys/capabilities-self" => {
            let all = json!({
                "transit/decrypt/nightlatch": ["update"],
                "transit/encrypt/nightlatch": ["deny"],
                "transit/keys/nightlatch": ["read", "delete"],
                "transit/rewrap/nightlatch": ["deny"],
            });
            (200, json!({ "data": all }).to_string())
        }
        _ => errors(404, "no handler for route"),
    }
}

/// A body as the servers have it.
pub(crate) fn errors(status: u16, error: &str) -> (u16, String) {
    (status, json!({ "errors": [error] }).to_string())
}
