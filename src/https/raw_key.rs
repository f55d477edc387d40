// SPDX-License-Identifier: Apache-2.0
//! TLS 1.3 with a node that nobody knows beforehand: it shows a public key and no certificate (RFC 7250), made for one wait.
//!
//! The key says nothing by itself. Whoever connects compares it with what the node's TPM says: see
//! [`crate::protocol::recovery`].
//!
//! **Never:** a session resumed, or data before the handshake is done.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{default_provider, sign::any_eddsa_type};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};
use sha2::{Digest as _, Sha256};

use crate::error::{Doing, Error, Result};

/// A connection as the node has it.
pub(crate) type OfServer = StreamOwned<ServerConnection, Timed>;
/// A connection as whoever connects has it.
pub(crate) type OfClient = StreamOwned<ClientConnection, Timed>;

/// A key that is gone when this is.
#[derive(Clone, Debug)]
pub(crate) struct RawKey {
    config: Arc<ServerConfig>,
    digest: [u8; 32],
}

impl RawKey {
    /// A new one.
    pub(crate) fn generate() -> Result<Self> {
        generate().doing("making a key for TLS")
    }

    /// The SHA-256 of its `SubjectPublicKeyInfo`.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// A connection that was accepted. The handshake takes place as the first byte is read.
    pub(crate) fn serve(&self, socket: TcpStream, limit: Duration) -> Result<OfServer> {
        let connection = ServerConnection::new(Arc::clone(&self.config)).map_err(Error::failure)?;
        Ok(StreamOwned::new(connection, Timed::new(socket, limit)))
    }
}

fn generate() -> Result<RawKey> {
    let random = SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random)
        .map_err(|ring::error::Unspecified| Error::failure("no random bytes"))?;
    let der = PrivatePkcs8KeyDer::from(pkcs8.as_ref());
    let key = any_eddsa_type(&der).map_err(Error::failure)?;
    let spki = key
        .public_key()
        .ok_or_else(|| Error::failure("it has no public half"))?
        .to_vec();
    let digest = Sha256::digest(&spki).into();
    // In this extension's place a certificate is a bare key (RFC 7250, section 3).
    let certified = CertifiedKey::new(vec![CertificateDer::from(spki)], key);
    let resolver = AlwaysResolvesServerRawPublicKeys::new(Arc::new(certified));
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::failure)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(RawKey {
        config: Arc::new(config),
        digest,
    })
}

/// Connects to whoever is there, and says by which key it is known: the SHA-256 of its `SubjectPublicKeyInfo`.
pub(crate) fn connect(socket: TcpStream, limit: Duration) -> Result<(OfClient, [u8; 32])> {
    let name = ServerName::IpAddress(socket.peer_addr()?.ip().into());
    let provider = Arc::new(default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::failure)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(Error::failure)?;
    let mut timed = Timed::new(socket, limit);
    while connection.is_handshaking() {
        connection
            .complete_io(&mut timed)
            .map_err(Error::temporary)
            .doing("TLS")?;
    }
    let key = connection.peer_certificates().and_then(<[_]>::first);
    let key = key.ok_or_else(|| Error::refused("TLS: it has shown no key"))?;
    let digest = Sha256::digest(key).into();
    Ok((StreamOwned::new(connection, timed), digest))
}

/// Takes any key that the other side has: what it is worth is told later.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    /// Never called: TLS 1.2 is not spoken.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A socket that reads and writes until a time, however little the other side sends at once.
#[derive(Debug)]
pub(crate) struct Timed {
    socket: TcpStream,
    until: Instant,
}

impl Timed {
    fn new(socket: TcpStream, limit: Duration) -> Self {
        let now = Instant::now();
        Self {
            socket,
            until: now.checked_add(limit).unwrap_or(now),
        }
    }

    /// From now on it has this long.
    pub(crate) fn limit(&mut self, limit: Duration) {
        let now = Instant::now();
        self.until = now.checked_add(limit).unwrap_or(now);
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the other side took too long",
            )),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(into)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
