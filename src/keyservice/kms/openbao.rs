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
use ureq::http::header::{CONTENT_TYPE, HeaderValue};
use zeroize::{Zeroize as _, Zeroizing};

use crate::https;
use crate::key::{KEY_LEN, Secret};
use crate::keyservice::config::FilePath;
use crate::keyservice::config::kms::{KeyPath, Kms as Config};
use crate::keyservice::config::secret::SecretSource;
use crate::keyservice::kms::{Answered, Class, Description, Failure, WrappedKey};

/// What the name of a key begins with in the file.
const PROVIDER: &str = "openbao";

/// What each ciphertext begins with, before the key's version ("Encrypt data", `ciphertext`). `OpenBao` kept Vault's word.
const PREFIX: &str = "vault:v";

/// The longest answer that is read, in bytes. The longest of ours lists the versions of a key.
const ANSWER_LEN_MAX: u64 = 256 << 10;

/// The longest token that is shown, in bytes. Those of the servers have about 100, a signed one more.
const TOKEN_LEN_MAX: usize = 8 << 10;

/// The header of the token ("Authentication").
const TOKEN_HEADER: &str = "X-Vault-Token";

/// The header without which a proxy of theirs may refuse a request ("X-Vault-Request").
const REQUEST_HEADER: &str = "X-Vault-Request";

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
    url: String,
    key: KeyPath,
    ca: Option<FilePath>,
    credentials: SecretSource,
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
    pub(super) fn new(config: &Config) -> Self {
        Self {
            url: config.url.to_string(),
            key: config.key.clone(),
            ca: config.ca.clone(),
            credentials: config.credentials.clone(),
            deadline: config.deadline,
        }
    }

    pub(super) fn wrap(&self, id: &str, key: &Secret) -> Answered<WrappedKey> {
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

    pub(super) fn unwrap(&self, id: &str, wrapped: &WrappedKey) -> Answered<Secret> {
        let version = version(&wrapped.bytes).unwrap_or_default();
        if wrapped.kek != self.kek(version) {
            let why = format!(
                "the file was wrapped by {}, and the configuration names {self}: \
                 kms.key and secret.master belong together",
                wrapped.kek
            );
            return Err(Failure::new(Class::Wrong, why));
        }
        let body = body(&Decrypt {
            ciphertext: &String::from_utf8_lossy(&wrapped.bytes),
            associated_data: &Base64::encode_string(id.as_bytes()),
        })?;
        let ask = self.at("decrypt", "update");
        let answer: Data<Decrypted> = self.ask(&ask, Some(&body))?;
        match Base64::decode_vec(&answer.data.plaintext).map(Secret::new) {
            Ok(key) if key.expose().len() == KEY_LEN => Ok(key),
            _ => Err(Failure::new(
                Class::Wrong,
                format!("what it unwrapped is not {KEY_LEN} bytes"),
            )),
        }
    }

    pub(super) fn describe(&self) -> Answered<Description> {
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
            latest_version: key.latest_version,
            min_version: key.min_decryption_version,
        })
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

    /// Asks, and a second time with the credentials read anew where they are denied: an expired token and one without the
    /// right are answered alike, and whoever renews the token may just have done so.
    fn ask<T: DeserializeOwned>(&self, ask: &Ask, body: Option<&[u8]>) -> Answered<T> {
        match self.ask_once(ask, body) {
            Err(failure) if failure.class == Class::Denied => self.ask_once(ask, body),
            answered => answered,
        }
    }

    fn ask_once<T: DeserializeOwned>(&self, ask: &Ask, body: Option<&[u8]>) -> Answered<T> {
        let tls = match &self.ca {
            Some(ca) => Some(https::tls(ca.as_path(), None).map_err(Failure::unusable)?),
            None => None,
        };
        // No connection is kept: two answers of one may come from one server that is out of step.
        let agent = https::agent(tls, self.deadline, 0);
        let url = format!("{}/v1/{}", self.url, ask.path);
        let token = self.token()?;
        let response = match body {
            Some(body) => agent
                .post(&url)
                .header(TOKEN_HEADER, token)
                .header(REQUEST_HEADER, "true")
                .header(CONTENT_TYPE, "application/json")
                .send(body),
            None => agent
                .get(&url)
                .header(TOKEN_HEADER, token)
                .header(REQUEST_HEADER, "true")
                .call(),
        };
        let away = |error: ureq::Error| Failure::new(Class::Away, format!("{url}: {error}"));
        let mut response = response.map_err(away)?;
        let status = response.status().as_u16();
        let answer = response
            .body_mut()
            .with_config()
            .limit(ANSWER_LEN_MAX)
            .read_to_vec()
            .map(Zeroizing::new)
            .map_err(away)?;
        match answers::judge(status, &answer) {
            Ok(value) => Ok(value),
            Err((class, what)) => {
                let right = match class {
                    Class::Denied => format!(": {} on {} was refused", ask.right, ask.path),
                    Class::Away | Class::Gone | Class::Wrong | Class::Unusable => String::new(),
                };
                let told = answers::told(&answer);
                Err(Failure::new(
                    class,
                    format!("{url}: {status}{told}: {what}{right}"),
                ))
            }
        }
    }

    /// The token as it is now. A file that is not there or has nothing in it may come yet, of whoever writes it.
    fn token(&self) -> Answered<HeaderValue> {
        let path = self.credentials.path().map_err(Failure::unusable)?;
        let text = self.credentials.read_if_there();
        let Some(text) = text
            .map_err(Failure::unusable)?
            .filter(|text| !text.trim().is_empty())
        else {
            let why = format!("kms.credentials: {}: there is no token yet", path.display());
            return Err(Failure::new(Class::Away, why));
        };
        let token = text.trim();
        match HeaderValue::from_str(token) {
            Ok(mut value) if token.len() <= TOKEN_LEN_MAX => {
                value.set_sensitive(true);
                Ok(value)
            }
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

/// How the key is called in the file, without its version.
impl fmt::Display for Transit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROVIDER}:{}/{}", self.key.mount(), self.key.name())
    }
}

fn body(value: &impl Serialize) -> Answered<Zeroizing<Vec<u8>>> {
    serde_json::to_vec(value)
        .map(Zeroizing::new)
        .map_err(|error| Failure::unusable(crate::error::Error::failure(error)))
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

/// A server's word, short and on one line.
fn printable(text: &str) -> String {
    let printed = text.chars().take(WORD_LEN_MAX);
    printed
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .collect()
}

/// The longest of a server's words that is quoted, in characters.
const WORD_LEN_MAX: usize = 200;

#[cfg(test)]
#[path = "tests/openbao.rs"]
mod tests;
