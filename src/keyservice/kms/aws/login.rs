// SPDX-License-Identifier: Apache-2.0
//! Whose key pair signs: one in a file, one that the STS gives for a web identity token, or that of this machine's role.
//!
//! It is fetched anew for each call. The metadata service is plain HTTP at an address of the machine's own link, which the
//! cloud answers: who runs that machine can give it any key pair, and none opens more than the KMS lets it.

use serde::Deserialize;
use ureq::http::header::{ACCEPT, HeaderName, HeaderValue};
use zeroize::{Zeroize as _, Zeroizing};

use super::answers;
use crate::keyservice::config::kms::Kms as Config;
use crate::keyservice::config::kms::aws::Login as LoginConfig;
use crate::keyservice::config::secret::SecretSource;
use crate::keyservice::kms::request::{
    Answer, Deadline, Request, Server, form, printable, secret_header,
};
use crate::keyservice::kms::table::FOREIGN;
use crate::keyservice::kms::{Answered, Class, Failure, shown};

/// Where the metadata service has them (Amazon EC2 User Guide, "Access instance metadata", version 2).
const SESSION_PATH: &str = "/latest/api/token";
const SESSION_SECONDS: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const SESSION: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/";

/// The version of the STS's interface, and the shortest time it gives a key pair for (AWS STS API Reference).
const STS_VERSION: &str = "2011-06-15";
const STS_SECONDS: &str = "900";

/// Who the role is assumed as: it stands in the trail.
const STS_SESSION: &str = "nightlatchd";

/// The longest name of a role, in bytes (IAM API Reference, `CreateRole`).
const ROLE_LEN_MAX: usize = 64;

/// Signs requests.
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: Zeroizing<String>,
    pub(super) token: Option<Zeroizing<String>>,
}

/// As programs hand them over (AWS CLI, "Sourcing credentials with an external process"), and the metadata service, whose
/// word for the token is another one.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "Token")]
    session_token: Option<String>,
}

/// What the metadata service says of a role beside its key pair, or in place of it ("IAM roles for Amazon EC2").
#[derive(Deserialize)]
struct Coded {
    #[serde(rename = "Code")]
    code: Option<String>,
}

/// Its code where there is a key pair.
const SUCCESS: &str = "Success";

impl Drop for Pair {
    fn drop(&mut self) {
        self.secret_access_key.zeroize();
        self.session_token.zeroize();
    }
}

impl From<Pair> for Credentials {
    fn from(mut pair: Pair) -> Self {
        let take = |text: &mut String| Zeroizing::new(std::mem::take(text));
        Self {
            id: std::mem::take(&mut pair.access_key_id),
            secret: take(&mut pair.secret_access_key),
            token: pair.session_token.as_mut().map(take),
        }
    }
}

/// Where the key pair comes from.
#[derive(Debug)]
pub(super) enum Login {
    Keys(SecretSource),
    WebIdentity {
        token: SecretSource,
        role: String,
        sts: Server,
    },
    Machine(Server),
}

impl Login {
    pub(super) fn new(config: &Config, login: &LoginConfig) -> Self {
        match login {
            LoginConfig::Keys(source) => Self::Keys(source.clone()),
            LoginConfig::WebIdentity { token, role, url } => Self::WebIdentity {
                token: token.clone(),
                role: role.clone(),
                sts: Server::new(url, config.ca.as_ref()),
            },
            LoginConfig::Machine => Self::Machine(Server::metadata()),
        }
    }

    /// The key pair as it is now.
    pub(super) fn credentials(&self, until: Deadline) -> Answered<Credentials> {
        match self {
            Self::Keys(source) => of_file(source),
            Self::WebIdentity { token, role, sts } => assume(sts, role, token, until),
            Self::Machine(metadata) => of_machine(metadata, until),
        }
    }
}

fn of_file(source: &SecretSource) -> Answered<Credentials> {
    let text = shown(source)?;
    let pair: Pair = serde_json::from_str(&text).map_err(|error| {
        // Where it is wrong, and none of the text.
        let why = format!(
            "kms.credentials: expected JSON with AccessKeyId and SecretAccessKey: line {}",
            error.line()
        );
        Failure::new(Class::Unusable, why)
    })?;
    Ok(pair.into())
}

/// Gives a token for a key pair (`AssumeRoleWithWebIdentity`).
fn assume(
    sts: &Server,
    role: &str,
    token: &SecretSource,
    until: Deadline,
) -> Answered<Credentials> {
    let token = shown(token)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !token.bytes().all(is_plain) {
        let why = "kms.credentials: expected a token, which is a JWT on one line";
        return Err(Failure::new(Class::Unusable, why));
    }
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", STS_VERSION),
        ("RoleArn", role),
        ("RoleSessionName", STS_SESSION),
        ("DurationSeconds", STS_SECONDS),
        ("WebIdentityToken", &token),
    ];
    let form = form(&fields);
    let request = Request::post("/", "application/x-www-form-urlencoded", form.as_bytes());
    let request = request.with(ACCEPT, HeaderValue::from_static("application/xml"));
    let answer = sts.ask(request, until)?;
    let text = std::str::from_utf8(&answer.body).unwrap_or_default();
    let given = || {
        Some(Credentials {
            id: element(text, "AccessKeyId")?.to_owned(),
            secret: Zeroizing::new(element(text, "SecretAccessKey")?.to_owned()),
            token: Some(Zeroizing::new(element(text, "SessionToken")?.to_owned())),
        })
    };
    if answer.status == 200 {
        return given().ok_or_else(|| foreign(&answer));
    }
    let Some(code) = element(text, "Code") else {
        return Err(foreign(&answer));
    };
    let (class, what) = answers::judge_name(code, element(text, "Message").unwrap_or_default());
    let told = format!(" {:?}", printable(code));
    let right = format!("sts:AssumeRoleWithWebIdentity on {role}");
    Err(answer.failure(class, &told, what, &right))
}

/// Asks this machine's metadata service.
fn of_machine(metadata: &Server, until: Deadline) -> Answered<Credentials> {
    let seconds = HeaderValue::from_static("60");
    let request = Request::put(SESSION_PATH).with(SESSION_SECONDS, seconds);
    let session = metadata.ask(request, until)?;
    let token = line(&session).and_then(secret_header);
    let token = token.ok_or_else(|| foreign(&session))?;
    let get = |path: String| metadata.ask(Request::get(path).with(SESSION, token.clone()), until);
    let roles = get(ROLE_PATH.into())?;
    if roles.status == 404 {
        let what = "no role is attached to this machine";
        return Err(roles.failure(Class::Denied, "", what, "").unvouched());
    }
    let is_name = |name: &&str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
        name.len() <= ROLE_LEN_MAX && name.bytes().all(is_plain)
    };
    let role = line(&roles).filter(is_name);
    let role = role.ok_or_else(|| foreign(&roles))?;
    let answer = get(format!("{ROLE_PATH}{role}"))?;
    let coded = (answer.status == 200).then(|| answer.json::<Coded>());
    let code = coded.flatten().and_then(|coded| coded.code);
    if let Some(code) = code.filter(|code| code != SUCCESS) {
        let told = format!(" {:?}", printable(&code));
        let what =
            "the role of this machine is given to it no more: does it trust ec2.amazonaws.com?";
        return Err(answer.failure(Class::Denied, &told, what, "").unvouched());
    }
    let pair = (answer.status == 200).then(|| answer.json::<Pair>());
    let pair = pair.flatten().ok_or_else(|| foreign(&answer))?;
    Ok(pair.into())
}

/// The first line of a successful answer, if it has any.
fn line(answer: &Answer) -> Option<&str> {
    let text = std::str::from_utf8(&answer.body).ok()?;
    let line = text.lines().next()?.trim();
    (answer.status == 200 && !line.is_empty()).then_some(line)
}

fn foreign(answer: &Answer) -> Failure {
    answer.failure(Class::Away, "", FOREIGN, "")
}

/// What is in the only element of this name. What the STS has in those that are read needs no escapes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let is_plain = !text.is_empty() && !text.contains(['<', '&']);
    is_plain.then_some(text.trim())
}

#[cfg(test)]
#[path = "../tests/aws_login.rs"]
mod tests;
