// SPDX-License-Identifier: Apache-2.0
//! A key service as Trustee's protocol describes it, that looks at every message, and twists one where a test says so.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "most twists are about one message"
)]

pub(crate) mod judge;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use nightlatch::key::{Secret, fill_random};
use nightlatch::protocol::jwe::EphemeralKeyPair;
use nightlatch::protocol::{EphemeralKey, Jwe};

use self::judge::{base64, certificates, check_evidence, credential};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Twist {
    Nothing,
    /// `/attest` denies.
    Deny,
    /// `/attest` denies who claims more volumes than these: one of them is not as it remembers it.
    DenyMore(usize),
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
        self.bodies(line).pop().unwrap()
    }

    /// The bodies of all requests of this method and path.
    pub(crate) fn bodies(&self, line: &str) -> Vec<Value> {
        let seen = self.shared.seen.lock().unwrap();
        let those = seen.iter().filter(|(seen, _)| seen == line);
        those
            .map(|(_, body)| serde_json::from_str(body).unwrap())
            .collect()
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
                    // wait: part of the test, longer in all than any other waits
                    thread::sleep(Duration::from_millis(500));
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
        let mut claimed = 0;
        if self.script().extended && session.introduced.is_some() {
            let additional: Value = serde_json::from_str(additional).unwrap();
            let claims = &additional["nightlatch"];
            assert_eq!(claims["version"], 1);
            assert_eq!(claims["credential"], base64(&session.credential));
            claimed = claims["volumes"].as_array().unwrap().len();
        } else {
            assert_eq!(additional, "");
        }
        match self.script().twist {
            Twist::Deny => return problem(401, "PolicyDeny"),
            Twist::DenyMore(few) if claimed > few => return problem(401, "VolumeDeny"),
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
