// SPDX-License-Identifier: Apache-2.0
//! An `OpenBao` of one test: in memory, unsealed, on loopback.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::server::{Server, program};

/// The token of everything.
pub(crate) const ROOT: &str = "root";

/// Where its program is.
const PROGRAM: &str = "NIGHTLATCH_BAO";

/// Longer than it takes by far.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server, with a transit engine, its key and the two policies of units/examples.
pub(crate) struct Bao {
    server: Server,
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
        let bao = Self::listening(Listens::Plain);
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
        let bao = Self::listening(Listens::Tls);
        for words in [
            &["secrets", "enable", "transit"][..],
            &["write", "-f", "transit/keys/nightlatch"],
        ] {
            assert!(commanded(&bao.server, words), "{words:?}");
        }
        bao
    }

    fn listening(listens: Listens) -> Self {
        let answers = |server: &Server| match listens {
            Listens::Plain => {
                let heard = ask(server, "GET", "sys/health", None);
                heard.is_some_and(|(status, _)| status == 200)
            }
            Listens::Tls => commanded(server, &["status"]),
        };
        let server = Server::start(
            "bao",
            START_LIMIT,
            |at, directory| {
                let mut command = Command::new(program(PROGRAM));
                command.args(["server", "-dev", "-dev-no-store-token"]);
                if listens == Listens::Tls {
                    command.arg("-dev-tls");
                    command.arg(format!("-dev-tls-cert-dir={}", directory.display()));
                }
                command.arg(format!("-dev-root-token-id={ROOT}"));
                // It takes the next port as well, for its cluster.
                command.arg(format!("-dev-listen-address={at}"));
                command
            },
            answers,
        );
        Self { server, listens }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = match self.listens {
            Listens::Plain => "http",
            Listens::Tls => "https",
        };
        format!("{scheme}://{}", self.server.at)
    }

    /// The authority that vouches for one with TLS.
    pub(crate) fn ca(&self) -> PathBuf {
        ca(&self.server)
    }

    pub(crate) fn status(&self, path: &str) -> u16 {
        ask(&self.server, "GET", path, None).unwrap().0
    }

    pub(crate) fn write(&self, path: &str, body: &str) -> Value {
        let (status, told) = ask(&self.server, "POST", path, Some(body)).unwrap();
        assert!((200..300).contains(&status), "{path}: {status} {told}");
        told
    }

    pub(crate) fn delete(&self, path: &str) {
        let (status, told) = ask(&self.server, "DELETE", path, None).unwrap();
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
        self.server.stop(is_stopped);
    }
}

/// The status and the answer; nothing where there is none.
fn ask(server: &Server, method: &str, path: &str, body: Option<&str>) -> Option<(u16, Value)> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build();
    let agent = ureq::Agent::new_with_config(config);
    let url = format!("http://{}/v1/{path}", server.at);
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

/// Runs its own program as a client, which is how one with TLS is set up.
fn commanded(server: &Server, words: &[&str]) -> bool {
    let ended = Command::new(program(PROGRAM))
        .args(words)
        .env("BAO_ADDR", format!("https://{}", server.at))
        .env("BAO_CACERT", ca(server))
        .env("BAO_TOKEN", ROOT)
        .env("HOME", &server.directory)
        .output();
    ended.unwrap().status.success()
}

fn ca(server: &Server) -> PathBuf {
    server.directory.join("vault-ca.pem")
}
