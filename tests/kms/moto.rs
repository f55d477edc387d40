// SPDX-License-Identifier: Apache-2.0
//! A moto of one test: AWS KMS, STS and IAM as others have read AWS's pages, in memory, on loopback.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;

use crate::fleet::at_this_pace;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Longer than it takes by far.
const START_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// How often other ports are tried: those that were free may be taken meanwhile.
const TRIES_MAX: usize = 5;

/// The region that it is asked as; which service is meant stands beside it in a header that is not looked at further.
const REGION: &str = "eu-central-1";

/// A running server.
pub(crate) struct Moto {
    process: Child,
    at: SocketAddr,
    directory: PathBuf,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let moto = (0..TRIES_MAX).find_map(|_| Self::try_start());
        moto.expect("moto does not start")
    }

    fn try_start() -> Option<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-moto-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let log = File::create(directory.join("log")).unwrap();
        let process = Command::new(program())
            .args(["-H", "127.0.0.1", "-p", &at.port().to_string()])
            // From then on that it is told so, each request has to be signed and allowed.
            .env("INITIAL_NO_AUTH_ACTION_COUNT", "1000000")
            .env("HOME", &directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the server cannot be started");
        let mut moto = Self {
            process,
            at,
            directory,
        };
        moto.is_up().then_some(moto)
    }

    /// Waits until it answers; false where it has ended instead.
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + at_this_pace(START_LIMIT);
        let path = format!("{}/moto-api/", self.url());
        while agent().get(&path).call().is_err() {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "moto does not answer");
            std::thread::sleep(POLL);
        }
        true
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Asks the KMS as nobody, while that is let in.
    pub(crate) fn kms(&self, operation: &str, body: &Value) -> Value {
        let response = agent()
            .post(self.url())
            .header("Authorization", &claimed("kms"))
            .header("X-Amz-Target", &format!("TrentService.{operation}"))
            .header("Content-Type", "application/x-amz-json-1.1")
            .send(body.to_string().as_bytes());
        let text = response.unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Makes a key, and gives its ARN.
    pub(crate) fn key(&self) -> String {
        let made = self.kms("CreateKey", &json!({}));
        made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    }

    /// Makes a user who may do this, and gives its key pair as a file of credentials has it.
    pub(crate) fn pair(&self, user: &str, action: &str) -> (String, String) {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": action, "Resource": "*" }],
        });
        self.iam(&[("Action", "CreateUser"), ("UserName", user)]);
        self.iam(&[
            ("Action", "PutUserPolicy"),
            ("UserName", user),
            ("PolicyName", "only"),
            ("PolicyDocument", &policy.to_string()),
        ]);
        let made = self.iam(&[("Action", "CreateAccessKey"), ("UserName", user)]);
        let of = |name: &str| {
            let (_, rest) = made.split_once(&format!("<{name}>")).expect(&made);
            rest.split_once('<').unwrap().0.to_owned()
        };
        (of("AccessKeyId"), of("SecretAccessKey"))
    }

    fn iam(&self, fields: &[(&str, &str)]) -> String {
        let response = agent()
            .post(self.url())
            .header("Authorization", &claimed("iam"))
            .send_form(fields.iter().copied());
        response.unwrap().body_mut().read_to_string().unwrap()
    }

    /// From now on each request has to be signed by a pair that may do it.
    pub(crate) fn close(&self) {
        let response = agent()
            .post(format!("{}/moto-api/reset-auth", self.url()))
            .header("Content-Type", "text/plain")
            .send("0");
        assert_eq!(response.unwrap().status().as_u16(), 200);
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        assert!(killed.is_ok() || std::thread::panicking());
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).build();
    Agent::new_with_config(config)
}

/// A header by which it knows the service and the region; nobody has signed.
fn claimed(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=nobody/20261130/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=none"
    )
}

/// The server's program.
fn program() -> String {
    std::env::var("NIGHTLATCH_MOTO")
        .expect("NIGHTLATCH_MOTO does not say where the server is: tests/run kms fetches it")
}
