// SPDX-License-Identifier: Apache-2.0
//! The files that may change while the service runs: its policy and its certificates.
//!
//! [`Files::poll`] looks whether they changed; connections that come later use what is there then.
//!
//! **Never:** a file half in force: what cannot be used is said, and what there was stays.

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use log::{error, info};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::version::TLS13;
use sha2::{Digest, Sha256};

use crate::error::{Doing, Error, Result};
use crate::https;
use crate::keyservice::config::{self, Config, FilePath};
use crate::keyservice::http::listener::Tls;
use crate::keyservice::state::{Service, load_policy};

/// Reads who the service is to nodes. Only TLS 1.3 is spoken.
pub fn load_tls(files: &config::Tls) -> Result<ServerConfig> {
    let anybody = Arc::new(NoClientAuth);
    load(files.certificate.as_path(), files.key.as_path(), anybody)
}

/// Reads who the service is to operators, and who vouches for them. Nobody else gets further than the handshake.
pub fn load_admin_tls(files: &config::Admin) -> Result<ServerConfig> {
    let roots = Arc::new(https::roots(files.client_ca.as_path())?);
    let provider = Arc::new(default_provider());
    let operators = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(Error::config)
        .doing(files.client_ca.as_path().display())?;
    load(files.certificate.as_path(), files.key.as_path(), operators)
}

fn load(
    certificate: &Path,
    key: &Path,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig> {
    let chain = https::chain(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(Error::config)
        .doing(key.display())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(clients)
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
    admin_tls: Option<Tls>,
    seen: Seen,
}

/// Digests of what they hold.
#[derive(Debug)]
struct Seen {
    policy: [u8; 32],
    tls: [u8; 32],
    admin_tls: [u8; 32],
}

impl Files {
    /// Reads the certificates; the policy was read with the service.
    pub fn open(config: &Config) -> Result<Self> {
        let seen = seen(config);
        let shared = |tls| Arc::new(RwLock::new(Arc::new(tls)));
        let admin = config.admin.as_ref().map(load_admin_tls).transpose();
        Ok(Self {
            tls: shared(load_tls(&config.tls)?),
            admin_tls: admin.doing("admin")?.map(shared),
            seen,
        })
    }

    /// The certificate in use with operators.
    #[must_use]
    pub fn admin_tls(&self) -> Option<Tls> {
        self.admin_tls.as_ref().map(Arc::clone)
    }

    /// The certificate in use.
    #[must_use]
    pub fn tls(&self) -> Tls {
        Arc::clone(&self.tls)
    }

    /// Reads again what has changed. What cannot be used is said once, and the service goes on with what it had.
    pub fn poll(&mut self, config: &Config, service: &Service) {
        let now = seen(config);
        if now.policy != self.seen.policy {
            let loaded = load_policy(config.policy.as_path());
            said(
                service,
                "policy",
                loaded.map(|policy| service.set_policy(policy)),
            );
        }
        if now.tls != self.seen.tls {
            let loaded = load_tls(&config.tls).map(|loaded| replace(&self.tls, loaded));
            said(service, "certificate", loaded);
        }
        if let (Some(tls), Some(files)) = (&self.admin_tls, &config.admin)
            && now.admin_tls != self.seen.admin_tls
        {
            let loaded = load_admin_tls(files).map(|loaded| replace(tls, loaded));
            said(service, "admin-certificate", loaded);
        }
        self.seen = now;
    }
}

fn replace(tls: &Tls, loaded: ServerConfig) {
    *tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
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

/// Digests of what the policy and the certificates consist of. The policy's directory counts with it: that is where the
/// certificates it names are.
fn seen(config: &Config) -> Seen {
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
    let digest = |paths: &[&FilePath]| -> [u8; 32] {
        let digests = paths.iter().map(|path| bytes(path.as_path()));
        let hash = digests.fold(Sha256::new(), Sha256::chain_update);
        hash.finalize().into()
    };
    let admin = config.admin.as_ref();
    Seen {
        policy: policy.finalize().into(),
        tls: digest(&[&config.tls.certificate, &config.tls.key]),
        admin_tls: admin.map_or([0; 32], |admin| {
            digest(&[&admin.certificate, &admin.key, &admin.client_ca])
        }),
    }
}

/// The digest of a file; that of nothing where it cannot be read, which is a change as well.
fn bytes(path: &Path) -> [u8; 32] {
    let bytes = fs::read(path).map(zeroize::Zeroizing::new);
    Sha256::digest(bytes.as_deref().map_or(&[][..], Vec::as_slice)).into()
}
