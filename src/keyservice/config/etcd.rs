// SPDX-License-Identifier: Apache-2.0
//! Where etcd is, and how the two sides know each other.

use std::fmt;
use std::net::IpAddr;

use rustls::ClientConfig;
use serde::Deserialize;
use ureq::http::Uri;

use crate::error::{Doing, Result};
use crate::https;
use crate::keyservice::config::FilePath;

/// A cluster of etcd.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Said")]
pub struct Etcd {
    /// The members, in the order to try. At least one.
    pub endpoints: Vec<Endpoint>,
    /// What all keys begin with; ends with a slash.
    pub prefix: Prefix,
    /// The certificates, in PEM, that one of has to vouch for the members.
    ca: Option<FilePath>,
    /// Who the service is to them: a certificate and its key, in PEM.
    identity: Option<(FilePath, FilePath)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Said {
    endpoints: Vec<Endpoint>,
    #[serde(default)]
    prefix: Prefix,
    ca: Option<FilePath>,
    certificate: Option<FilePath>,
    key: Option<FilePath>,
}

impl Etcd {
    /// What is spoken with the members; nothing where it is plain HTTP with this machine.
    pub(in crate::keyservice) fn tls(&self) -> Result<Option<ClientConfig>> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let identity = self.identity.as_ref();
        let identity = identity.map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        https::tls(ca.as_path(), identity)
            .map(Some)
            .doing("store.etcd")
    }
}

impl TryFrom<Said> for Etcd {
    type Error = String;

    fn try_from(said: Said) -> std::result::Result<Self, String> {
        if said.endpoints.is_empty() {
            return Err("endpoints: expected at least one address".into());
        }
        let is_tls = said.ca.is_some();
        if let Some(other) = said.endpoints.iter().find(|at| at.is_tls != is_tls) {
            return Err(format!(
                "{other}: https:// goes with ca, and http:// without it"
            ));
        }
        let identity = match (said.certificate, said.key) {
            (Some(certificate), Some(key)) if is_tls => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("certificate and key go together, and with ca".into()),
        };
        Ok(Self {
            endpoints: said.endpoints,
            prefix: said.prefix,
            ca: said.ca,
            identity,
        })
    }
}

/// The address of a server: `https://HOST:PORT`, or `http://` with an address of this machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Endpoint {
    text: String,
    is_tls: bool,
}

impl Endpoint {
    /// Whether it is spoken to by TLS.
    pub(in crate::keyservice) fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    /// Whoever is on the way of plain HTTP could give one node's volumes to another, so it stays on this machine.
    fn try_from(text: String) -> std::result::Result<Self, String> {
        let wrong = || {
            format!(
                "expected \"https://HOST:PORT\", or \"http://\" and a loopback address, found {text:?}"
            )
        };
        let uri: Uri = text.parse().map_err(|_error| wrong())?;
        let host = uri.host().ok_or_else(wrong)?;
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback());
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback => false,
            _ => return Err(wrong()),
        };
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !is_bare || text.contains('@') {
            return Err(wrong());
        }
        let text = text.trim_end_matches('/').to_owned();
        Ok(Self { text, is_tls })
    }
}

/// What all keys begin with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Prefix(String);

impl Default for Prefix {
    fn default() -> Self {
        Self("/nightlatch/".into())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_plain && text.starts_with('/') && text.ends_with('/') {
            return Ok(Self(text));
        }
        Err(format!(
            "expected letters, digits and signs between two slashes, found {text:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<Etcd, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for good in ["http://127.0.0.1:2379", "http://[::1]:2379/"] {
            parse(&format!("endpoints = [\"{good}\"]")).unwrap();
        }
        for good in ["https://etcd.example:2379", "https://192.0.2.1"] {
            parse(&format!("endpoints = [\"{good}\"]\nca = \"/ca.pem\"")).unwrap();
        }
        for wrong in [
            "http://192.0.2.1:2379",
            "http://localhost:2379",
            "https://x/v3",
            "https://a@b",
            "127.0.0.1:2379",
            "",
        ] {
            let error = parse(&format!("endpoints = [\"{wrong}\"]")).unwrap_err();
            assert!(error.contains("expected \"https://HOST:PORT\""), "{error}");
        }
    }

    #[test]
    fn certificates_go_together() {
        let at = "endpoints = [\"https://a:1\"]\n";
        let (ca, certificate, key) = ("ca = \"/a\"\n", "certificate = \"/c\"\n", "key = \"/k\"\n");
        parse(&[at, ca].concat()).unwrap();
        parse(&[at, ca, certificate, key].concat()).unwrap();
        for wrong in [
            vec![at],
            vec![at, ca, key],
            vec![at, ca, certificate],
            vec![at, certificate, key],
            vec![
                "endpoints = [\"http://127.0.0.1:1\", \"https://a:1\"]\n",
                ca,
            ],
            vec!["endpoints = [\"http://127.0.0.1:1\"]\n", ca],
            vec!["endpoints = []\n", ca],
            vec![at, ca, "prefix = \"nightlatch\"\n"],
            vec![at, ca, "prefix = \"/\u{e4}/\"\n"],
        ] {
            parse(&wrong.concat()).unwrap_err();
        }
        let found = parse(&[at, ca, "prefix = \"/fleet/a/\"\n"].concat()).unwrap();
        assert_eq!(found.prefix.to_string(), "/fleet/a/");
    }
}
