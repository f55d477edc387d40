// SPDX-License-Identifier: Apache-2.0
//! Where the key service is, and how it is recognised.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};

/// The longest address of a service, in bytes.
const URL_LEN_MAX: usize = 512;

/// The longest file with certificates, in bytes.
const CERTIFICATES_LEN_MAX: u64 = 64 * 1024;

/// The longest that it is tried, in seconds: a day.
const DEADLINE_S_MAX: u32 = 86_400;

/// The key service.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyService {
    /// Its addresses, in the order to try.
    pub urls: Vec<ServiceUrl>,
    /// A file in the initrd with the certificates, in PEM, that one of has to vouch for the service.
    pub ca: Option<FilePath>,
    /// The SHA-256 of the service's own public key.
    pub pin: Option<Pin>,
    /// What is spoken.
    #[serde(default)]
    pub protocol: ServiceProtocol,
    /// How long the service is tried before the next source is, in seconds.
    #[serde(default = "default_deadline_s")]
    pub deadline_s: u32,
    /// A file in the initrd with the certificate, in DER, of the TPM's endorsement key. Without it the one in the TPM is
    /// sent, where there is one.
    pub ek_certificate: Option<FilePath>,
    /// On whose word a volume whose secret the node made itself is given the service's key.
    #[serde(default)]
    pub enroll: Enroll,
}

fn default_deadline_s() -> u32 {
    120
}

impl KeyService {
    /// How long the service is tried before the next source is.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s.into())
    }

    /// What no single value can show.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.urls.is_empty() {
            return Err("service.urls: expected at least one address".into());
        }
        if self.ca.is_some() == self.pin.is_some() {
            return Err(
                "service: expected either ca or pin, by which the service is recognised".into(),
            );
        }
        if !(1..=DEADLINE_S_MAX).contains(&self.deadline_s) {
            return Err(format!(
                "service.deadline-s: expected 1 to {DEADLINE_S_MAX}, found {}",
                self.deadline_s
            ));
        }
        for (index, url) in self.urls.iter().enumerate() {
            if self.urls.iter().take(index).any(|other| other == url) {
                return Err(format!("service.urls: {url} is there twice"));
            }
        }
        Ok(())
    }
}

/// What is spoken with the key service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceProtocol {
    /// Trustee's with the extension, which the server has to know, and an ECDSA key.
    #[default]
    Nightlatch,
    /// Trustee's alone, with the RSA key that its verifier asks for.
    Trustee,
}

/// On whose word a volume is given the service's key, where it has another secret.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enroll {
    /// The configuration's, which says that the service comes first.
    #[default]
    Auto,
    /// The operator's, by `nightlatchctl enroll`.
    Asked,
}

/// The address of a key service: `https://HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// The address, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its host is a name, which has to be resolved.
    #[must_use]
    pub fn is_named(&self) -> bool {
        let host = self.host_and_port().map(|(host, _)| host);
        host.is_some_and(|host| {
            let address = host.trim_start_matches('[').trim_end_matches(']');
            address.parse::<IpAddr>().is_err()
        })
    }

    /// Whether it says which port.
    #[must_use]
    pub fn has_port(&self) -> bool {
        self.host_and_port().is_some_and(|(_, port)| port.is_some())
    }

    fn host_and_port(&self) -> Option<(&str, Option<&str>)> {
        let rest = self.0.strip_prefix("https://")?;
        host_and_port(rest.split('/').next()?)
    }
}

impl TryFrom<String> for ServiceUrl {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let wrong = || format!("expected https://HOST[:PORT][/PATH], found {text:?}");
        let rest = text.strip_prefix("https://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~/".contains(c);
        let (host, port) = host_and_port(authority).ok_or_else(wrong)?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        let is_address = |c: char| c.is_ascii_hexdigit() || ":.".contains(c);
        let host_is_good = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(address) => !address.is_empty() && address.chars().all(is_address),
            None => !host.is_empty() && host.chars().all(is_host),
        };
        let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
        let path_is_good = path.chars().all(plain) && !path.split('/').any(|part| part == "..");
        if !host_is_good || !port_is_good || !path_is_good || text.len() > URL_LEN_MAX {
            return Err(wrong());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// The host, which may be an IPv6 address in brackets, and the port.
fn host_and_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let end = if authority.starts_with('[') {
        authority.find(']')?.checked_add(1)?
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at_checked(end)?;
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None => rest.is_empty().then_some((host, None)),
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a `SubjectPublicKeyInfo` in DER; its text is standard base64.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin([u8; 32]);

impl Pin {
    /// The digest.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        Base64::encode_string(&pin.0)
    }
}

impl TryFrom<String> for Pin {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let mut digest = [0; 32];
        match Base64::decode(&text, &mut digest) {
            Ok(decoded) if decoded.len() == 32 => Ok(Self(digest)),
            _ => Err(format!(
                "expected the SHA-256 of a public key, 32 bytes in base64, found {text:?}"
            )),
        }
    }
}

/// A file in the initrd.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub struct FilePath(String);

impl FilePath {
    /// The path, absolute.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is in it, below `root`. It has at least one byte.
    pub fn read(&self, root: &Path) -> Result<Vec<u8>> {
        let path = root.join(self.0.trim_start_matches('/'));
        let read = || -> Result<Vec<u8>> {
            let len = fs::metadata(&path).map_err(Error::config)?.len();
            if len == 0 || len > CERTIFICATES_LEN_MAX {
                return Err(Error::config(format_args!(
                    "expected 1 to {CERTIFICATES_LEN_MAX} bytes, found {len}"
                )));
            }
            fs::read(&path).map_err(Error::config)
        };
        read().doing(format_args!("reading {}", path.display()))
    }
}

impl TryFrom<String> for FilePath {
    type Error = String;

    fn try_from(path: String) -> std::result::Result<Self, String> {
        if path.starts_with('/') && super::value::is_normal(&path) {
            Ok(Self(path))
        } else {
            Err(format!(
                "expected an absolute path without \"..\" or white space, found {path:?}"
            ))
        }
    }
}
