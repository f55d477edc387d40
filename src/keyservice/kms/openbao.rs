// SPDX-License-Identifier: Apache-2.0
//! The transit engine of `OpenBao` and of Vault, which answers alike (their API documentation, "Transit secrets engine").
//!
//! Each call is made over a new connection with the token as it is at that moment. Redirects are not followed, and answers
//! are bounded. What an answer means stands in [`answers`].
//!
//! `associated_data` binds what is wrapped to its id. `context` is not used: on a key that is not derived it is ignored
//! without a word (`OpenBao` 2.7.2). A key that is absent would be made by `encrypt` where the token may do that, so the key
//! is looked at before anything is wrapped.

mod answers;
mod rights;

use std::fmt;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::header::{HeaderName, HeaderValue};
use zeroize::{Zeroize as _, Zeroizing};

use super::request::{
    Deadline, Request, Server, body, printable, secret_header, twice_where_denied,
};
use crate::key::Secret;
use crate::keyservice::config::kms::{Kms as Config, transit::KeyPath};
use crate::keyservice::config::secret::SecretSource;
use crate::keyservice::kms::{
    Answered, BackEnd, Class, Description, Failure, Rights, WrappedKey, other_key, shown, unwrapped,
};

/// What the name of a key begins with in the file.
const PROVIDER: &str = "openbao";

/// What each ciphertext begins with, before the key's version ("Encrypt data", `ciphertext`). `OpenBao` kept Vault's word.
const PREFIX: &str = "vault:v";

/// The longest token that is shown, in bytes. Those of the servers have about 100, a signed one more.
const TOKEN_LEN_MAX: usize = 8 << 10;

/// The header of the token ("Authentication").
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-vault-token");

/// The header without which a proxy of theirs may refuse a request ("X-Vault-Request").
const REQUEST_HEADER: HeaderName = HeaderName::from_static("x-vault-request");

/// Kinds of keys that authenticate `associated_data` ("Create key", `type`).
const AEAD_KINDS: [&str; 4] = [
    "aes128-gcm96",
    "aes256-gcm96",
    "chacha20-poly1305",
    "xchacha20-poly1305",
];

/// A key of one transit engine.
#[derive(Debug)]
pub struct Transit {
    server: Server,
    key: KeyPath,
    token: SecretSource,
    deadline: Duration,
}

/// What is asked for: the path below `/v1/`, and the right that a policy has to give for it.
struct Ask {
    path: String,
    right: &'static str,
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
}

/// Answers hold what was asked for in `data`.
#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

impl Drop for Decrypted {
    fn drop(&mut self) {
        self.plaintext.zeroize();
    }
}

#[derive(Deserialize)]
struct Key {
    #[serde(rename = "type")]
    kind: String,
    latest_version: u64,
    min_decryption_version: u64,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    soft_deleted: bool,
}

impl Transit {
    pub(super) fn new(config: &Config, key: &KeyPath, token: &SecretSource) -> Self {
        Self {
            server: Server::new(&config.url, config.ca.as_ref()),
            key: key.clone(),
            token: token.clone(),
            deadline: config.deadline,
        }
    }

    fn at(&self, verb: &str, right: &'static str) -> Ask {
        Ask {
            path: format!("{}/{verb}/{}", self.key.mount(), self.key.name()),
            right,
        }
    }

    fn kek(&self, version: u64) -> String {
        format!("{self}:v{version}")
    }

    fn ask<T: DeserializeOwned>(&self, ask: &Ask, body: Option<&[u8]>) -> Answered<T> {
        twice_where_denied(|| self.ask_once(ask, body))
    }

    fn ask_once<T: DeserializeOwned>(&self, ask: &Ask, body: Option<&[u8]>) -> Answered<T> {
        let path = format!("/v1/{}", ask.path);
        let request = match body {
            Some(body) => Request::post(path, "application/json", body),
            None => Request::get(path),
        };
        let request = request
            .with(TOKEN_HEADER, self.token()?)
            .with(REQUEST_HEADER, HeaderValue::from_static("true"));
        let answer = self.server.ask(request, Deadline::after(self.deadline))?;
        answers::judge(answer.status, &answer.body).map_err(|(class, what)| {
            let right = format!("{} on {}", ask.right, ask.path);
            answer.failure(class, &answers::told(&answer.body), what, &right)
        })
    }

    /// The token as it is now.
    fn token(&self) -> Answered<HeaderValue> {
        let token = shown(&self.token)?;
        let path = self.token.path().map_err(Failure::unusable)?;
        match secret_header(&token) {
            Some(value) if token.len() <= TOKEN_LEN_MAX => Ok(value),
            // The text of the error may not hold the token, so it has none of it.
            _ => {
                let why = format!(
                    "kms.credentials: {}: expected a token on one line",
                    path.display()
                );
                Err(Failure::new(Class::Unusable, why))
            }
        }
    }
}

impl BackEnd for Transit {
    fn wrap(&self, id: &str, key: &Secret) -> Answered<WrappedKey> {
        self.describe()?;
        let plaintext = Zeroizing::new(Base64::encode_string(key.expose()));
        let body = body(&Encrypt {
            plaintext: &plaintext,
            associated_data: &Base64::encode_string(id.as_bytes()),
        })?;
        let ask = self.at("encrypt", "update");
        let answer: Data<Encrypted> = self.ask(&ask, Some(&body))?;
        let bytes = answer.data.ciphertext.into_bytes();
        let Some(version) = version(&bytes) else {
            let why = "what it gave as ciphertext is none of the transit engine's";
            return Err(Failure::new(Class::Unusable, why));
        };
        Ok(WrappedKey {
            kek: self.kek(version),
            bytes,
        })
    }

    fn unwrap(&self, id: &str, wrapped: &WrappedKey) -> Answered<Secret> {
        let version = version(&wrapped.bytes).unwrap_or_default();
        if wrapped.kek != self.kek(version) {
            return Err(other_key(self, &wrapped.kek));
        }
        let body = body(&Decrypt {
            ciphertext: &String::from_utf8_lossy(&wrapped.bytes),
            associated_data: &Base64::encode_string(id.as_bytes()),
        })?;
        let ask = self.at("decrypt", "update");
        let answer: Data<Decrypted> = self.ask(&ask, Some(&body))?;
        let key = Base64::decode_vec(&answer.data.plaintext).unwrap_or_default();
        unwrapped(&Zeroizing::new(key))
    }

    fn describe(&self) -> Answered<Description> {
        let ask = self.at("keys", "read");
        let key = self.ask::<Data<Key>>(&ask, None)?.data;
        if key.soft_deleted {
            let why = format!("{self} is deleted, and can be restored yet");
            return Err(Failure::new(Class::Gone, why));
        }
        if key.derived || !AEAD_KINDS.contains(&key.kind.as_str()) {
            let derived = if key.derived { ", derived" } else { "" };
            let why = format!(
                "{self} is of type {}{derived}: expected a key that is not derived, of type {}",
                printable(&key.kind),
                AEAD_KINDS.join(" or ")
            );
            return Err(Failure::new(Class::Unusable, why));
        }
        Ok(Description {
            kind: key.kind,
            versions: format!(
                "version {} wraps, and from {} on they unwrap",
                key.latest_version, key.min_decryption_version
            ),
        })
    }

    fn rights(&self) -> Answered<Option<Rights>> {
        self.ask_rights()
    }

    fn has_wrapped(&self, kek: &str) -> bool {
        kek.starts_with(&format!("{self}:v"))
    }
}

/// How the key is called in the file, without its version.
impl fmt::Display for Transit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROVIDER}:{}/{}", self.key.mount(), self.key.name())
    }
}

/// The version of the key in a ciphertext, `vault:vN:…`.
fn version(ciphertext: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(ciphertext).ok()?;
    let (version, _) = text.strip_prefix(PREFIX)?.split_once(':')?;
    let is_number = version.bytes().all(|byte| byte.is_ascii_digit());
    version
        .parse()
        .ok()
        .filter(|number| is_number && *number > 0)
}

#[cfg(test)]
#[path = "tests/openbao.rs"]
mod tests;
