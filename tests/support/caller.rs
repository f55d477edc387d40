// SPDX-License-Identifier: Apache-2.0
//! Somebody who talks to the service: HTTP/1.1 over TLS 1.3, one connection a request unless told otherwise.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::machine::{Draft, Machine};
use nightlatch::protocol::{
    ATTEST_PATH, AUTH_PATH, COOKIE, Challenge, Jwe, RECORD_PATH, RESOURCE_PATH, VolumeClaim,
};

/// How long a caller waits for an answer, on the slowest of machines.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// A certificate for `localhost` that stands for itself, PEM, and its key.
pub(crate) fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {self:?} {text}"))
    }

    /// The last word of the problem's type.
    pub(crate) fn problem(&self) -> String {
        let problem: serde_json::Value = self.json();
        let kind = problem["type"].as_str().unwrap();
        kind.rsplit('/').next().unwrap().to_owned()
    }

    /// The session that came along.
    pub(crate) fn session(&self) -> String {
        let (_, rest) = self.head.split_once(&format!("{COOKIE}=")).unwrap();
        rest.split(';').next().unwrap().to_owned()
    }
}

/// Where the service is and how it is known.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) at: SocketAddr,
    tls: Arc<ClientConfig>,
}

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Caller {
    pub(crate) fn new(at: SocketAddr, certificate: &str) -> Self {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            at,
            tls: Arc::new(tls),
        }
    }

    /// A connection whose handshake is yet to come.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect(self.at)?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
        Ok(StreamOwned::new(tls, stream))
    }

    /// Sends bytes as they are and hears what comes until the other side closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> io::Result<Heard> {
        let mut stream = self.connect()?;
        stream.write_all(bytes)?;
        stream.flush()?;
        hear(&mut stream)
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        session: Option<&str>,
        body: &[u8],
    ) -> io::Result<Heard> {
        self.raw(&request(method, path, session, body))
    }

    pub(crate) fn get(&self, path: &str, session: Option<&str>) -> Heard {
        self.send("GET", path, session, &[]).unwrap()
    }

    pub(crate) fn post(&self, path: &str, session: Option<&str>, body: &impl Serialize) -> Heard {
        let body = serde_json::to_vec(body).unwrap();
        self.send("POST", path, session, &body).unwrap()
    }

    /// The first step, which has to succeed: the challenge and the session.
    pub(crate) fn auth(&self, machine: &Machine) -> (Challenge, String) {
        let heard = self.post(AUTH_PATH, None, &machine.introduction());
        assert_eq!(heard.status, 200, "{heard:?}");
        (heard.json(), heard.session())
    }

    /// The first two steps, with what `change` does to the evidence before it is signed.
    pub(crate) fn attest(
        &self,
        machine: &Machine,
        volumes: &[VolumeClaim],
        change: impl FnOnce(&mut Draft),
    ) -> (Heard, Draft) {
        let (challenge, session) = self.auth(machine);
        let mut draft = machine.draft(&challenge, volumes);
        change(&mut draft);
        let heard = self.post(ATTEST_PATH, Some(&session), &draft.request());
        (heard, draft)
    }

    /// The session of a machine that was admitted, and the key its secrets come to.
    pub(crate) fn admitted(&self, machine: &Machine, volumes: &[VolumeClaim]) -> (String, Draft) {
        let (heard, draft) = self.attest(machine, volumes, |_| ());
        assert_eq!(heard.status, 200, "{heard:?}");
        (heard.session(), draft)
    }

    /// A secret, decrypted.
    pub(crate) fn resource(&self, session: &str, draft: &Draft, path: &str) -> Vec<u8> {
        let heard = self.get(&format!("{RESOURCE_PATH}/{path}"), Some(session));
        assert_eq!(heard.status, 200, "{heard:?}");
        let jwe: Jwe = heard.json();
        draft.open(&jwe)
    }
}

/// Where a volume's record is.
pub(crate) fn record_path(uuid: &str) -> String {
    format!("{RECORD_PATH}/{uuid}")
}

pub(crate) fn request(method: &str, path: &str, session: Option<&str>, body: &[u8]) -> Vec<u8> {
    let cookie = session.map_or_else(String::new, |text| format!("Cookie: {COOKIE}={text}\r\n"));
    let len = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{cookie}\
         Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Reads until the other side closes, with or without saying so.
pub(crate) fn hear(stream: &mut Stream) -> io::Result<Heard> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !bytes.is_empty() => {}
        Err(error) => return Err(error),
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"));
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Heard {
        status,
        body: bytes.split_off(end + 4),
        head,
    })
}
