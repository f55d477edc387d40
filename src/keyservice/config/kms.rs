// SPDX-License-Identifier: Apache-2.0
//! Which KMS wraps the master secret, how it is reached, and how long the service goes on without it.
//!
//! The table is read by every build. What speaks to a KMS is a cargo feature, and a build without one refuses to start
//! with a wrapped master secret.

use std::time::Duration;

use serde::Deserialize;

use super::FilePath;
use super::etcd::Endpoint;
use super::secret::SecretSource;

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

/// The longest name of a key, in bytes.
const KEY_LEN_MAX: usize = 256;

/// The kinds of KMS.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum Provider {
    /// The transit engine of `OpenBao` or Vault.
    #[serde(rename = "openbao")]
    OpenBao,
}

/// A KMS and its key.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Said")]
pub struct Kms {
    /// Its kind.
    pub provider: Provider,
    /// The key: of a transit engine `MOUNT/NAME`.
    pub key: KeyPath,
    /// Where it is.
    pub url: Endpoint,
    /// What it knows the service by: of `OpenBao` and Vault a token.
    pub credentials: SecretSource,
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
    provider: Provider,
    key: KeyPath,
    url: Endpoint,
    credentials: SecretSource,
    ca: Option<FilePath>,
    #[serde(default = "deadline_s")]
    deadline_s: u32,
    #[serde(default = "recheck_s")]
    recheck_s: u32,
    #[serde(default = "grace_s")]
    grace_s: u32,
    recovery_key: Option<FilePath>,
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
        if said.url.is_tls() != said.ca.is_some() {
            return Err(format!(
                "{}: https:// goes with ca, and http:// without it",
                said.url
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
            provider: said.provider,
            key: said.key,
            url: said.url,
            credentials: said.credentials,
            ca: said.ca,
            deadline: seconds(said.deadline_s),
            recheck: (said.recheck_s > 0).then(|| seconds(said.recheck_s)),
            grace: seconds(said.grace_s),
            recovery_key: said.recovery_key,
        })
    }
}

/// `MOUNT/NAME`. The mount may have several parts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct KeyPath {
    mount: String,
    name: String,
}

impl KeyPath {
    /// Where the engine is mounted.
    #[must_use]
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl TryFrom<String> for KeyPath {
    type Error = String;

    /// It becomes a part of a path of HTTP, so nothing is in it that means something there.
    fn try_from(text: String) -> Result<Self, String> {
        let is_plain = |part: &str| {
            let mut bytes = part.bytes();
            let is_name = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            is_name && !part.is_empty() && !part.starts_with('.')
        };
        match text.rsplit_once('/') {
            Some((mount, name)) if text.len() <= KEY_LEN_MAX && text.split('/').all(is_plain) => {
                Ok(Self {
                    mount: mount.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(format!(
                "expected \"MOUNT/NAME\" of letters, digits, dashes, underscores and dots, found {text:?}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "provider = \"openbao\"\nkey = \"transit/nightlatch\"\n\
                         url = \"https://bao.example:8200\"\nca = \"/ca.pem\"\ncredentials = \"file:/token\"\n";

    fn parse(text: &str) -> Result<Kms, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn the_least_table_has_the_documented_defaults() {
        let kms = parse(LEAST).unwrap();
        assert_eq!((kms.key.mount(), kms.key.name()), ("transit", "nightlatch"));
        assert_eq!(kms.deadline, Duration::from_secs(5));
        assert_eq!(kms.recheck, Some(Duration::from_secs(300)));
        assert_eq!(kms.grace, Duration::from_secs(3600));
        assert!(kms.recovery_key.is_none());
        let never = parse(&format!("{LEAST}recheck-s = 0\n")).unwrap();
        assert_eq!(never.recheck, None);
        let long = parse(&format!("{LEAST}grace-s = 86400\ndeadline-s = 60\n")).unwrap();
        assert_eq!(long.grace, Duration::from_secs(86_400));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (line, said) in [
            ("grace-s = 86401", "grace-s: expected at most 86400"),
            ("deadline-s = 0", "deadline-s: expected 1 to 60"),
            ("deadline-s = 61", "deadline-s: expected 1 to 60"),
            ("token = \"hvs.x\"", "unknown field `token`"),
        ] {
            let error = parse(&format!("{LEAST}{line}\n")).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        for (old, new, said) in [
            ("openbao", "aws", "unknown variant `aws`"),
            ("ca = \"/ca.pem\"\n", "", "https:// goes with ca"),
            (
                "https://bao.example:8200",
                "http://127.0.0.1:8200",
                "goes with ca",
            ),
            (
                "https://bao.example:8200",
                "http://bao.example:8200",
                "loopback",
            ),
            ("file:/token", "hvs.x", "expected \"file:\""),
            (
                "transit/nightlatch",
                "nightlatch",
                "expected \"MOUNT/NAME\"",
            ),
            (
                "transit/nightlatch",
                "transit/../nightlatch",
                "expected \"MOUNT/NAME\"",
            ),
            ("transit/nightlatch", "transit/", "expected \"MOUNT/NAME\""),
            (
                "transit/nightlatch",
                "transit/a?b",
                "expected \"MOUNT/NAME\"",
            ),
        ] {
            let error = parse(&LEAST.replace(old, new)).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        parse(&LEAST.replace("transit/nightlatch", "team/transit/a_b-c.d")).unwrap();
    }
}
