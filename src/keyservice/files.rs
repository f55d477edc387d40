// SPDX-License-Identifier: Apache-2.0
//! The files that may change while the service runs: its policy and its certificate.

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use log::{error, info};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use sha2::{Digest, Sha256};

use super::config::{self, Config};
use super::listener::Tls;
use super::service::{Service, load_policy};
use crate::error::{Doing, Error, Result};

/// Reads certificate and key. Only TLS 1.3 is spoken.
pub fn load_tls(files: &config::Tls) -> Result<ServerConfig> {
    let (certificate, key) = (files.certificate.as_path(), files.key.as_path());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(Error::config)
        .doing(certificate.display())?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(Error::config)
        .doing(key.display())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(Error::config)
        .doing(format_args!(
            "{} and {}",
            certificate.display(),
            key.display()
        ))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A node connects once a boot: there is nothing to resume.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What the files held when they were last looked at.
#[derive(Debug)]
pub struct Files {
    tls: Tls,
    policy_seen: [u8; 32],
    tls_seen: [u8; 32],
}

impl Files {
    /// Reads the certificate; the policy was read with the service.
    pub fn open(config: &Config) -> Result<Self> {
        let (policy_seen, tls_seen) = seen(config);
        Ok(Self {
            tls: Arc::new(RwLock::new(Arc::new(load_tls(&config.tls)?))),
            policy_seen,
            tls_seen,
        })
    }

    /// The certificate in use.
    #[must_use]
    pub fn tls(&self) -> Tls {
        Arc::clone(&self.tls)
    }

    /// Reads again what has changed. What cannot be used is said once, and the service goes on with what it had.
    pub fn look(&mut self, config: &Config, service: &Service) {
        let (policy, tls) = seen(config);
        if policy != self.policy_seen {
            self.policy_seen = policy;
            let loaded = load_policy(config.policy.as_path());
            said(
                service,
                "policy",
                loaded.map(|policy| service.set_policy(policy)),
            );
        }
        if tls != self.tls_seen {
            self.tls_seen = tls;
            let loaded = load_tls(&config.tls).map(|loaded| {
                *self.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
            });
            said(service, "certificate", loaded);
        }
    }
}

fn said(service: &Service, what: &'static str, done: Result<()>) {
    match done {
        Ok(()) => {
            info!("{what}: the changed file is in force");
            service.metrics.reload(what, "ok");
        }
        Err(error) => {
            error!("{what}: the changed file cannot be used, the old one stays: {error}");
            service.metrics.reload(what, "failed");
        }
    }
}

/// Digests of what the policy and the certificate consist of. The policy's directory counts with it: that is where the
/// certificates it names are.
fn seen(config: &Config) -> ([u8; 32], [u8; 32]) {
    let policy = config.policy.as_path();
    let mut beside: Vec<_> = policy
        .parent()
        .and_then(|directory| fs::read_dir(directory).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "pem" || end == "crt")
        })
        .collect();
    beside.sort();
    let policy = beside
        .iter()
        .fold(Sha256::new_with_prefix(bytes(policy)), |hash, path| {
            hash.chain_update(bytes(path))
        });
    let tls = Sha256::new()
        .chain_update(bytes(config.tls.certificate.as_path()))
        .chain_update(bytes(config.tls.key.as_path()));
    (policy.finalize().into(), tls.finalize().into())
}

/// The digest of a file; that of nothing where it cannot be read, which is a change as well.
fn bytes(path: &Path) -> [u8; 32] {
    let bytes = fs::read(path).map(zeroize::Zeroizing::new);
    Sha256::digest(bytes.as_deref().map_or(&[][..], Vec::as_slice)).into()
}
