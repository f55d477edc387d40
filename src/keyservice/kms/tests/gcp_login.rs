// SPDX-License-Identifier: Apache-2.0
//! Tokens of Google: signed by the key of a service account, and of the metadata service. Bodies follow Google's pages.

use std::time::Duration;

use ring::signature::KeyPair as _;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

use super::*;
use crate::keyservice::kms::stub::{Stub, Told, told};

const NOW_S: u64 = 1_796_000_000;

/// An RSA key in PKCS #8, as a service account has one.
pub(crate) fn private_key() -> String {
    let key = openssl::rsa::Rsa::generate(2048).unwrap();
    let key = openssl::pkey::PKey::from_rsa(key).unwrap();
    String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap()
}

/// The file of an account with this key.
pub(crate) fn account(private_key: &str) -> String {
    json!({
        "type": "service_account",
        "project_id": "example",
        "private_key_id": "0123abcd",
        "private_key": private_key,
        "client_email": "nightlatchd@example.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

#[test]
fn an_account_signs_its_token_for_the_kms_alone() {
    let private = private_key();
    let token = signed(&account(&private), NOW_S).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("{parts:?}");
    };
    let decoded = |part: &str| Base64UrlUnpadded::decode_vec(part).unwrap();
    let read = |part: &str| serde_json::from_slice::<Value>(&decoded(part)).unwrap();
    let expected = json!({ "alg": "RS256", "kid": "0123abcd", "typ": "JWT" });
    assert_eq!(read(header), expected);
    let account = "nightlatchd@example.iam.gserviceaccount.com";
    let expected = json!({
        "aud": "https://cloudkms.googleapis.com/", "iss": account, "sub": account,
        "iat": NOW_S, "exp": NOW_S + 600,
    });
    assert_eq!(read(claims), expected);
    let der = PrivatePkcs8KeyDer::from_pem_slice(private.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    let verified = |text: &str| public.verify(text.as_bytes(), &decoded(signature));
    verified(&[header, claims].join(".")).unwrap();
    verified(&[header, header].join(".")).unwrap_err();
}

#[test]
fn a_file_that_is_no_key_of_an_account_is_told_without_what_is_in_it() {
    let private = private_key();
    let good = account(&private);
    signed(&good, NOW_S).unwrap();
    let small = openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(1024).unwrap()).unwrap();
    let small = String::from_utf8(small.private_key_to_pem_pkcs8().unwrap()).unwrap();
    for bad in [
        "secret".to_owned(),
        json!({ "private_key": private }).to_string(),
        good.replace("service_account", "authorized_user"),
        account("secret"),
        account(&small),
    ] {
        let failure = signed(&bad, NOW_S).unwrap_err();
        assert_eq!(failure.class, Class::Unusable, "{failure}");
        let text = failure.to_string();
        assert!(
            !text.contains("secret") && !text.contains("BEGIN"),
            "{text}"
        );
    }
}

#[test]
fn the_metadata_service_gives_a_token_where_it_is_googles() {
    let given = r#"{"access_token":"ya29.good","expires_in":3599,"token_type":"Bearer"}"#;
    let google = || "Metadata-Flavor: Google\r\n".to_owned();
    let asked = |answer: Told| {
        let stub = Stub::start(move |_| answer.clone());
        let login = Login::Machine(Server::on_link(&stub.url()));
        let token = login.token(Deadline::after(Duration::from_secs(20)));
        (token, stub.asked())
    };
    let (token, seen) = asked((200, google(), given.into()));
    assert_eq!(token.unwrap().as_str(), "ya29.good");
    assert_eq!(seen[0].path, TOKEN_PATH);
    assert_eq!(seen[0].header("metadata-flavor"), "Google");
    for (answer, class) in [
        (told(200, given), Class::Away),
        ((200, google(), "{}".into()), Class::Away),
        ((500, google(), given.into()), Class::Away),
        ((404, google(), String::new()), Class::Denied),
        (told(404, ""), Class::Away),
    ] {
        let failure = asked(answer).0.unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
        assert_eq!(failure.while_running().class, Class::Away);
    }
}
