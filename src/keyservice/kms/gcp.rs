// SPDX-License-Identifier: Apache-2.0
//! Google's Cloud KMS (REST reference, v1): a symmetric key by its name, `encrypt` and `decrypt` with additional
//! authenticated data.
//!
//! Both directions have CRC32C checksums ("Verifying end-to-end data integrity"): those of what is sent are sent with it, and
//! an answer to a question that has not arrived whole, or that has not come whole itself, is none. Which version unwraps is
//! the KMS's to find; which one has wrapped stands in the file. What an answer means stands in [`answers`], who gives the
//! token in [`login`].

mod answers;
mod login;
mod rights;

use std::fmt;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use ureq::http::header::AUTHORIZATION;
use zeroize::{Zeroize as _, Zeroizing};

use super::request::{
    Deadline, Request, Server, bearer, body, printable, twice_where_denied, without,
};
use crate::key::Secret;
use crate::keyservice::config::kms::Kms as Config;
use crate::keyservice::config::kms::gcp::{KeyName, Login as LoginConfig};
use crate::keyservice::kms::{
    Answered, BackEnd, Class, Description, Failure, Rights, WrappedKey, other_key, unwrapped,
};
use login::Login;

/// What the name of a key begins with in the file.
const PROVIDER: &str = "gcp";

/// What stands before the number of a version in its name (`CryptoKeyVersion`, `name`).
const VERSIONS: &str = "cryptoKeyVersions";

/// The purpose of a key that wraps and binds (`CryptoKey`, `purpose`).
const PURPOSE: &str = "ENCRYPT_DECRYPT";

/// A key of Cloud KMS.
#[derive(Debug)]
pub struct Gcp {
    server: Server,
    key: KeyName,
    login: Login,
    deadline: Duration,
}

/// What is asked for, and the permission that has to be there for it.
struct Ask {
    path: String,
    right: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encrypt<'a> {
    plaintext: &'a str,
    plaintext_crc32c: String,
    additional_authenticated_data: &'a str,
    additional_authenticated_data_crc32c: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Decrypt<'a> {
    ciphertext: &'a str,
    ciphertext_crc32c: String,
    additional_authenticated_data: &'a str,
    additional_authenticated_data_crc32c: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Encrypted {
    name: String,
    ciphertext: String,
    #[serde(deserialize_with = "number")]
    ciphertext_crc32c: u32,
    #[serde(default)]
    verified_plaintext_crc32c: bool,
    #[serde(default)]
    verified_additional_authenticated_data_crc32c: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decrypted {
    plaintext: String,
    #[serde(deserialize_with = "number")]
    plaintext_crc32c: u32,
}

impl Drop for Decrypted {
    fn drop(&mut self) {
        self.plaintext.zeroize();
    }
}

#[derive(Deserialize)]
struct Key {
    purpose: String,
    primary: Option<Version>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    name: String,
    state: String,
    #[serde(default)]
    algorithm: String,
    #[serde(default)]
    protection_level: String,
}

impl Gcp {
    pub(super) fn new(config: &Config, key: &KeyName, login: &LoginConfig) -> Self {
        Self {
            server: Server::new(&config.url, config.ca.as_ref()),
            key: key.clone(),
            login: Login::new(login),
            deadline: config.deadline,
        }
    }

    /// `verb` begins with a colon, or is empty for the key itself.
    fn at(&self, verb: &str, right: &'static str) -> Ask {
        Ask {
            path: format!("/v1/{}{verb}", self.key),
            right,
        }
    }

    /// The number of the version that this name of one has, if it is one of this key.
    fn version(&self, name: &str) -> Option<u64> {
        let rest = name.strip_prefix(&format!("{}/{VERSIONS}/", self.key))?;
        let is_number = rest.bytes().all(|byte| byte.is_ascii_digit());
        rest.parse().ok().filter(|_| is_number)
    }

    fn ask<T: DeserializeOwned>(&self, ask: &Ask, body: Option<&[u8]>) -> Answered<T> {
        twice_where_denied(|| {
            let until = Deadline::after(self.deadline);
            let token = self.login.token(until)?;
            let request = match body {
                Some(body) => Request::post(&ask.path, "application/json", body),
                None => Request::get(&ask.path),
            };
            let request = request.with(AUTHORIZATION, bearer(&token)?);
            let answer = self.server.ask(request, until)?;
            answers::judge(answer.status, &answer.body).map_err(|(class, what)| {
                // A token that was signed here says when, by this machine's clock.
                let is_ours = matches!(self.login, Login::Account(_));
                let is_late = is_ours && answer.status == 401 && answer.is_clock_off();
                let (class, what) = if is_late {
                    (Class::Away, answers::CLOCK)
                } else {
                    (class, what)
                };
                let right = format!("{} on {}", ask.right, self.key);
                let told = without(&token, answers::told(&answer.body));
                answer.failure(class, &told, what, &right)
            })
        })
    }
}

impl BackEnd for Gcp {
    fn wrap(&self, id: &str, key: &Secret) -> Answered<WrappedKey> {
        let plaintext = Zeroizing::new(Base64::encode_string(key.expose()));
        let body = body(&Encrypt {
            plaintext: &plaintext,
            plaintext_crc32c: checksum(key.expose()),
            additional_authenticated_data: &Base64::encode_string(id.as_bytes()),
            additional_authenticated_data_crc32c: checksum(id.as_bytes()),
        })?;
        let ask = self.at(":encrypt", "cloudkms.cryptoKeyVersions.useToEncrypt");
        let answer: Encrypted = self.ask(&ask, Some(&body))?;
        let bytes = Base64::decode_vec(&answer.ciphertext).unwrap_or_default();
        let is_verified = answer.verified_plaintext_crc32c
            && answer.verified_additional_authenticated_data_crc32c;
        if !is_verified || crc32c::crc32c(&bytes) != answer.ciphertext_crc32c {
            return Err(damaged());
        }
        let Some(version) = self.version(&answer.name) else {
            let name = printable(&answer.name);
            let why = format!("it has not wrapped with {self}, but with {name}");
            return Err(Failure::new(Class::Unusable, why));
        };
        Ok(WrappedKey {
            kek: format!("{self}:v{version}"),
            bytes,
        })
    }

    fn unwrap(&self, id: &str, wrapped: &WrappedKey) -> Answered<Secret> {
        if !self.has_wrapped(&wrapped.kek) {
            return Err(other_key(self, &wrapped.kek));
        }
        let body = body(&Decrypt {
            ciphertext: &Base64::encode_string(&wrapped.bytes),
            ciphertext_crc32c: checksum(&wrapped.bytes),
            additional_authenticated_data: &Base64::encode_string(id.as_bytes()),
            additional_authenticated_data_crc32c: checksum(id.as_bytes()),
        })?;
        let ask = self.at(":decrypt", "cloudkms.cryptoKeyVersions.useToDecrypt");
        let answer: Decrypted = self.ask(&ask, Some(&body))?;
        let key = Zeroizing::new(Base64::decode_vec(&answer.plaintext).unwrap_or_default());
        if crc32c::crc32c(&key) != answer.plaintext_crc32c {
            return Err(damaged());
        }
        unwrapped(&key)
    }

    fn describe(&self) -> Answered<Description> {
        let key: Key = self.ask(&self.at("", "cloudkms.cryptoKeys.get"), None)?;
        if key.purpose != PURPOSE {
            let purpose = printable(&key.purpose);
            let why = format!("{self} is for {purpose}: expected a key for {PURPOSE}");
            return Err(Failure::new(Class::Unusable, why));
        }
        let Some(primary) = key.primary else {
            let why = format!("{self} has no primary version");
            return Err(Failure::new(Class::Gone, why));
        };
        let (name, state) = (printable(&primary.name), printable(&primary.state));
        answers::judge_state(&state)
            .map_err(|class| Failure::new(class, format!("{name} is in state {state}")))?;
        Ok(Description {
            kind: printable(&primary.algorithm),
            versions: format!(
                "version {} wraps, held in {}",
                self.version(&name).unwrap_or_default(),
                printable(&primary.protection_level)
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
impl fmt::Display for Gcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROVIDER}:{}", self.key)
    }
}

/// What was damaged is asked for again, and means nothing else.
fn damaged() -> Failure {
    let why = "what was sent or what came back was damaged on its way: its CRC32C is another one";
    Failure::new(Class::Away, why)
}

/// CRC32C as it is sent: 64 bits are text in this JSON.
fn checksum(bytes: &[u8]) -> String {
    crc32c::crc32c(bytes).to_string()
}

/// A checksum that came, as text or as a number.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Text(String),
        Number(u32),
    }
    match Said::deserialize(deserializer)? {
        Said::Text(text) => text.parse().map_err(D::Error::custom),
        Said::Number(number) => Ok(number),
    }
}

#[cfg(test)]
#[path = "tests/gcp.rs"]
mod tests;
