// SPDX-License-Identifier: Apache-2.0
//! Who gives the token: a service account's own key, which signs it here (Google Cloud, "Service account authorization
//! without OAuth"; RFC 7519), or the metadata service of this machine.
//!
//! It is made or fetched anew for each call. A token that is signed here is for Cloud KMS alone, and for some minutes.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;
use ureq::http::header::{HeaderName, HeaderValue};
use zeroize::{Zeroize as _, Zeroizing};

use crate::clock;
use crate::keyservice::config::kms::gcp::Login as LoginConfig;
use crate::keyservice::config::secret::SecretSource;
use crate::keyservice::kms::request::{Deadline, Request, Server};
use crate::keyservice::kms::table::FOREIGN;
use crate::keyservice::kms::{Answered, Class, Failure, shown};

/// Whom a token is for that is signed here.
const AUDIENCE: &str = "https://cloudkms.googleapis.com/";

/// How long it lasts, in seconds: an hour is the longest that there is.
const TOKEN_S: u64 = 600;

/// Where the metadata service has it (Compute Engine, "About VM metadata").
const TOKEN_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// It asks for this header and gives it back.
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const FLAVOR_VALUE: &str = "Google";

/// The key of a service account, as it is downloaded (IAM, "Create and delete service account keys").
#[derive(Deserialize)]
struct Account {
    #[serde(rename = "type")]
    kind: String,
    private_key_id: String,
    private_key: String,
    client_email: String,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

/// Who gives the token.
#[derive(Debug)]
pub(super) enum Login {
    Account(SecretSource),
    Machine(Server),
}

impl Login {
    pub(super) fn new(login: &LoginConfig) -> Self {
        match login {
            LoginConfig::Account(source) => Self::Account(source.clone()),
            LoginConfig::Machine => Self::Machine(Server::metadata()),
        }
    }

    /// A token as it is now.
    pub(super) fn token(&self, until: Deadline) -> Answered<Zeroizing<String>> {
        match self {
            Self::Account(source) => signed(&shown(source)?, clock::now_s()),
            Self::Machine(metadata) => of_machine(metadata, until),
        }
    }
}

/// A token that this account signs.
fn signed(account: &str, now_s: u64) -> Answered<Zeroizing<String>> {
    let wrong = |what: &str| {
        let why = format!("kms.credentials: {what}");
        Failure::new(Class::Unusable, why)
    };
    let account: Account = serde_json::from_str(account).map_err(|error| {
        // Where it is wrong, and none of the text.
        wrong(&format!(
            "expected the JSON of a service account's key: line {}",
            error.line()
        ))
    })?;
    if account.kind != "service_account" {
        return Err(wrong(
            "expected the key of a service account, of type \"service_account\"",
        ));
    }
    let key = PrivatePkcs8KeyDer::from_pem_slice(account.private_key.as_bytes())
        .map_err(|_error| wrong("private_key: expected PKCS #8 in PEM"))?;
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der())
        .map_err(|_error| wrong("private_key: expected an RSA key of 2048 bits or more"))?;
    let header = json!({ "alg": "RS256", "kid": account.private_key_id, "typ": "JWT" });
    let claims = json!({
        "aud": AUDIENCE,
        "exp": now_s.saturating_add(TOKEN_S),
        "iat": now_s,
        "iss": account.client_email,
        "sub": account.client_email,
    });
    let encoded =
        |value: serde_json::Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let text = [encoded(header), encoded(claims)].join(".");
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .map_err(|_error| wrong("private_key: it does not sign"))?;
    let signature = Base64UrlUnpadded::encode_string(&signature);
    Ok(Zeroizing::new([text, signature].join(".")))
}

fn of_machine(metadata: &Server, until: Deadline) -> Answered<Zeroizing<String>> {
    let flavor = HeaderValue::from_static(FLAVOR_VALUE);
    let answer = metadata.ask(Request::get(TOKEN_PATH).with(FLAVOR, flavor.clone()), until)?;
    let is_google = answer.headers.get(FLAVOR) == Some(&flavor);
    if is_google && answer.status == 404 {
        let what = "no service account is attached to this machine";
        return Err(answer.failure(Class::Denied, "", what, "").unvouched());
    }
    let token = if is_google { answer.token() } else { None };
    token.ok_or_else(|| answer.failure(Class::Away, "", FOREIGN, ""))
}

#[cfg(test)]
#[path = "../tests/gcp_login.rs"]
pub(super) mod tests;
