// SPDX-License-Identifier: Apache-2.0
//! An `OpenBao` of one test: in memory, unsealed, on loopback.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fleet::at_this_pace;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The token of everything.
pub(crate) const ROOT: &str = "root";

/// Longer than it takes by far.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// How often other ports are tried: those that were free may be taken meanwhile.
const TRIES_MAX: usize = 5;

/// A running server, with a transit engine, its key and the two policies of units/examples.
pub(crate) struct Bao {
    process: Child,
    at: SocketAddr,
    directory: PathBuf,
    listens: Listens,
}

/// How it is spoken to.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Listens {
    Plain,
    Tls,
}

impl Bao {
    pub(crate) fn start() -> Self {
        let bao = (0..TRIES_MAX)
            .find_map(|_| Self::try_start(Listens::Plain))
            .expect("OpenBao does not start");
        bao.write("sys/mounts/transit", "{\"type\":\"transit\"}");
        bao.write("transit/keys/nightlatch", "{}");
        bao.allow();
        bao
    }

    /// Writes the policies of both.
    pub(crate) fn allow(&self) {
        for (name, file) in [
            ("unwrap", "openbao-nightlatchd.hcl"),
            ("wrap", "openbao-nightlatchd-init.hcl"),
        ] {
            let top = env!("CARGO_MANIFEST_DIR");
            let policy = fs::read_to_string(format!("{top}/units/examples/{file}")).unwrap();
            let body = serde_json::json!({ "policy": policy }).to_string();
            self.write(&format!("sys/policies/acl/{name}"), &body);
        }
    }

    /// One with a certificate of an authority of its own, which has nothing but the engine and the key.
    pub(crate) fn start_tls() -> Self {
        let bao = (0..TRIES_MAX)
            .find_map(|_| Self::try_start(Listens::Tls))
            .expect("OpenBao does not start");
        for words in [
            &["secrets", "enable", "transit"][..],
            &["write", "-f", "transit/keys/nightlatch"],
        ] {
            assert!(bao.commanded(words), "{words:?}");
        }
        bao
    }

    fn try_start(listens: Listens) -> Option<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-bao-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let log = File::create(directory.join("log")).unwrap();
        // It takes the next port as well, for its cluster.
        let tls = match listens {
            Listens::Plain => Vec::new(),
            Listens::Tls => vec![
                "-dev-tls".to_owned(),
                format!("-dev-tls-cert-dir={}", directory.display()),
            ],
        };
        let process = Command::new(program())
            .args(["server", "-dev", "-dev-no-store-token"])
            .args(tls)
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address={at}"))
            .env("HOME", &directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the server cannot be started");
        let mut bao = Self {
            process,
            at,
            directory,
            listens,
        };
        bao.is_up().then_some(bao)
    }

    /// Waits until it answers; false where it has ended instead.
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + at_this_pace(START_LIMIT);
        while !self.is_answering() {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "OpenBao does not answer");
            std::thread::sleep(POLL);
        }
        true
    }

    fn is_answering(&self) -> bool {
        match self.listens {
            Listens::Plain => {
                let heard = self.ask("GET", "sys/health", None);
                heard.is_some_and(|(status, _)| status == 200)
            }
            Listens::Tls => self.commanded(&["status"]),
        }
    }

    /// Runs its own program as a client, which is how one with TLS is set up.
    fn commanded(&self, words: &[&str]) -> bool {
        let ended = Command::new(program())
            .args(words)
            .env("BAO_ADDR", self.url())
            .env("BAO_CACERT", self.ca())
            .env("BAO_TOKEN", ROOT)
            .env("HOME", &self.directory)
            .output();
        ended.unwrap().status.success()
    }

    pub(crate) fn url(&self) -> String {
        let scheme = match self.listens {
            Listens::Plain => "http",
            Listens::Tls => "https",
        };
        format!("{scheme}://{}", self.at)
    }

    /// The authority that vouches for one with TLS.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.join("vault-ca.pem")
    }

    /// The status and the answer; nothing where there is none.
    fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Option<(u16, Value)> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let url = format!("http://{}/v1/{path}", self.at);
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("X-Vault-Token", ROOT)
            .body(body.unwrap_or_default().to_owned())
            .unwrap();
        let mut response = agent.run(request).ok()?;
        let text = response.body_mut().read_to_string().ok()?;
        let status = response.status().as_u16();
        Some((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    pub(crate) fn status(&self, path: &str) -> u16 {
        self.ask("GET", path, None).unwrap().0
    }

    pub(crate) fn write(&self, path: &str, body: &str) -> Value {
        let (status, told) = self.ask("POST", path, Some(body)).unwrap();
        assert!((200..300).contains(&status), "{path}: {status} {told}");
        told
    }

    pub(crate) fn delete(&self, path: &str) {
        let (status, told) = self.ask("DELETE", path, None).unwrap();
        assert!((200..300).contains(&status), "{path}: {status} {told}");
    }

    /// A token with this policy.
    pub(crate) fn token(&self, policy: &str) -> String {
        let body = serde_json::json!({ "policies": [policy], "ttl": "1h" }).to_string();
        let told = self.write("auth/token/create", &body);
        told["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// Stops it in the middle of whatever it does, or has it go on.
    pub(crate) fn stop(&self, is_stopped: bool) {
        let name = if is_stopped { "STOP" } else { "CONT" };
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }
}

/// The server's program.
fn program() -> String {
    std::env::var("NIGHTLATCH_BAO")
        .expect("NIGHTLATCH_BAO does not say where the server is: tests/run kms fetches it")
}

impl Drop for Bao {
    fn drop(&mut self) {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        assert!(killed.is_ok() || std::thread::panicking());
        fs::remove_dir_all(&self.directory).unwrap();
    }
}
