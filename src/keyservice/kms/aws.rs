// SPDX-License-Identifier: Apache-2.0
//! AWS KMS (AWS KMS API Reference): a symmetric key by its ARN, `Encrypt` and `Decrypt` with an encryption context.
//!
//! The encryption context binds what is wrapped to its id. Which version of the key has wrapped something is not told, so
//! none is in the file. Requests are signed here ([`sigv4`]): the crate that signs for others brings twenty-five more, and
//! is asynchronous. What an answer means stands in [`answers`], where the key pair comes from in [`login`].

mod answers;
mod login;
mod rights;
mod sigv4;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use zeroize::{Zeroize as _, Zeroizing};

use super::request::{
    Answer, Deadline, Request, Server, body, printable, secret_header, twice_where_denied,
};
use crate::clock;
use crate::key::Secret;
use crate::keyservice::config::kms::Kms as Config;
use crate::keyservice::config::kms::aws::{KeyArn, Login as LoginConfig};
use crate::keyservice::kms::{
    Answered, BackEnd, Class, Description, Failure, Rights, WrappedKey, other_key, unwrapped,
};
use login::Login;
use sigv4::Signed;

/// What the name of a key begins with in the file.
const PROVIDER: &str = "aws";

/// What an operation is called in its header, after this ("Making API requests", JSON 1.1).
const TARGET: &str = "TrentService.";
const TARGET_HEADER: HeaderName = HeaderName::from_static("x-amz-target");
const CONTENT_KIND: &str = "application/x-amz-json-1.1";

/// The name of the service in a signature.
const SERVICE: &str = "kms";

/// The member of the encryption context that has the id. The policies in units/examples name it.
const CONTEXT: &str = "nightlatch-id";

/// The only kind of key that binds an encryption context (`DescribeKey`, `KeySpec`).
const SYMMETRIC: &str = "SYMMETRIC_DEFAULT";

/// A key of AWS KMS.
#[derive(Debug)]
pub struct Aws {
    server: Server,
    key: KeyArn,
    login: Login,
    deadline: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypt<'a> {
    key_id: &'a str,
    plaintext: &'a str,
    encryption_context: BTreeMap<&'static str, &'a str>,
    encryption_algorithm: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypt<'a> {
    key_id: &'a str,
    ciphertext_blob: &'a str,
    encryption_context: BTreeMap<&'static str, &'a str>,
    encryption_algorithm: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Describe<'a> {
    key_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: String,
    key_id: String,
}

impl Drop for Decrypted {
    fn drop(&mut self) {
        self.plaintext.zeroize();
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    key_metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    key_state: String,
    key_spec: String,
    origin: String,
}

impl Aws {
    pub(super) fn new(config: &Config, key: &KeyArn, login: &LoginConfig) -> Self {
        Self {
            server: Server::new(&config.url, config.ca.as_ref()),
            key: key.clone(),
            login: Login::new(config, login),
            deadline: config.deadline,
        }
    }

    fn kek(&self) -> String {
        self.to_string()
    }

    fn ask<T: DeserializeOwned>(&self, operation: &str, body: &[u8]) -> Answered<T> {
        twice_where_denied(|| {
            let answer = self.ask_once(operation, body)?;
            answers::judge(answer.status, &answer.body).map_err(|(class, what)| {
                let right = format!("kms:{operation} on {}", self.key);
                answer.failure(class, &answers::told(&answer.body), what, &right)
            })
        })
    }

    fn ask_once(&self, operation: &str, body: &[u8]) -> Answered<Answer> {
        let until = Deadline::after(self.deadline);
        let credentials = self.login.credentials(until)?;
        let target = format!("{TARGET}{operation}");
        let signed = Signed::new(&sigv4::Post {
            host: self.server.host(),
            content_type: CONTENT_KIND,
            target: &target,
            body,
            region: self.key.region(),
            service: SERVICE,
            at: &sigv4::time(clock::now_s()),
            credentials: &credentials,
        });
        let mut request =
            Request::post("/", CONTENT_KIND, body).with(TARGET_HEADER, plain(&target)?);
        for (name, value) in signed.headers {
            request = request.with(HeaderName::from_static(name), plain(&value)?);
        }
        let authorization = secret_header(&signed.authorization).ok_or_else(not_a_header)?;
        request = request.with(AUTHORIZATION, authorization);
        if let Some(token) = &credentials.token {
            let token = secret_header(token).ok_or_else(not_a_header)?;
            request = request.with(HeaderName::from_static(sigv4::TOKEN), token);
        }
        self.server.ask(request, until)
    }
}

impl BackEnd for Aws {
    fn wrap(&self, id: &str, key: &Secret) -> Answered<WrappedKey> {
        let plaintext = Zeroizing::new(Base64::encode_string(key.expose()));
        let body = body(&Encrypt {
            key_id: self.key.as_str(),
            plaintext: &plaintext,
            encryption_context: BTreeMap::from([(CONTEXT, id)]),
            encryption_algorithm: SYMMETRIC,
            dry_run: false,
        })?;
        let answer: Encrypted = self.ask("Encrypt", &body)?;
        let bytes = Base64::decode_vec(&answer.ciphertext_blob).unwrap_or_default();
        if answer.key_id != self.key.as_str() || bytes.is_empty() {
            let why = format!(
                "it has not wrapped with {self}, but with {}",
                printable(&answer.key_id)
            );
            return Err(Failure::new(Class::Unusable, why));
        }
        Ok(WrappedKey {
            kek: self.kek(),
            bytes,
        })
    }

    fn unwrap(&self, id: &str, wrapped: &WrappedKey) -> Answered<Secret> {
        if !self.has_wrapped(&wrapped.kek) {
            return Err(other_key(self, &wrapped.kek));
        }
        let body = body(&Decrypt {
            key_id: self.key.as_str(),
            ciphertext_blob: &Base64::encode_string(&wrapped.bytes),
            encryption_context: BTreeMap::from([(CONTEXT, id)]),
            encryption_algorithm: SYMMETRIC,
        })?;
        let answer: Decrypted = self.ask("Decrypt", &body)?;
        if answer.key_id != self.key.as_str() {
            let why = format!("it has unwrapped with {}", printable(&answer.key_id));
            return Err(Failure::new(Class::Wrong, why));
        }
        let key = Base64::decode_vec(&answer.plaintext).unwrap_or_default();
        unwrapped(&Zeroizing::new(key))
    }

    fn describe(&self) -> Answered<Description> {
        let body = body(&Describe {
            key_id: self.key.as_str(),
        })?;
        let key = self.ask::<Described>("DescribeKey", &body)?.key_metadata;
        let (spec, state) = (printable(&key.key_spec), printable(&key.key_state));
        answers::judge_state(&state)
            .map_err(|class| Failure::new(class, format!("{self} is in state {state}")))?;
        if spec != SYMMETRIC {
            let why = format!("{self} is of type {spec}: expected {SYMMETRIC}");
            return Err(Failure::new(Class::Unusable, why));
        }
        Ok(Description {
            kind: spec,
            versions: format!(
                "its material is of {}, and AWS does not tell which version wraps",
                printable(&key.origin)
            ),
        })
    }

    fn rights(&self) -> Answered<Option<Rights>> {
        self.ask_rights().map(Some)
    }

    fn has_wrapped(&self, kek: &str) -> bool {
        kek == self.kek()
    }
}

/// How the key is called in the file.
impl fmt::Display for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PROVIDER}:{}", self.key)
    }
}

fn plain(text: &str) -> Answered<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_error| not_a_header())
}

fn not_a_header() -> Failure {
    let why = "kms.credentials: a key pair and its token are letters, digits and signs on one line";
    Failure::new(Class::Unusable, why)
}

#[cfg(test)]
#[path = "tests/aws.rs"]
mod tests;
