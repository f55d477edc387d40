// SPDX-License-Identifier: Apache-2.0
//! Tokens of Microsoft Entra and of the metadata service. Bodies follow Microsoft's pages.

use std::time::Duration;

use super::*;
use crate::keyservice::kms::stub::{Asked, Stub, Told, told};

const ID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";
const GIVEN: &str =
    r#"{"access_token":"eyJ.good","expires_in":"3599","resource":"https://vault.azure.net"}"#;

/// What a machine is given by this answer, and what was asked.
fn of_machine(
    client: Option<&str>,
    host: &str,
    answer: Told,
) -> (Answered<Zeroizing<String>>, Asked) {
    let stub = Stub::start(move |_| answer.clone());
    let login = Login {
        audience: audience(host),
        way: Way::Machine {
            client: client.map(|client| client.parse().unwrap()),
            metadata: Server::on_link(&stub.url()),
        },
    };
    let token = login.token(Deadline::after(Duration::from_secs(20)));
    (token, stub.asked().remove(0))
}

#[test]
fn the_metadata_service_is_asked_for_a_token_for_that_kind_of_vault() {
    let (token, asked) = of_machine(None, "example.vault.azure.net", told(200, GIVEN));
    assert_eq!(token.unwrap().as_str(), "eyJ.good");
    assert_eq!(
        asked.path,
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
    );
    assert_eq!(asked.header("metadata"), "true");
    let (_, asked) = of_machine(Some(ID), "v.vault.azure.net", told(200, GIVEN));
    let end = format!("&resource=https%3A%2F%2Fvault.azure.net&client_id={ID}");
    assert!(asked.path.ends_with(&end), "{}", asked.path);
    for (host, expected) in [
        ("h.managedhsm.azure.net", "managedhsm.azure.net"),
        ("v.vault.azure.cn", "vault.azure.cn"),
        ("v.vault.usgovcloudapi.net", "vault.usgovcloudapi.net"),
        ("evilvault.azure.cn", "vault.azure.net"),
        ("vault.azure.cn", "vault.azure.net"),
        ("127.0.0.1:1", "vault.azure.net"),
    ] {
        assert_eq!(audience(host), expected, "{host}");
    }
}

#[test]
fn what_gives_no_token_has_a_class() {
    let refused = |code: &str| {
        format!("{{\"error\":\"{code}\",\"error_description\":\"AADSTS1: eyJ.sent\"}}")
    };
    for (status, body, class) in [
        (400, refused("invalid_request"), Class::Denied),
        (401, refused("invalid_client"), Class::Denied),
        (400, refused("unauthorized_client"), Class::Denied),
        (400, refused("invalid_grant"), Class::Denied),
        (503, refused("temporarily_unavailable"), Class::Away),
        (429, "Too many".into(), Class::Away),
        (404, String::new(), Class::Away),
        (200, "{}".into(), Class::Away),
    ] {
        let (token, _) = of_machine(None, "v.vault.azure.net", told(status, body.clone()));
        let failure = token.unwrap_err();
        assert_eq!(failure.class, class, "{body}: {failure}");
        assert!(!failure.to_string().contains("eyJ"), "{failure}");
        assert_eq!(failure.while_running().class, Class::Away);
    }
}

#[test]
fn a_token_of_another_issuer_is_given_for_one_of_the_vault() {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::temp_dir().join(format!("nightlatch-federated-{}", std::process::id()));
    std::fs::write(&path, "eyJ.mine.a_b\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let stub = Stub::start(|_| told(200, GIVEN));
    let id: Uuid = ID.parse().unwrap();
    let login = Login {
        audience: audience("v.vault.azure.net"),
        way: Way::Federated {
            token: SecretSource::File(path.clone()),
            tenant: id,
            client: id,
            directory: Server::on_link(&stub.url()),
        },
    };
    let token = login.token(Deadline::after(Duration::from_secs(20)));
    let stub_refuses = Stub::start(|_| told(400, r#"{"error":"invalid_grant"}"#));
    let refusing = Login {
        audience: login.audience,
        way: Way::Federated {
            token: SecretSource::File(path.clone()),
            tenant: id,
            client: id,
            directory: Server::on_link(&stub_refuses.url()),
        },
    };
    let refused = refusing.token(Deadline::after(Duration::from_secs(20)));
    std::fs::remove_file(&path).unwrap();
    // The directory has shown who it is.
    let class = refused.unwrap_err().while_running().class;
    assert_eq!(class, Class::Denied);
    assert_eq!(token.unwrap().as_str(), "eyJ.good");
    let asked = stub.asked().remove(0);
    assert_eq!(asked.path, format!("/{ID}/oauth2/v2.0/token"));
    let expected = format!(
        "grant_type=client_credentials&client_id={ID}&scope=https%3A%2F%2Fvault.azure.net%2F.default\
         &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
         &client_assertion=eyJ.mine.a_b"
    );
    assert_eq!(String::from_utf8(asked.body).unwrap(), expected);
}
