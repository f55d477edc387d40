// SPDX-License-Identifier: Apache-2.0
//! Azure's Key Vault and managed HSM (Key Vault REST API, "Wrap Key", "Unwrap Key", "Get Key"): an RSA key by RSA-OAEP-256,
//! or an AES key of a managed HSM by AES key wrap.
//!
//! Neither binds what is wrapped to anything: that the file is for its id, by this key and this version, only the file's own
//! seal says. And whoever has an RSA key's public half can make a file: see `secret.check-value`. Each version of a key is
//! one of its own here, so the newest one is asked for before something is wrapped, and its name stands in the file. What an
//! answer means stands in [`answers`], who gives the token in [`login`].

mod answers;
mod login;

use std::fmt;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::header::AUTHORIZATION;
use zeroize::{Zeroize as _, Zeroizing};

use super::request::{
    Deadline, Request, Server, bearer, body, printable, twice_where_denied, without,
};
use crate::key::{KEY_LEN, Secret};
use crate::keyservice::config::kms::Kms as Config;
use crate::keyservice::config::kms::azure::{KeyName, Login as LoginConfig};
use crate::keyservice::kms::{
    Answered, BackEnd, Class, Description, Failure, Rights, WrappedKey, other_key, unwrapped,
};
use login::Login;

/// What the name of a key begins with in the file.
const PROVIDER: &str = "azure";

/// The version of the interface that is spoken.
const API: &str = "api-version=7.4";

/// RSA-OAEP with SHA-256 (RFC 7518, section 4.3), and AES key wrap (`JsonWebKeyEncryptionAlgorithm`).
const RSA: &str = "RSA-OAEP-256";
const AES: &str = "A256KW";

/// How long 32 bytes are that AES key wrap has wrapped (RFC 3394): no RSA key gives so little.
const AES_WRAPPED_LEN: usize = KEY_LEN + 8;

/// The longest name of a version, in bytes. Theirs have 32.
const VERSION_LEN_MAX: usize = 64;

/// A key of a vault.
#[derive(Debug)]
pub struct Azure {
    server: Server,
    key: KeyName,
    login: Login,
    deadline: Duration,
}

#[derive(Serialize)]
struct Operation<'a> {
    alg: &'static str,
    value: &'a str,
}

#[derive(Deserialize)]
struct Done {
    kid: String,
    value: String,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

#[derive(Deserialize)]
struct Got {
    key: Key,
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Key {
    kid: String,
    kty: String,
    #[serde(default, rename = "key_ops")]
    operations: Vec<String>,
}

#[derive(Deserialize)]
struct Attributes {
    enabled: bool,
}

/// The newest version of the key.
struct Newest {
    version: String,
    kind: String,
    algorithm: &'static str,
}

impl Azure {
    pub(super) fn new(config: &Config, key: &KeyName, login: &LoginConfig) -> Self {
        let server = Server::new(&config.url, config.ca.as_ref());
        Self {
            login: Login::new(login, server.host(), config.ca.as_ref()),
            server,
            key: key.clone(),
            deadline: config.deadline,
        }
    }

    /// The version in a name of one, `https://VAULT/keys/NAME/VERSION`, if it is one of this key.
    fn version_of<'a>(&self, kid: &'a str) -> Option<&'a str> {
        let (rest, version) = kid.rsplit_once('/')?;
        let is_ours = rest.ends_with(&format!("/keys/{}", self.key));
        (is_ours && is_version(version)).then_some(version)
    }

    /// The version in the name that the file has.
    fn wrapped_version<'a>(&self, kek: &'a str) -> Option<&'a str> {
        let version = kek.strip_prefix(&format!("{self}:v"))?;
        is_version(version).then_some(version)
    }

    fn newest(&self) -> Answered<Newest> {
        let got: Got = self.ask("", "get", None)?;
        let (name, kind) = (printable(&got.key.kid), printable(&got.key.kty));
        let unusable = |why: String| Failure::new(Class::Unusable, why);
        let version = self.version_of(&name);
        let version =
            version.ok_or_else(|| unusable(format!("what it calls {name} is not {self}")))?;
        if !got.attributes.enabled {
            return Err(Failure::new(Class::Gone, format!("{name} is disabled")));
        }
        let algorithm = match kind.as_str() {
            "RSA" | "RSA-HSM" => RSA,
            "oct" | "oct-HSM" => AES,
            _ => {
                let why = format!(
                    "{name} is of type {kind}: expected an RSA key, or an AES key of a managed HSM"
                );
                return Err(unusable(why));
            }
        };
        let may = |operation: &str| got.key.operations.iter().any(|may| may == operation);
        if !may("wrapKey") || !may("unwrapKey") {
            let why = format!("{name} is not for wrapping: its key_ops lack wrapKey or unwrapKey");
            return Err(unusable(why));
        }
        Ok(Newest {
            version: version.to_owned(),
            kind,
            algorithm,
        })
    }

    /// `rest` follows the name of the key.
    fn ask<T: DeserializeOwned>(
        &self,
        rest: &str,
        right: &str,
        body: Option<&[u8]>,
    ) -> Answered<T> {
        let path = format!("/keys/{}{rest}?{API}", self.key);
        twice_where_denied(|| {
            let until = Deadline::after(self.deadline);
            let token = self.login.token(until)?;
            let request = match body {
                Some(body) => Request::post(&path, "application/json", body),
                None => Request::get(&path),
            };
            let request = request.with(AUTHORIZATION, bearer(&token)?);
            let answer = self.server.ask(request, until)?;
            answers::judge(answer.status, &answer.body).map_err(|(class, what)| {
                let right = format!("{right} on {self}");
                let told = without(&token, answers::told(&answer.body));
                answer.failure(class, &told, what, &right)
            })
        })
    }

    /// Wraps or unwraps with one version.
    fn operate(
        &self,
        verb: &str,
        version: &str,
        operation: &Operation<'_>,
    ) -> Answered<Zeroizing<Vec<u8>>> {
        let body = body(operation)?;
        let done: Done = self.ask(&format!("/{version}/{verb}key"), verb, Some(&body))?;
        if self.version_of(&done.kid) != Some(version) {
            let kid = printable(&done.kid);
            let why = format!("it was to {verb} with version {version}, and did with {kid}");
            return Err(Failure::new(Class::Wrong, why));
        }
        let bytes = Base64UrlUnpadded::decode_vec(done.value.trim_end_matches('='));
        Ok(Zeroizing::new(bytes.unwrap_or_default()))
    }
}

impl BackEnd for Azure {
    fn wrap(&self, _id: &str, key: &Secret) -> Answered<WrappedKey> {
        let newest = self.newest()?;
        let value = Zeroizing::new(Base64UrlUnpadded::encode_string(key.expose()));
        let operation = Operation {
            alg: newest.algorithm,
            value: &value,
        };
        let bytes = self.operate("wrap", &newest.version, &operation)?;
        if bytes.is_empty() {
            return Err(Failure::new(Class::Unusable, "what it wrapped is nothing"));
        }
        Ok(WrappedKey {
            kek: format!("{self}:v{}", newest.version),
            bytes: bytes.to_vec(),
        })
    }

    fn unwrap(&self, _id: &str, wrapped: &WrappedKey) -> Answered<Secret> {
        let Some(version) = self.wrapped_version(&wrapped.kek) else {
            return Err(other_key(self, &wrapped.kek));
        };
        let is_aes = wrapped.bytes.len() == AES_WRAPPED_LEN;
        let operation = Operation {
            alg: if is_aes { AES } else { RSA },
            value: &Base64UrlUnpadded::encode_string(&wrapped.bytes),
        };
        unwrapped(&self.operate("unwrap", version, &operation)?)
    }

    fn describe(&self) -> Answered<Description> {
        let newest = self.newest()?;
        Ok(Description {
            kind: newest.kind,
            versions: format!("version {} wraps, by {}", newest.version, newest.algorithm),
        })
    }

    /// Nobody can be asked there who may do what.
    fn rights(&self) -> Answered<Option<Rights>> {
        Ok(None)
    }

    fn has_wrapped(&self, kek: &str) -> bool {
        self.wrapped_version(kek).is_some()
    }
}

/// How the key is called in the file, without its version.
impl fmt::Display for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROVIDER}:{}/keys/{}", self.server.host(), self.key)
    }
}

/// It becomes a part of a path of HTTP.
fn is_version(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    !text.is_empty() && text.len() <= VERSION_LEN_MAX && is_plain
}

#[cfg(test)]
#[path = "tests/azure.rs"]
mod tests;
