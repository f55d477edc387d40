// SPDX-License-Identifier: Apache-2.0
//! A key service as Trustee's protocol describes it, that looks at every message, and twists one where a test says so.

//!
//! The cases in the machine include this file as well.

#![allow(
    dead_code,
    clippy::wildcard_enum_match_arm,
    reason = "no test uses all of it, and most twists are about one message"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData as _};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, SignatureScheme, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha384};

use nightlatch::key::{Secret, fill_random};
use nightlatch::protocol::jwe::EphemeralKeyPair;
use nightlatch::protocol::{EphemeralKey, Jwe};

use super::alone;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Twist {
    Nothing,
    /// `/attest` denies.
    Deny,
    /// `/attest` says that the session is over.
    Expired,
    /// Every path says 401.
    Never,
    /// The keys are denied, one volume's or all.
    DenyKeys,
    /// The answer to `/auth` comes too slowly.
    Slow,
    /// It ends too early.
    Truncated,
    /// It is longer than anybody reads.
    Oversized,
    /// `/auth` leads elsewhere.
    Redirect,
    /// The first few requests meet a busy service.
    Busy(usize),
    /// The first request is one too many, and may come again after a second.
    TooOften,
    /// The keys are encrypted to another node.
    OtherNode,
    /// A key has another length.
    Short,
    /// No cookie comes with the nonce.
    NoCookie,
    /// The credential is for another TPM.
    OtherCredential,
}

/// What a mock knows and does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) twist: Twist,
    /// Whether it knows the extension.
    pub(crate) extended: bool,
    /// What is at which path of `/resource`; a star stands for any tag.
    pub(crate) resources: BTreeMap<String, Vec<u8>>,
    /// What it remembers of volumes that nobody told it of.
    pub(crate) record: Value,
}

#[derive(Debug, Default)]
struct Session {
    cookie: String,
    nonce: String,
    credential: Vec<u8>,
    introduced: Option<Value>,
    key: Option<EphemeralKey>,
}

/// A running mock.
#[derive(Debug)]
pub(crate) struct Mock {
    pub(crate) url: String,
    pub(crate) ca: String,
    pub(crate) pin: [u8; 32],
    shared: Arc<Shared>,
    port: u16,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    /// What it was told of volumes, by path.
    told: Mutex<BTreeMap<String, Value>>,
    seen: Mutex<Vec<(String, String)>>,
    session: Mutex<Session>,
    connections: AtomicUsize,
    over: AtomicBool,
}

impl Mock {
    pub(crate) fn start(script: Script) -> Self {
        let (config, ca, pin) = certificates();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            told: Mutex::default(),
            seen: Mutex::default(),
            session: Mutex::default(),
            connections: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                let (serving, config) = (Arc::clone(&serving), Arc::clone(&config));
                thread::spawn(move || {
                    serving.connections.fetch_add(1, Ordering::SeqCst);
                    let tls = ServerConnection::new(config).unwrap();
                    let mut stream = BufReader::new(StreamOwned::new(tls, stream.unwrap()));
                    while serving.serve(&mut stream).is_some() {}
                });
            }
        });
        Self {
            url: format!("https://localhost:{port}"),
            ca,
            pin,
            shared,
            port,
        }
    }

    /// The requests so far, as method and path.
    pub(crate) fn requests(&self) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().map(|(line, _)| line.clone()).collect()
    }

    /// The body of the last request of this method and path.
    pub(crate) fn body(&self, line: &str) -> Value {
        let seen = self.shared.seen.lock().unwrap();
        let (_, body) = seen.iter().rev().find(|(seen, _)| seen == line).unwrap();
        serde_json::from_str(body).unwrap()
    }

    /// Changes what it does from now on.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().unwrap());
    }

    /// Makes it remember something of the volume at this path.
    pub(crate) fn tell(&self, path: &str, record: Value) {
        self.shared
            .told
            .lock()
            .unwrap()
            .insert(path.to_owned(), record);
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

type Stream = BufReader<StreamOwned<ServerConnection, TcpStream>>;

impl Shared {
    fn script(&self) -> Script {
        self.script.lock().unwrap().clone()
    }

    /// Serves one request; `None` when the connection is over.
    fn serve(&self, stream: &mut Stream) -> Option<()> {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
        let (mut len, mut cookie) = (0, String::new());
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => len = value.parse().unwrap(),
                "cookie" => value.clone_into(&mut cookie),
                _ => {}
            }
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).ok()?;
        let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
        let count = {
            let mut seen = self.seen.lock().unwrap();
            seen.push((line.clone(), String::from_utf8(body.clone()).unwrap()));
            seen.len()
        };
        let answer = match self.script().twist {
            Twist::Busy(times) if count <= times => problem(503, "PluginInternalError"),
            Twist::TooOften if count == 1 => Answer {
                retry_after_s: Some(1),
                ..problem(429, "TooManyRequests")
            },
            Twist::Never => problem(401, "TokenNotFound"),
            _ => self.answer(&line, &cookie, &body),
        };
        self.send(stream, &line, answer)
    }

    fn send(&self, stream: &mut Stream, line: &str, answer: Answer) -> Option<()> {
        let Answer {
            status,
            mut body,
            cookie,
            retry_after_s,
        } = answer;
        let mut head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n");
        if let Some(cookie) = cookie {
            write!(head, "Set-Cookie: {cookie}; Path=/; Secure\r\n").unwrap();
        }
        if let Some(seconds) = retry_after_s {
            write!(head, "Retry-After: {seconds}\r\n").unwrap();
        }
        let is_auth = line == "POST /kbs/v0/auth";
        if is_auth && self.script().twist == Twist::Redirect {
            head = "HTTP/1.1 302 X\r\nLocation: https://localhost:1/kbs/v0/auth\r\n".into();
        }
        if is_auth && self.script().twist == Twist::Oversized {
            body = format!("{{\"nonce\":\"{}\"}}", "A".repeat(1 << 20));
        }
        write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
        let out = stream.get_mut();
        out.write_all(head.as_bytes()).ok()?;
        match self.script().twist {
            Twist::Truncated if is_auth => {
                out.write_all(&body.as_bytes()[..body.len() / 2]).ok()?;
                out.flush().ok()?;
                None
            }
            Twist::Slow if is_auth => {
                for byte in body.bytes() {
                    out.write_all(&[byte]).ok()?;
                    out.flush().ok()?;
                    thread::sleep(Duration::from_millis(50));
                }
                Some(())
            }
            _ => {
                out.write_all(body.as_bytes()).ok()?;
                out.flush().ok()
            }
        }
    }

    fn answer(&self, line: &str, cookie: &str, body: &[u8]) -> Answer {
        let mut session = self.session.lock().unwrap();
        if line == "POST /kbs/v0/auth" {
            return self.auth(&mut session, &serde_json::from_slice(body).unwrap());
        }
        assert_eq!(cookie, session.cookie, "{line}");
        if line == "POST /kbs/v0/attest" {
            return self.attest(&mut session, &serde_json::from_slice(body).unwrap());
        }
        if let Some(path) = line.strip_prefix("GET /kbs/v0/resource/") {
            return self.resource(&session, path);
        }
        assert!(self.script().extended, "{line}");
        assert!(line.contains(" /kbs/v0/nightlatch/volume/"), "{line}");
        let (method, path) = line.split_once(' ').unwrap();
        let mut told = self.told.lock().unwrap();
        if method == "POST" {
            let said = serde_json::from_slice(body).unwrap();
            told.insert(path.to_owned(), said);
        }
        Answer::of(told.get(path).unwrap_or(&self.script().record))
    }

    fn auth(&self, session: &mut Session, request: &Value) -> Answer {
        assert_eq!(request["version"], "0.4.0");
        assert_eq!(request["tee"], "tpm");
        assert!(request["extra-params"]["supported-hash-algorithms"].is_array());
        let mut random = [0; 48];
        fill_random(&mut random).unwrap();
        session.cookie = format!("kbs-session-id={}", hex::encode(&random[..16]));
        session.nonce = base64(&random[..32]);
        session.introduced = request["extra-params"].get("nightlatch").cloned();
        let extra = match &session.introduced {
            Some(introduced) if self.script().extended => {
                session.credential = random[16..].to_vec();
                let mut introduced = introduced.clone();
                if self.script().twist == Twist::OtherCredential {
                    introduced["ak-public"] = json!(base64(b"another attestation key"));
                }
                json!({"nightlatch": credential(&introduced, &session.credential)})
            }
            _ => json!(""),
        };
        Answer {
            cookie: Some(session.cookie.clone()).filter(|_| self.script().twist != Twist::NoCookie),
            ..Answer::of(&json!({"nonce": session.nonce, "extra-params": extra}))
        }
    }

    fn attest(&self, session: &mut Session, request: &Value) -> Answer {
        check_evidence(session, request);
        let additional = request["tee-evidence"]["additional_evidence"]
            .as_str()
            .unwrap();
        if self.script().extended && session.introduced.is_some() {
            let additional: Value = serde_json::from_str(additional).unwrap();
            let claims = &additional["nightlatch"];
            assert_eq!(claims["version"], 1);
            assert_eq!(claims["credential"], base64(&session.credential));
        } else {
            assert_eq!(additional, "");
        }
        match self.script().twist {
            Twist::Deny => return problem(401, "PolicyDeny"),
            Twist::Expired => return problem(401, "SessionExpired"),
            _ => {}
        }
        let key = request["runtime-data"]["tee-pubkey"].clone();
        session.key = Some(serde_json::from_value(key).unwrap());
        // A service that seals its sessions into cookies gives another one out here.
        session.cookie.push('a');
        Answer {
            cookie: Some(session.cookie.clone()),
            ..Answer::of(&json!({"token": "a.b.c"}))
        }
    }

    fn resource(&self, session: &Session, path: &str) -> Answer {
        let any = path.rsplit_once('/').map(|(kind, _)| format!("{kind}/*"));
        let resources = self.script().resources;
        let content = resources.get(path).or_else(|| resources.get(&any?));
        let Some(content) = content else {
            return problem(404, "PluginNotFound");
        };
        if self.script().twist == Twist::DenyKeys {
            return problem(401, "PolicyDeny");
        }
        let mut content = content.clone();
        if self.script().twist == Twist::Short {
            content.pop();
        }
        let other = EphemeralKeyPair::generate().unwrap();
        let to = match self.script().twist {
            Twist::OtherNode => other.public(),
            _ => session.key.clone().expect("attested"),
        };
        let jwe = Jwe::seal(&Secret::new(content), &to).unwrap();
        Answer::of(&serde_json::to_value(jwe).unwrap())
    }
}

struct Answer {
    status: u16,
    body: String,
    cookie: Option<String>,
    retry_after_s: Option<u32>,
}

impl Answer {
    fn of(body: &Value) -> Self {
        Self {
            status: 200,
            body: body.to_string(),
            cookie: None,
            retry_after_s: None,
        }
    }
}

fn problem(status: u16, word: &str) -> Answer {
    let kind = format!("https://github.com/confidential-containers/kbs/errors/{word}");
    Answer {
        status,
        ..Answer::of(&json!({"type": kind, "detail": "as the test says"}))
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::{Base64, Encoding as _};
    Base64::encode_string(bytes)
}

fn unbase64(value: &Value) -> Vec<u8> {
    use base64ct::{Base64, Encoding as _};
    Base64::decode_vec(value.as_str().unwrap()).unwrap()
}

/// All that Trustee's verifier checks, and what it does not: the session's nonce, the hash, the signature, the values.
fn check_evidence(session: &Session, request: &Value) {
    let runtime = &request["runtime-data"];
    assert_eq!(runtime["nonce"], session.nonce.as_str());
    assert!(request["init-data"].is_null());
    let evidence = &request["tee-evidence"];
    let (additional, key) = (&evidence["additional_evidence"], &runtime["tee-pubkey"]);
    // RFC 8785, written out: the members in order, no white space.
    let canonical = format!(
        r#"{{"additional-evidence":{additional},"nonce":{},"tee-pubkey":{{"alg":{},"crv":{},"kty":{},"x":{},"y":{}}}}}"#,
        runtime["nonce"], key["alg"], key["crv"], key["kty"], key["x"], key["y"]
    );
    let digest = Sha384::digest(canonical.as_bytes());
    let quote = &evidence["primary_evidence"]["tpm_quote"];
    let message = unbase64(&quote["message"]);
    // Magic, type, the signer's name in 2 + 34 bytes, then what the quote is qualified with (TPM 2.0 part 2, section 10.12).
    assert_eq!(message[..6], [0xff, 0x54, 0x43, 0x47, 0x80, 0x18]);
    assert_eq!(message[42..44], [0, 32]);
    assert_eq!(message[44..76], digest[..32]);
    let pcrs = quote["pcrs"].as_array().unwrap();
    assert_eq!(pcrs.len(), 24);
    let values: Vec<u8> = pcrs
        .iter()
        .flat_map(|value| hex::decode(value.as_str().unwrap()).unwrap())
        .collect();
    let end = [
        &[0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff, 0, 32][..],
        &Sha256::digest(&values),
    ];
    assert!(message.ends_with(&end.concat()));
    let spki = unbase64(&evidence["primary_evidence"]["ak_public"]);
    verify(&spki, &message, &unbase64(&quote["signature"]));
}

fn verify(spki: &[u8], message: &[u8], signature: &[u8]) {
    let (scheme, key, signature) = match signature[..4] {
        // RSASSA, SHA-256, then the signature with its length.
        [0, 0x14, 0, 0x0b] => (
            SignatureScheme::RSA_PKCS1_SHA256,
            &spki[24..],
            signature[6..].to_vec(),
        ),
        // ECDSA, SHA-256, then two numbers with their lengths.
        [0, 0x18, 0, 0x0b] => {
            let len = usize::from(signature[5]);
            let numbers = [&signature[6..6 + len], &signature[8 + len..]].map(|number| {
                let zero: &[u8] = if number[0] >= 0x80 { &[0] } else { &[] };
                let number = [zero, number].concat();
                [&[2, u8::try_from(number.len()).unwrap()][..], &number].concat()
            });
            let numbers = numbers.concat();
            let der = [&[0x30, u8::try_from(numbers.len()).unwrap()][..], &numbers].concat();
            (SignatureScheme::ECDSA_NISTP256_SHA256, &spki[26..], der)
        }
        _ => panic!("another kind of signature"),
    };
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let known = algorithms
        .mapping
        .iter()
        .find(|(known, _)| *known == scheme);
    let is_good = |algorithm: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
        algorithm.verify_signature(key, message, &signature).is_ok()
    };
    assert!(
        known.unwrap().1.iter().any(is_good),
        "the signature is wrong"
    );
}

/// A credential from `tpm2_makecredential`.
fn credential(introduced: &Value, secret: &[u8]) -> Value {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("nightlatch-credential-{}-{number}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir(&dir).unwrap();
    let ek = unbase64(&introduced["ek-public"]);
    let len = u16::try_from(ek.len()).unwrap().to_be_bytes();
    std::fs::write(dir.join("ek"), [&len[..], &ek].concat()).unwrap();
    std::fs::write(dir.join("secret"), secret).unwrap();
    let ak = Sha256::digest(unbase64(&introduced["ak-public"]));
    let status = alone("tpm2_makecredential")
        .args(["-T", "none", "-u", "ek", "-s", "secret", "-o", "out", "-n"])
        .arg(format!("000b{}", hex::encode(ak)))
        .current_dir(&dir)
        .status()
        .unwrap();
    assert!(status.success());
    let out = std::fs::read(dir.join("out")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let len = usize::from(u16::from_be_bytes([out[8], out[9]]));
    json!({"version": 1, "blob": base64(&out[10..10 + len]), "secret": base64(&out[12 + len..])})
}

/// A certificate for `localhost` by an authority of its own, with that authority and the pin of the key.
fn certificates() -> (Arc<ServerConfig>, String, [u8; 32]) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "a test's authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let pin = Sha256::digest(key.subject_public_key_info()).into();
    let own = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&key, &authority).unwrap();
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], der)
        .unwrap();
    (Arc::new(config), authority.pem(), pin)
}
