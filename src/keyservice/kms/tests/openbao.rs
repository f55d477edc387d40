// SPDX-License-Identifier: Apache-2.0
//! The transit engine's client: what it asks, and what it makes of each answer.

use super::answers::ROWS;
use super::*;
use crate::key::KEY_LEN;
use crate::keyservice::config::kms::Provider;
use crate::keyservice::kms::request::ANSWER_LEN_MAX;
use crate::keyservice::kms::tests::{Engine, TOKEN, errors};
use crate::keyservice::kms::{Kms, MASTER_ID};

fn transit(engine: &Engine) -> Transit {
    of(&engine.config())
}

fn of(config: &Config) -> Transit {
    let Provider::OpenBao { key, token } = &config.provider else {
        panic!("{config:?}");
    };
    Transit::new(config, key, token)
}

fn key() -> Secret {
    Secret::new(vec![7; KEY_LEN])
}

#[test]
fn what_is_wrapped_comes_back_for_its_id_alone() {
    let engine = Engine::start();
    let transit = transit(&engine);
    let wrapped = transit.wrap(MASTER_ID, &key()).unwrap();
    assert_eq!(wrapped.kek, "openbao:transit/nightlatch:v1");
    let back = transit.unwrap(MASTER_ID, &wrapped).unwrap();
    assert_eq!(back.expose(), key().expose());
    let other = transit.unwrap("other", &wrapped).unwrap_err();
    assert_eq!(other.class, Class::Wrong, "{other}");
    let paths: Vec<String> = engine.seen().into_iter().map(|(path, _)| path).collect();
    let [first, second, ..] = &paths[..] else {
        panic!("{paths:?}");
    };
    // A key that is not there would be made by the second.
    assert_eq!(first, "transit/keys/nightlatch");
    assert_eq!(second, "transit/encrypt/nightlatch");
    let sent = &engine.seen()[1].1;
    let id = Base64::encode_string(MASTER_ID.as_bytes());
    assert_eq!(sent["associated_data"], id.as_str());
    assert!(sent.get("context").is_none(), "{sent}");
}

#[test]
fn every_row_of_the_table_is_what_a_start_makes_of_that_answer() {
    let engine = Engine::start();
    let transit = transit(&engine);
    let wrapped = transit.wrap(MASTER_ID, &key()).unwrap();
    for row in &ROWS {
        let says = format!("1 error occurred: {} x", row.says);
        let body = match row.error {
            200 => "{\"data\":{}}".to_owned(),
            204 => String::new(),
            status => errors(status, &says).1,
        };
        engine.always(row.error, &body);
        let failure = transit.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, row.class, "{failure}");
        let told = failure.to_string();
        assert!(told.contains(row.what), "{told}");
        assert!(!told.contains(TOKEN), "{told}");
        engine.restore();
        // The control: the same call is granted.
        transit.unwrap(MASTER_ID, &wrapped).unwrap();
    }
}

#[test]
fn what_no_row_explains_is_away() {
    let engine = Engine::start();
    let transit = transit(&engine);
    let wrapped = transit.wrap(MASTER_ID, &key()).unwrap();
    let class = || transit.unwrap(MASTER_ID, &wrapped).unwrap_err().class;
    let long = " ".repeat(usize::try_from(ANSWER_LEN_MAX).unwrap() + 1);
    for (status, body) in [
        (200, "<html>sign in</html>"),
        (200, &long),
        (400, "{\"errors\":[\"something new\"]}"),
        (400, "no JSON"),
        // Pages of a proxy that has lost its way to the server.
        (200, "{\"status\":\"up\"}"),
        (204, ""),
        (400, "{\"message\":\"encryption key not found\"}"),
        (403, "<html>forbidden</html>"),
        (404, "404 page not found\n"),
        (404, "{}"),
        (404, "{\"errors\":\"no handler for route\"}"),
        (405, ""),
        (418, ""),
        (504, ""),
        (599, "{}"),
    ] {
        engine.always(status, body);
        assert_eq!(class(), Class::Away, "{status} {body}");
    }
    // The control: an absent key is answered with an empty list.
    engine.always(404, "{\"errors\":[]}");
    assert_eq!(class(), Class::Gone);
    drop(engine);
    let nobody = Engine::start();
    let mut config = nobody.config();
    config.url = "http://127.0.0.1:1".to_owned().try_into().unwrap();
    let failure = of(&config).unwrap(MASTER_ID, &wrapped).unwrap_err();
    assert_eq!(failure.class, Class::Away, "{failure}");
}

#[test]
fn no_redirect_is_followed_so_the_token_goes_nowhere_else() {
    let (engine, other) = (Engine::start(), Engine::start());
    let wrapped = transit(&engine).wrap(MASTER_ID, &key()).unwrap();
    let to = format!("http://{}/v1/transit/decrypt/nightlatch", other.at);
    engine.change(|script| script.location = Some(to));
    for status in [301, 302, 303, 307, 308] {
        engine.always(status, "");
        let failure = transit(&engine).unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, Class::Away, "{failure}");
        let failure = transit(&engine).describe().unwrap_err();
        assert_eq!(failure.class, Class::Away, "{failure}");
    }
    assert!(other.seen().is_empty(), "{:?}", other.seen());
    // The control: whoever followed would have been given the key.
    transit(&other).unwrap(MASTER_ID, &wrapped).unwrap();
}

/// An expired token and one without the right are answered alike.
#[test]
fn before_a_denial_counts_the_token_is_read_anew_once() {
    let engine = Engine::start();
    let transit = transit(&engine);
    let wrapped = transit.wrap(MASTER_ID, &key()).unwrap();
    let asked = || engine.seen().len();
    engine.change(|script| {
        script
            .instead
            .push_back(("transit/decrypt", 403, errors(403, "").1));
    });
    let before = asked();
    transit.unwrap(MASTER_ID, &wrapped).unwrap();
    assert_eq!(asked(), before + 2);
    engine.hand_over("hvs.other");
    let failure = transit.unwrap(MASTER_ID, &wrapped).unwrap_err();
    assert_eq!(failure.class, Class::Denied);
    let told = failure.to_string();
    assert!(
        told.contains("update on transit/decrypt/nightlatch was refused"),
        "{told}"
    );
    assert!(!told.contains("hvs."), "{told}");
    assert_eq!(asked(), before + 4);
}

#[test]
fn a_token_that_cannot_be_shown_is_told_by_its_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let engine = Engine::start();
    let transit = transit(&engine);
    transit.describe().unwrap();
    let path = engine.path("token");
    let failed = || transit.describe().unwrap_err();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let failure = failed();
    assert_eq!(failure.class, Class::Unusable);
    assert!(
        failure.to_string().contains("everybody may read it"),
        "{failure}"
    );
    for bad in ["two\nlines", &"x".repeat(TOKEN_LEN_MAX + 1)] {
        engine.hand_over(bad);
        assert_eq!(failed().class, Class::Unusable);
    }
    // Whoever writes it has made the file and not filled it yet, or has removed it to make another one.
    engine.hand_over("");
    assert_eq!(failed().class, Class::Away);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(failed().class, Class::Away);
    engine.hand_over(TOKEN);
    transit.describe().unwrap();
}

#[test]
fn a_file_of_another_key_is_not_even_asked_about() {
    let engine = Engine::start();
    let transit = transit(&engine);
    let mut wrapped = transit.wrap(MASTER_ID, &key()).unwrap();
    let before = engine.seen().len();
    for kek in [
        "openbao:transit/other:v1",
        "openbao:transit/nightlatch:v2",
        "aws:transit/nightlatch:v1",
    ] {
        wrapped.kek = kek.into();
        let failure = transit.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, Class::Wrong);
        assert!(failure.to_string().contains("belong together"), "{failure}");
    }
    assert_eq!(engine.seen().len(), before);
}

#[test]
fn a_key_that_cannot_bind_is_refused_before_anything_is_wrapped() {
    let engine = Engine::start();
    let transit = transit(&engine);
    transit.wrap(MASTER_ID, &key()).unwrap();
    for (member, value, class) in [
        ("type", "rsa-2048".into(), Class::Unusable),
        ("derived", true.into(), Class::Unusable),
        ("soft_deleted", true.into(), Class::Gone),
    ] {
        engine.change(|script| script.key[member] = value);
        assert_eq!(transit.wrap(MASTER_ID, &key()).unwrap_err().class, class);
        engine.change(|script| {
            script.key["type"] = "aes256-gcm96".into();
            script.key["derived"] = false.into();
            script.key["soft_deleted"] = false.into();
        });
    }
    let wrapped = engine
        .seen()
        .into_iter()
        .filter(|(path, _)| path.contains("encrypt"));
    assert_eq!(wrapped.count(), 1);
}

#[test]
fn what_it_gives_back_has_to_be_a_key_and_a_ciphertext_of_its_kind() {
    let engine = Engine::start();
    let transit = transit(&engine);
    let wrapped = transit.wrap(MASTER_ID, &key()).unwrap();
    for plaintext in ["", "AAAA", "no base64"] {
        let body = format!("{{\"data\":{{\"plaintext\":\"{plaintext}\"}}}}");
        engine.change(|script| script.instead.push_back(("transit/decrypt", 200, body)));
        let failure = transit.unwrap(MASTER_ID, &wrapped).unwrap_err();
        assert_eq!(failure.class, Class::Wrong, "{failure}");
    }
    for ciphertext in ["", "AAAA", "vault:v0:AAAA", "vault:v+1:AAAA", "vault:v1"] {
        let body = format!("{{\"data\":{{\"ciphertext\":\"{ciphertext}\"}}}}");
        engine.change(|script| script.instead.push_back(("transit/encrypt", 200, body)));
        let failure = transit.wrap(MASTER_ID, &key()).unwrap_err();
        assert_eq!(failure.class, Class::Unusable, "{failure}");
    }
}

#[test]
fn rights_are_those_that_are_needed_missing_or_too_many() {
    let engine = Engine::start();
    let kms = Kms::new(&engine.config()).unwrap();
    let rights = kms.rights().unwrap().unwrap();
    assert_eq!(rights.missing, [""; 0]);
    assert_eq!(rights.only_commands, ["read on transit/keys/nightlatch"]);
    assert_eq!(rights.excess, ["delete on transit/keys/nightlatch"]);
    let told =
        r#"{"data":{"transit/decrypt/nightlatch":["deny"],"transit/backup/nightlatch":["root"]}}"#;
    engine.change(|script| {
        let answer = ("sys/capabilities", 200, told.to_owned());
        script.instead.push_back(answer);
    });
    let rights = kms.rights().unwrap().unwrap();
    assert_eq!(rights.missing, ["update on transit/decrypt/nightlatch"]);
    assert_eq!(rights.excess, ["root on transit/backup/nightlatch"]);
    engine.always(403, &errors(403, "permission denied").1);
    assert!(kms.rights().unwrap().is_none());
}
