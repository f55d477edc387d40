// SPDX-License-Identifier: Apache-2.0
//! HTTP with a peer of the operator's own: etcd, and the admin listener of a key service. Both sides show certificates.
//!
//! TLS and HTTP as everybody here speaks them: [`agent`] for requests, [`tls::TlsConnector`] below it.
//!
//! **Never:** the system's list of authorities: who is trusted is named in a configuration.

pub(crate) mod raw_key;
pub(crate) mod tls;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};

use crate::error::{Doing, Error, Result};
use crate::https::tls::TlsConnector;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Reads who vouches for the peer, and who we are to it: a certificate with those between it and its root, and its key.
/// All are files in PEM. Only TLS 1.3 is spoken.
pub(crate) fn tls(ca: &Path, identity: Option<(&Path, &Path)>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::failure)?
        .with_root_certificates(roots(ca)?);
    let Some((certificate, key)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(Error::config)
        .doing(key.display())?;
    builder
        .with_client_auth_cert(chain(certificate)?, private)
        .map_err(Error::config)
        .doing(format_args!(
            "{} and {}",
            certificate.display(),
            key.display()
        ))
}

/// The certificates of `path`, of which one has to vouch for the other side.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots
            .add(certificate)
            .map_err(Error::config)
            .doing(path.display())?;
    }
    Ok(roots)
}

/// The certificates of `path`, at least one.
pub(crate) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(Error::config)
        .doing(path.display())?;
    if chain.is_empty() {
        return Err(Error::config(format_args!(
            "{}: expected at least one certificate in PEM",
            path.display()
        )));
    }
    Ok(chain)
}

/// Makes requests, each within `answer_max`. Without `tls` they are plain. At most `idle_max` connections are kept.
pub(crate) fn agent(tls: Option<ClientConfig>, answer_max: Duration, idle_max: usize) -> Agent {
    let config = Config::builder()
        .https_only(tls.is_some())
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(answer_max))
        .timeout_connect(Some(CONNECT_MAX))
        .max_idle_connections(idle_max)
        .max_idle_connections_per_host(idle_max)
        .user_agent(concat!("nightlatch/", env!("CARGO_PKG_VERSION")))
        .build();
    let resolver = DefaultResolver::default();
    match tls {
        Some(tls) => {
            let connector = TcpConnector::default().chain(TlsConnector::with(tls));
            Agent::with_parts(config, connector, resolver)
        }
        None => Agent::with_parts(config, TcpConnector::default(), resolver),
    }
}
