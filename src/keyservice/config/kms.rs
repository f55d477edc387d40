// SPDX-License-Identifier: Apache-2.0
//! Which KMS wraps the master secret, how it is reached, and how long the service goes on without it.
//!
//! The table is read by every build. What speaks to a KMS is a cargo feature, and a build without one refuses to start
//! with a wrapped master secret.

pub mod aws;
pub mod azure;
pub mod gcp;
pub mod transit;

use std::time::Duration;

use serde::Deserialize;

use super::FilePath;
use super::etcd::Endpoint;
use super::secret::SecretSource;
use aws::KeyArn;
use transit::KeyPath;

/// How long one answer may take by default, in seconds.
const DEADLINE_S: u32 = 5;
/// At most.
const DEADLINE_S_MAX: u32 = 60;

/// How often the master secret is unwrapped again by default, in seconds.
const RECHECK_S: u32 = 300;

/// How long releases go on by default while the KMS is away, in seconds.
const GRACE_S: u32 = 3600;
/// At most: a day.
const GRACE_S_MAX: u32 = 86_400;

/// What `credentials` says for what the cloud's metadata service gives this machine.
const MACHINE: &str = "machine";

/// The KMS, its key, and what it knows the service by.
#[derive(Debug)]
pub enum Provider {
    /// The transit engine of `OpenBao` or Vault.
    OpenBao {
        /// The key.
        key: KeyPath,
        /// Where the token is.
        token: SecretSource,
    },
    /// AWS KMS.
    Aws {
        /// The key.
        key: KeyArn,
        /// Whose key pair signs the requests.
        login: aws::Login,
    },
    /// Azure's Key Vault or managed HSM.
    Azure {
        /// The key.
        key: azure::KeyName,
        /// Who gives the token.
        login: azure::Login,
    },
    /// Google's Cloud KMS.
    Gcp {
        /// The key.
        key: gcp::KeyName,
        /// Who gives the token.
        login: gcp::Login,
    },
}

/// A KMS and its key.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Said")]
pub struct Kms {
    /// Its kind, with the key and the credentials.
    pub provider: Provider,
    /// Where it is.
    pub url: Endpoint,
    /// The certificates, in PEM, that one of has to vouch for it.
    pub ca: Option<FilePath>,
    /// How long one answer may take.
    pub deadline: Duration,
    /// How often the master secret is unwrapped again; nothing is at the start only.
    pub recheck: Option<Duration>,
    /// How long releases go on after the last unwrap while the KMS is away.
    pub grace: Duration,
    /// The public key, in PEM, whose owner can unwrap without the KMS.
    pub recovery_key: Option<FilePath>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Said {
    provider: Kind,
    key: String,
    url: Endpoint,
    credentials: Credentials,
    role: Option<String>,
    login_url: Option<Endpoint>,
    ca: Option<FilePath>,
    #[serde(default = "deadline_s")]
    deadline_s: u32,
    #[serde(default = "recheck_s")]
    recheck_s: u32,
    #[serde(default = "grace_s")]
    grace_s: u32,
    recovery_key: Option<FilePath>,
}

/// The kinds of KMS.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[serde(rename = "openbao")]
    OpenBao,
    Aws,
    Azure,
    Gcp,
}

/// Where credentials come from.
#[derive(Deserialize)]
#[serde(try_from = "String")]
enum Credentials {
    From(SecretSource),
    Machine,
}

impl TryFrom<String> for Credentials {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == MACHINE {
            return Ok(Self::Machine);
        }
        SecretSource::try_from(text)
            .map(Self::From)
            .map_err(|error| {
                format!("{error}; \"{MACHINE}\" is for the metadata service of a cloud")
            })
    }
}

impl Said {
    /// What goes together, by the kind of KMS.
    fn provider(&self) -> Result<Provider, String> {
        let (key, login_url) = (self.key.clone(), self.login_url.clone());
        match (
            self.provider,
            &self.credentials,
            self.role.clone(),
            login_url,
        ) {
            (Kind::OpenBao, Credentials::From(token), None, None) => Ok(Provider::OpenBao {
                key: key.try_into()?,
                token: token.clone(),
            }),
            (Kind::OpenBao, ..) => {
                Err("credentials: openbao takes a token, and neither role nor login-url".into())
            }
            (Kind::Aws, credentials, role, login_url) => Ok(Provider::Aws {
                key: key.try_into()?,
                login: match (credentials, role, login_url) {
                    (Credentials::From(keys), None, None) => aws::Login::Keys(keys.clone()),
                    (Credentials::From(token), Some(role), Some(url)) => {
                        aws::Login::web_identity(token.clone(), role, url)?
                    }
                    (Credentials::Machine, None, None) => aws::Login::Machine,
                    _ => return Err(aws::LOGINS.into()),
                },
            }),
            (Kind::Azure, credentials, role, login_url) => Ok(Provider::Azure {
                key: key.try_into()?,
                login: match (credentials, role, login_url) {
                    (Credentials::From(token), Some(role), Some(url)) => {
                        azure::Login::federated(token.clone(), &role, url)?
                    }
                    (Credentials::Machine, role, None) => azure::Login::machine(role.as_deref())?,
                    _ => return Err(azure::LOGINS.into()),
                },
            }),
            (Kind::Gcp, credentials, role, login_url) => Ok(Provider::Gcp {
                key: key.try_into()?,
                login: match (credentials, role, login_url) {
                    (Credentials::From(account), None, None) => {
                        gcp::Login::Account(account.clone())
                    }
                    (Credentials::Machine, None, None) => gcp::Login::Machine,
                    _ => return Err(gcp::LOGINS.into()),
                },
            }),
        }
    }
}

fn deadline_s() -> u32 {
    DEADLINE_S
}

fn recheck_s() -> u32 {
    RECHECK_S
}

fn grace_s() -> u32 {
    GRACE_S
}

impl TryFrom<Said> for Kms {
    type Error = String;

    fn try_from(said: Said) -> Result<Self, String> {
        let seconds = |count: u32| Duration::from_secs(count.into());
        let urls = [Some(&said.url), said.login_url.as_ref()];
        let is_tls = said.ca.is_some();
        if let Some(other) = urls
            .into_iter()
            .flatten()
            .find(|url| url.is_tls() != is_tls)
        {
            return Err(format!(
                "{other}: https:// goes with ca, and http:// without it"
            ));
        }
        if !(1..=DEADLINE_S_MAX).contains(&said.deadline_s) {
            return Err(format!(
                "deadline-s: expected 1 to {DEADLINE_S_MAX}, found {}",
                said.deadline_s
            ));
        }
        if said.grace_s > GRACE_S_MAX {
            return Err(format!(
                "grace-s: expected at most {GRACE_S_MAX}, found {}",
                said.grace_s
            ));
        }
        Ok(Self {
            provider: said.provider()?,
            url: said.url,
            ca: said.ca,
            deadline: seconds(said.deadline_s),
            recheck: (said.recheck_s > 0).then(|| seconds(said.recheck_s)),
            grace: seconds(said.grace_s),
            recovery_key: said.recovery_key,
        })
    }
}

#[cfg(test)]
mod tests;
