// SPDX-License-Identifier: Apache-2.0
//! What goes together in the table `[kms]`.

use super::*;

const LEAST: &str = "provider = \"openbao\"\nkey = \"transit/nightlatch\"\n\
                     url = \"https://bao.example:8200\"\nca = \"/ca.pem\"\ncredentials = \"file:/token\"\n";

fn parse(text: &str) -> Result<Kms, String> {
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

#[test]
fn the_least_table_has_the_documented_defaults() {
    let kms = parse(LEAST).unwrap();
    let Provider::OpenBao { key, .. } = &kms.provider else {
        panic!("{kms:?}");
    };
    assert_eq!((key.mount(), key.name()), ("transit", "nightlatch"));
    assert_eq!(kms.deadline, Duration::from_secs(5));
    assert_eq!(kms.recheck, Some(Duration::from_secs(300)));
    assert_eq!(kms.grace, Duration::from_secs(3600));
    assert!(kms.recovery_key.is_none());
    let never = parse(&format!("{LEAST}recheck-s = 0\n")).unwrap();
    assert_eq!(never.recheck, None);
    let long = parse(&format!("{LEAST}grace-s = 86400\ndeadline-s = 60\n")).unwrap();
    assert_eq!(long.grace, Duration::from_secs(86_400));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (line, said) in [
        ("grace-s = 86401", "grace-s: expected at most 86400"),
        ("deadline-s = 0", "deadline-s: expected 1 to 60"),
        ("deadline-s = 61", "deadline-s: expected 1 to 60"),
        ("token = \"hvs.x\"", "unknown field `token`"),
    ] {
        let error = parse(&format!("{LEAST}{line}\n")).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    for (old, new, said) in [
        ("openbao", "bao", "unknown variant `bao`"),
        ("ca = \"/ca.pem\"\n", "", "https:// goes with ca"),
        (
            "https://bao.example:8200",
            "http://127.0.0.1:8200",
            "goes with ca",
        ),
        (
            "https://bao.example:8200",
            "http://bao.example:8200",
            "loopback",
        ),
        ("file:/token", "hvs.x", "expected \"file:\""),
        (
            "transit/nightlatch",
            "nightlatch",
            "expected \"MOUNT/NAME\"",
        ),
        (
            "transit/nightlatch",
            "transit/../nightlatch",
            "expected \"MOUNT/NAME\"",
        ),
        ("transit/nightlatch", "transit/", "expected \"MOUNT/NAME\""),
        (
            "transit/nightlatch",
            "transit/a?b",
            "expected \"MOUNT/NAME\"",
        ),
    ] {
        let error = parse(&LEAST.replace(old, new)).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    parse(&LEAST.replace("transit/nightlatch", "team/transit/a_b-c.d")).unwrap();
}

const AWS: &str = "provider = \"aws\"\nca = \"/ca.pem\"\n\
                   url = \"https://kms.eu-central-1.amazonaws.com\"\n\
                   key = \"arn:aws:kms:eu-central-1:123456789012:key/1234abcd\"\n";

const ROLE: &str = "role = \"arn:aws:iam::123456789012:role/nightlatch\"\n";
const STS: &str = "login-url = \"https://sts.eu-central-1.amazonaws.com\"\n";

fn login(lines: &[&str]) -> Result<aws::Login, String> {
    let kms = parse(&[AWS, &lines.concat()].concat())?;
    let Provider::Aws { login, .. } = kms.provider else {
        panic!("{:?}", kms.provider);
    };
    Ok(login)
}

#[test]
fn the_credentials_of_aws_are_a_key_pair_a_token_or_the_machines() {
    let (file, machine) = ("credentials = \"file:/t\"\n", "credentials = \"machine\"\n");
    assert!(matches!(login(&[file]), Ok(aws::Login::Keys(_))));
    assert!(matches!(login(&[machine]), Ok(aws::Login::Machine)));
    let web = login(&[file, ROLE, STS]);
    assert!(matches!(web, Ok(aws::Login::WebIdentity { .. })), "{web:?}");
    for lines in [
        &[file, ROLE][..],
        &[file, STS],
        &[machine, ROLE],
        &[machine, ROLE, STS],
    ] {
        assert_eq!(login(lines).unwrap_err(), aws::LOGINS);
    }
    let plain = STS.replace(
        "https://sts.eu-central-1.amazonaws.com",
        "http://127.0.0.1:1",
    );
    let error = login(&[file, ROLE, &plain]).unwrap_err();
    assert!(error.contains("goes with ca"), "{error}");
    for lines in [ROLE, STS] {
        let error = parse(&[LEAST, lines].concat()).unwrap_err();
        assert!(error.contains("openbao takes a token"), "{error}");
    }
    let error = parse(&LEAST.replace("file:/token", "machine")).unwrap_err();
    assert!(error.contains("openbao takes a token"), "{error}");
}

const GCP: &str = "provider = \"gcp\"\nca = \"/ca.pem\"\nurl = \"https://cloudkms.googleapis.com\"\n\
                       key = \"projects/a/locations/global/keyRings/b/cryptoKeys/c\"\n";

#[test]
fn the_credentials_of_gcp_are_an_accounts_or_the_machines() {
    let login = |lines: &str| match parse(&[GCP, lines].concat()).map(|kms| kms.provider) {
        Ok(Provider::Gcp { login, .. }) => Ok(login),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let (file, machine) = ("credentials = \"file:/t\"\n", "credentials = \"machine\"\n");
    assert!(matches!(login(file), Ok(gcp::Login::Account(_))));
    assert!(matches!(login(machine), Ok(gcp::Login::Machine)));
    for lines in [[file, ROLE], [file, STS], [machine, ROLE]] {
        assert_eq!(login(&lines.concat()).unwrap_err(), gcp::LOGINS);
    }
}

#[test]
fn the_credentials_of_azure_are_a_token_for_an_identity_or_the_machines() {
    let least = "provider = \"azure\"\nca = \"/ca.pem\"\nkey = \"a\"\nurl = \"https://v.vault.azure.net\"\n";
    let login = |lines: &str| match parse(&[least, lines].concat()).map(|kms| kms.provider) {
        Ok(Provider::Azure { login, .. }) => Ok(login),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let (file, machine) = ("credentials = \"file:/t\"\n", "credentials = \"machine\"\n");
    let id = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";
    let (client, both) = (
        format!("role = \"{id}\"\n"),
        format!("role = \"{id}/{id}\"\n"),
    );
    let url = "login-url = \"https://login.microsoftonline.com\"\n";
    assert!(matches!(login(machine), Ok(azure::Login::Machine(None))));
    let with_client = login(&[machine, &client].concat());
    assert!(matches!(with_client, Ok(azure::Login::Machine(Some(_)))));
    let federated = login(&[file, &both, url].concat());
    assert!(matches!(federated, Ok(azure::Login::Federated { .. })));
    for lines in [&[file][..], &[file, &both], &[file, url], &[machine, url]] {
        assert_eq!(login(&lines.concat()).unwrap_err(), azure::LOGINS);
    }
    for lines in [[file, &client, url], [machine, &both, ""]] {
        let error = login(&lines.concat()).unwrap_err();
        assert!(error.starts_with("role: expected"), "{error}");
    }
}
