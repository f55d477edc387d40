// SPDX-License-Identifier: Apache-2.0
//! An operator with a key, who gives what a case says and attests nothing: `src/ctl/recover/tests.rs` has the command.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding as _};
use nightlatch::evidence::{Ak, Ek, credential};
use nightlatch::key::Secret;
use nightlatch::protocol::recovery::{
    Hello, Message, NAMESPACE, Need, Opened, PREFIX_LEN, Presentation, Push, PushedKey,
    PushedVolume, SignedText, TO_OPERATOR_LEN_MAX, VERSION, Verdicts, Word, frame, node_id,
    receive, send,
};
use nightlatch::protocol::{Bytes, Credential, EXTENSION};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring::default_provider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

const KIND: &[u8] = b"ssh-ed25519";
/// How long a node may take until it waits, and for each answer.
const LIMIT: Duration = Duration::from_secs(240);

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes(), bytes].concat()
}

fn blob() -> Vec<u8> {
    [string(KIND), string(key().public_key().as_ref())].concat()
}

/// The table of a configuration that names this operator.
pub(super) fn table(wait_s: u32) -> &'static str {
    let key = Base64::encode_string(&blob());
    let text = format!("[recovery]\noperators = [\"ssh-ed25519 {key}\"]\nwait-s = {wait_s}\n");
    Box::leak(text.into_boxed_str())
}

/// As `ssh-keygen -Y sign` does (OpenSSH, `PROTOCOL.sshsig`).
fn sign(message: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, message);
    let of = |rest: &[u8]| [b"SSHSIG", rest].concat();
    let head = [string(NAMESPACE.as_bytes()), string(b""), string(b"sha512")].concat();
    let signed = of(&[&head[..], &string(digest.as_ref())].concat());
    let signature = [string(KIND), string(key().sign(&signed).as_ref())].concat();
    let parts = [
        &1_u32.to_be_bytes()[..],
        &string(&blob()),
        &head,
        &string(&signature),
    ];
    let text = Base64::encode_string(&of(&parts.concat()));
    format!("-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")
}

/// What the node waits for, and what came of giving its one volume this.
pub(super) fn push(volume_key: Option<[u8; 32]>, words: &[Word]) -> (Vec<Need>, Verdicts) {
    let (mut stream, shown) = connect();
    let volume = shown.volumes.first().unwrap();
    let message = Message {
        version: VERSION,
        node: node_id(&shown.ek_public.0),
        nonce: shown.nonce.clone(),
        said_s: 1_900_000_000,
        volumes: vec![PushedVolume {
            uuid: volume.uuid.clone(),
            key: volume_key.map(|key| PushedKey(Secret::new(key.to_vec()))),
            words: words.to_vec(),
            key_id: volume.key_id.clone(),
            epoch: volume.epoch,
        }],
    };
    let text = frame(&message).unwrap()[PREFIX_LEN..].to_vec();
    let push = Push {
        signature: sign(&text),
        message: SignedText(Secret::new(text)),
    };
    send(&mut stream, &push).unwrap();
    let verdicts = receive(&mut stream, TO_OPERATOR_LEN_MAX, "verdicts").unwrap();
    (volume.needs.clone(), verdicts)
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Up to the credential, which the node opens.
fn connect() -> (Stream, Presentation) {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = open();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    let hello = Hello {
        version: VERSION,
        nonce: Bytes(vec![1; 32]),
    };
    send(&mut stream, &hello).unwrap();
    let shown: Presentation = receive(&mut stream, TO_OPERATOR_LEN_MAX, "a node").unwrap();
    let ek = Ek::parse(&shown.ek_public.0).unwrap();
    let ak = Ak::parse(&shown.ak_public.0).unwrap();
    let made = credential::make(&ek, &ak.name(), &[9; 32]).unwrap();
    let challenge = Credential {
        version: EXTENSION,
        blob: Bytes(made.id_object[2..].to_vec()),
        secret: Bytes(made.encrypted_secret[2..].to_vec()),
    };
    send(&mut stream, &challenge).unwrap();
    let opened: Opened = receive(&mut stream, TO_OPERATOR_LEN_MAX, "a secret").unwrap();
    assert_eq!(opened.credential.0, [9; 32]);
    (stream, shown)
}

/// Waits until the node does.
fn open() -> TcpStream {
    let started = Instant::now();
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, nightlatch::config::RECOVERY_PORT)) {
            Ok(socket) => return socket,
            Err(error) => assert!(started.elapsed() < LIMIT, "the node does not wait: {error}"),
        }
        // wait: event
        thread::sleep(Duration::from_millis(50));
    }
}

#[derive(Debug)]
struct AnyKey;

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = default_provider().signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
