// SPDX-License-Identifier: Apache-2.0
//! What the operator of a key service may say: `nightlatchd.toml`. `nightlatchd.toml(5)` documents each key.
//!
//! **Never:** a key that is ignored, or a secret: only where one is.

pub mod etcd;
pub mod kms;
pub mod secret;

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use etcd::Etcd;
use kms::Kms;
use secret::{MasterSource, SecretFrom};

use crate::config::at;
use crate::error::{Doing, Error, Result};

/// Where the configuration is unless the command line names another place.
pub const CONFIG_PATH: &str = "/etc/nightlatch/nightlatchd.toml";

/// The file of the master secret and its salt, `{"key":"…","salt":"…"}` in base64, as Constellation has it.
pub const MASTER_FILE: &str = "mastersecret.json";

/// The file of the measurement salt, hexadecimal digits.
pub const MEASUREMENT_SALT_FILE: &str = "measurement-salt";

/// The file of a master secret that a KMS has wrapped, see [`kms`].
pub const WRAPPED_FILE: &str = "mastersecret.wrapped.json";

/// The whole configuration of a key service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where nodes connect.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where health and metrics are told without TLS; nowhere where it is left out.
    pub operations_listen: Option<SocketAddr>,
    /// Where operators connect; nowhere where it is left out.
    pub admin: Option<Admin>,
    /// The policy that says which nodes get keys.
    #[serde(default = "default_policy")]
    pub policy: FilePath,
    /// The file that takes a line for each release and denial.
    #[serde(default = "default_audit")]
    pub audit: FilePath,
    /// Who the service is to nodes.
    pub tls: Tls,
    /// What keys are derived from.
    #[serde(default)]
    pub secret: SecretFrom,
    /// Who unwraps the master secret, where it is wrapped.
    pub kms: Option<Kms>,
    /// Where the service remembers nodes and volumes.
    #[serde(default)]
    pub store: StoreAt,
    /// How long a handshake may take and what it leads to lasts.
    #[serde(default)]
    pub session: Lifetimes,
    /// What one client may ask for.
    #[serde(default)]
    pub limits: Limits,
}

/// Who the service is to nodes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// The certificate and those between it and the root, PEM.
    pub certificate: FilePath,
    /// Its private key, PEM.
    pub key: FilePath,
}

/// Where operators connect, and who they are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Admin {
    /// The address.
    pub listen: SocketAddr,
    /// Who the service is to operators: as with nodes.
    pub certificate: FilePath,
    /// Its private key, PEM.
    pub key: FilePath,
    /// The certificates, PEM, that one of has to vouch for an operator's.
    pub client_ca: FilePath,
}

/// Where the service remembers nodes and volumes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreAt {
    /// A database of this machine, made on the first start.
    Sqlite(FilePath),
    /// A cluster, which any number of replicas share.
    Etcd(Etcd),
}

impl Default for StoreAt {
    fn default() -> Self {
        Self::Sqlite(FilePath("/var/lib/nightlatchd/store.sqlite".into()))
    }
}

/// How long a handshake may take and what it leads to lasts, in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lifetimes {
    /// From the nonce to the quote.
    pub handshake_s: NonZeroU32,
    /// From the quote to the last key and record.
    pub admission_s: NonZeroU32,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            handshake_s: count(120),
            admission_s: count(900),
        }
    }
}

/// What one client may ask for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Connections at once; others wait.
    pub connections: NonZeroU32,
    /// Connections of one address at once; others are hung up on.
    pub peer_connections: NonZeroU32,
    /// Requests of one address a second, after as many at once.
    pub peer_requests_per_s: NonZeroU32,
    /// Attestations of one endorsement key a minute, after as many at once.
    pub ek_attestations_per_min: NonZeroU32,
    /// The longest body of a request, in bytes.
    pub body_bytes: NonZeroU32,
    /// All bodies in memory at once, in bytes; at least five times `body-bytes`. A peer may take a quarter of what it leaves
    /// free, and whose does not fit is told to come back.
    pub bodies_bytes: NonZeroU32,
    /// How long a request may take to arrive, and a handshake of TLS to end, in seconds.
    pub request_s: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: count(4096),
            peer_connections: count(256),
            peer_requests_per_s: count(200),
            ek_attestations_per_min: count(20),
            body_bytes: count(2 << 20),
            bodies_bytes: count(64 << 20),
            request_s: count(10),
        }
    }
}

fn count(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 8443))
}

fn default_policy() -> FilePath {
    FilePath("/etc/nightlatch/policy.toml".into())
}

fn default_audit() -> FilePath {
    FilePath("/var/log/nightlatchd/audit.jsonl".into())
}

/// An absolute path of a file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "PathBuf")]
pub struct FilePath(PathBuf);

impl FilePath {
    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<PathBuf> for FilePath {
    type Error = String;

    fn try_from(path: PathBuf) -> std::result::Result<Self, String> {
        if path.is_absolute() && path.file_name().is_some() {
            return Ok(Self(path));
        }
        Err(format!(
            "expected the absolute path of a file, found {:?}",
            path.display().to_string()
        ))
    }
}

impl Config {
    /// Reads the configuration in `path`. An error names the file, the line, the key and what was expected.
    pub fn load(path: &Path) -> Result<Self> {
        fs::read_to_string(path)
            .map_err(Error::config)
            .and_then(|text| Self::parse(&text))
            .doing(path.display())
    }

    /// Parses a configuration. An error starts with `line N: key: `.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)
            .map_err(|error| at(text, &error.span().unwrap_or_default(), error.message()))?;
        if matches!(config.secret.master, MasterSource::Wrapped(_)) && config.kms.is_none() {
            return Err(Error::config(
                "secret.master: one that is wrapped needs the table [kms], which says who unwraps it",
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[tls]\ncertificate = \"/c.pem\"\nkey = \"/k.pem\"\n";

    #[test]
    fn the_least_configuration_has_the_documented_defaults() {
        let config = Config::parse(LEAST).unwrap();
        assert_eq!(config.listen.to_string(), "[::]:8443");
        assert_eq!(config.operations_listen, None);
        assert_eq!(config.session.handshake_s.get(), 120);
        assert_eq!(config.limits.body_bytes.get(), 2 << 20);
        let StoreAt::Sqlite(path) = &config.store else {
            panic!("{:?}", config.store);
        };
        assert_eq!(
            path.as_path(),
            Path::new("/var/lib/nightlatchd/store.sqlite")
        );
    }

    #[test]
    fn an_error_names_line_and_key() {
        for (text, expected) in [
            (
                format!("polcy = \"/p\"\n{LEAST}"),
                "line 1: unknown field `polcy`",
            ),
            (
                format!("policy = \"p.toml\"\n{LEAST}"),
                "line 1: policy: expected the absolute path of a file, found \"p.toml\"",
            ),
            (
                format!("{LEAST}[secret]\nmaster = \"vault:x\"\n"),
                "line 5: master: expected \"file:\" and an absolute path",
            ),
            (
                format!("{LEAST}[secret]\nmaster = \"credential:../x\"\n"),
                "line 5: master: expected \"file:\" and an absolute path",
            ),
            (
                format!("{LEAST}[limits]\nbody-bytes = 0\n"),
                "line 5: body-bytes: invalid value: integer `0`",
            ),
            (
                format!("{LEAST}[store]\nfile = \"/x\"\n"),
                "line 5: unknown variant `file`",
            ),
            ("policy = \"/p\"\n".into(), "line 1: missing field `tls`"),
            (
                format!("{LEAST}[secret]\nmaster = \"wrapped:/m\"\n"),
                "secret.master: one that is wrapped needs the table [kms]",
            ),
        ] {
            let error = Config::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\n{expected}");
        }
    }
}
