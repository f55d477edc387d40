// SPDX-License-Identifier: Apache-2.0
//! Key pairs from the STS and from the metadata service. Bodies follow AWS's pages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;
use crate::keyservice::kms::stub::{Asked, Stub, Told, told};

const ROLE: &str = "arn:aws:iam::123456789012:role/nightlatch";
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.e30.AAAA-_";

const ASSUMED: &str = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n\
    <AssumeRoleWithWebIdentityResult><Credentials>\n<SessionToken>to/ken==</SessionToken>\n\
    <SecretAccessKey>se/cret</SecretAccessKey>\n<Expiration>2026-10-24T23:00:23Z</Expiration>\n\
    <AccessKeyId>ASIAEXAMPLE</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\n\
    </AssumeRoleWithWebIdentityResponse>";

fn until() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A file of one test, which goes with it.
struct TokenFile(std::path::PathBuf);

impl TokenFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nightlatch-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Self(path)
    }

    fn login(&self, stub: &Stub) -> Login {
        Login::WebIdentity {
            token: SecretSource::File(self.0.clone()),
            role: ROLE.into(),
            sts: Server::on_link(&stub.url()),
        }
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn a_web_identity_token_is_given_for_a_key_pair_of_minutes() {
    let stub = Stub::start(|_| told(200, ASSUMED));
    let file = TokenFile::new("web-identity", JWT);
    let found = file.login(&stub).credentials(until()).unwrap();
    assert_eq!(found.id, "ASIAEXAMPLE");
    assert_eq!(found.secret.as_str(), "se/cret");
    assert_eq!(found.token.unwrap().as_str(), "to/ken==");
    let asked = &stub.asked()[0];
    let form = String::from_utf8(asked.body.clone()).unwrap();
    assert_eq!(
        form,
        format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15\
             &RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fnightlatch&RoleSessionName=nightlatchd\
             &DurationSeconds=900&WebIdentityToken={JWT}"
        )
    );
    assert_eq!(
        asked.header("content-type"),
        "application/x-www-form-urlencoded"
    );
}

#[test]
fn what_the_sts_refuses_has_a_class_and_what_is_no_answer_of_its_is_away() {
    let file = TokenFile::new("web-identity-refused", JWT);
    let error = |code: &str| {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
        )
    };
    for (status, body, class) in [
        (400, error("ExpiredTokenException"), Class::Denied),
        (400, error("InvalidIdentityToken"), Class::Denied),
        (403, error("AccessDenied"), Class::Denied),
        (400, error("IDPCommunicationError"), Class::Away),
        (403, error("RegionDisabledException"), Class::Unusable),
        (400, error("SomethingNew"), Class::Away),
        (403, "<html>forbidden</html>".into(), Class::Away),
        (200, "<html>sign in</html>".into(), Class::Away),
        (
            200,
            ASSUMED.replace("SecretAccessKey", "Other"),
            Class::Away,
        ),
        (200, ASSUMED.replace("se/cret", "<x/>"), Class::Away),
    ] {
        let said = body.clone();
        let stub = Stub::start(move |_| told(status, said.clone()));
        let failure = file.login(&stub).credentials(until()).err().unwrap();
        assert_eq!(failure.class, class, "{body}: {failure}");
        assert!(!failure.to_string().contains(JWT), "{failure}");
        // The STS has shown who it is.
        assert_eq!(failure.while_running().class, class);
    }
    let bad = TokenFile::new("web-identity-bad", "a&Action=Other");
    let stub = Stub::start(|_| told(200, ASSUMED));
    let failure = bad.login(&stub).credentials(until()).err().unwrap();
    assert_eq!(failure.class, Class::Unusable, "{failure}");
    assert!(stub.asked().is_empty());
}

/// The metadata service, with a role of this name.
fn metadata(asked: &Asked, role: &str) -> Told {
    let pair = r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAROLE","SecretAccessKey":"s","Token":"t"}"#;
    match (asked.method.as_str(), asked.path.as_str()) {
        ("PUT", SESSION_PATH) => told(200, "session"),
        _ if asked.header("x-aws-ec2-metadata-token") != "session" => told(401, ""),
        ("GET", ROLE_PATH) => told(200, role),
        ("GET", path) if path == format!("{ROLE_PATH}{role}") => told(200, pair),
        _ => told(404, ""),
    }
}

#[test]
fn the_role_of_the_machine_gives_a_key_pair_by_a_session() {
    let stub = Stub::start(|asked| metadata(asked, "nightlatch"));
    let login = Login::Machine(Server::on_link(&stub.url()));
    let found = login.credentials(until()).unwrap();
    assert_eq!(found.id, "ASIAROLE");
    assert_eq!(found.token.unwrap().as_str(), "t");
    let put = &stub.asked()[0];
    assert_eq!(put.header("x-aws-ec2-metadata-token-ttl-seconds"), "60");
    // A name that would be another path is not asked for.
    let stub = Stub::start(|asked| metadata(asked, "../../user-data"));
    let login = Login::Machine(Server::on_link(&stub.url()));
    let failure = login.credentials(until()).err().unwrap();
    assert_eq!(failure.class, Class::Away, "{failure}");
    assert_eq!(stub.asked().len(), 2);
    // No role.
    let stub = Stub::start(|asked| match asked.method.as_str() {
        "PUT" => told(200, "session"),
        _ => told(404, ""),
    });
    let login = Login::Machine(Server::on_link(&stub.url()));
    let failure = login.credentials(until()).err().unwrap();
    assert_eq!(failure.class, Class::Denied, "{failure}");
    assert_eq!(failure.while_running().class, Class::Away);
}

#[test]
fn a_role_that_the_machine_is_given_no_more_is_a_denial_until_the_service_runs() {
    let role_is = |code: &'static str| {
        let stub = Stub::start(move |asked| {
            let (status, lines, body) = metadata(asked, "nightlatch");
            (status, lines, body.replace("Success", code))
        });
        let login = Login::Machine(Server::on_link(&stub.url()));
        login.credentials(until()).err()
    };
    assert!(role_is("Success").is_none());
    let failure = role_is("AssumeRoleUnauthorizedAccess").unwrap();
    assert_eq!(failure.class, Class::Denied, "{failure}");
    assert!(failure.to_string().contains("AssumeRoleUn"), "{failure}");
    assert_eq!(failure.while_running().class, Class::Away);
}
