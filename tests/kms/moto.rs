// SPDX-License-Identifier: Apache-2.0
//! A moto of one test: AWS KMS, STS and IAM as others have read AWS's pages, in memory, on loopback.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

use crate::server::{Server, program};

/// Longer than it takes by far.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The region that it is asked as; which service is meant stands beside it in a header that is not looked at further.
const REGION: &str = "eu-central-1";

/// A running server.
pub(crate) struct Moto(Server);

impl Moto {
    pub(crate) fn start() -> Self {
        let answers = |server: &Server| {
            let path = format!("http://{}/moto-api/", server.at);
            agent().get(&path).call().is_ok()
        };
        Self(Server::start(
            "moto",
            START_LIMIT,
            |at, _| {
                let mut command = Command::new(program("NIGHTLATCH_MOTO"));
                command.args(["-H", "127.0.0.1", "-p", &at.port().to_string()]);
                // From then on that it is told so, each request has to be signed and allowed.
                command.env("INITIAL_NO_AUTH_ACTION_COUNT", "1000000");
                command
            },
            answers,
        ))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.at)
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
