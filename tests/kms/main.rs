// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd` under a KMS that is none of ours: an `OpenBao`, the whole server, started here on loopback, and in `aws` what
//! others have made of AWS's pages.
//!
//! tests/boots/harness/openbao.py fetches both, and says in `NIGHTLATCH_BAO` and `NIGHTLATCH_MOTO` where they are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod aws;
mod bao;
mod fleet;
mod moto;
mod server;

use std::fs;

use bao::Bao;
use fleet::{Fleet, key_pair};

/// What is said of a failure, and the exit code that goes with it.
fn failed(fleet: &Fleet, words: &[&str]) -> (Option<i32>, String) {
    let output = fleet.run(words);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let token = fs::read_to_string(fleet.path("token")).unwrap();
    assert!(token == bao::ROOT || !told.contains(&token), "{told}");
    (output.status.code(), told)
}

#[test]
fn a_fleet_is_made_checked_and_shown_with_the_least_rights() {
    let bao = Bao::start();
    let fleet = Fleet::new(&bao, true);
    fleet.init();
    let wrapped = fs::read_to_string(fleet.path("mastersecret.wrapped.json")).unwrap();
    assert!(
        wrapped.contains("\"kek\":\"openbao:transit/nightlatch:v1\""),
        "{wrapped}"
    );
    assert!(!fleet.path("mastersecret.json").exists());
    // With the token of who wraps: all of it is tried.
    let told = fleet.good(&["kms", "check", &fleet.config()]);
    for line in [
        "key: openbao:transit/nightlatch, of type aes256-gcm96: version 1 wraps",
        "round trip: 32 bytes were wrapped and unwrapped",
        "file: the master secret was unwrapped",
        "another id: refused by the KMS",
        "for init and recover alone update on transit/encrypt/nightlatch, read on transit/keys/nightlatch; too many none",
        "check value: ",
        "; only kms recover shows that it opens",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    // With the token of a service: what it may not do is named, and it needs none of that.
    fleet.hand_over(&bao.token("unwrap"));
    let told = fleet.good(&["kms", "check", &fleet.config()]);
    for line in [
        "read on transit/keys/nightlatch was refused",
        "file: the master secret was unwrapped",
        "another id: refused by the KMS",
        "missing none; for init and recover alone none; too many none",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    // With everything: what is too many is named.
    fleet.hand_over(bao::ROOT);
    let told = fleet.good(&["kms", "check", &fleet.config()]);
    assert!(
        told.contains("too many root on transit/decrypt/nightlatch"),
        "{told}"
    );
    let told = fleet.good(&["kms", "status", &fleet.config()]);
    assert!(
        told.contains("wrapped by openbao:transit/nightlatch:v1"),
        "{told}"
    );
    fleet.good(&["check", &fleet.config()]);
}

#[test]
fn each_state_of_the_key_has_its_class_and_a_key_that_is_back_unwraps() {
    let bao = Bao::start();
    let fleet = Fleet::new(&bao, true);
    fleet.init();
    let config = fleet.config();
    let check = ["kms", "check", config.as_str()];
    let expect = |code: i32, said: &str| {
        let (found, told) = failed(&fleet, &check);
        assert_eq!(found, Some(code), "{told}");
        assert!(told.contains(said), "{said}\n{told}");
    };
    let is_good = || {
        fleet
            .good(&check)
            .contains("the master secret was unwrapped")
    };
    assert!(is_good());
    // Not disabled but deleted, with a way back.
    bao.delete("transit/keys/nightlatch/soft-delete");
    expect(77, "the KMS's key is gone");
    bao.write("transit/keys/nightlatch/soft-delete-restore", "{}");
    assert!(is_good());
    // Its version retired.
    bao.write("transit/keys/nightlatch/rotate", "{}");
    assert!(is_good());
    bao.write(
        "transit/keys/nightlatch/config",
        "{\"min_decryption_version\":2}",
    );
    expect(77, "this version of the key is retired");
    bao.write(
        "transit/keys/nightlatch/config",
        "{\"min_decryption_version\":1}",
    );
    assert!(is_good());
    // The policy of the token is no more.
    bao.delete("sys/policies/acl/wrap");
    expect(77, "the KMS denies");
    bao.allow();
    assert!(is_good());
    // A token that has ended, which is answered as one without the right is.
    let token = bao.token("wrap");
    fleet.hand_over(&token);
    assert!(is_good());
    bao.write("auth/token/revoke", &format!("{{\"token\":\"{token}\"}}"));
    expect(77, "the KMS denies");
    fleet.hand_over(bao::ROOT);
    assert!(is_good());
    // A key of the same name that is another one, once it has as many versions.
    bao.write(
        "transit/keys/nightlatch/config",
        "{\"deletion_allowed\":true}",
    );
    bao.delete("transit/keys/nightlatch");
    expect(77, "there is no such key");
    bao.write("transit/keys/nightlatch", "{}");
    expect(77, "the KMS's key is another one");
    bao.delete("sys/mounts/transit");
    expect(77, "no engine is mounted there");
    bao.write("sys/seal", "{}");
    expect(75, "the KMS is away");
    drop(bao);
    expect(75, "the KMS is away");
}

#[test]
fn only_a_server_that_the_configured_authority_vouches_for_is_spoken_with() {
    let (bao, other) = (Bao::start_tls(), Bao::start_tls());
    let trusting = |ca: &std::path::Path| format!("ca = \"{}\"\n", ca.display());
    let fleet = Fleet::with(&bao, &trusting(&bao.ca()), false);
    fleet.hand_over(bao::ROOT);
    fleet.init();
    let told = fleet.good(&["kms", "check", &fleet.config()]);
    assert!(
        told.contains("file: the master secret was unwrapped"),
        "{told}"
    );
    // Anybody on the way can bring such an answer about, so it ends nothing at once.
    let stranger = Fleet::with(&bao, &trusting(&other.ca()), false);
    stranger.hand_over(bao::ROOT);
    let (code, told) = failed(&stranger, &["kms", "check", &stranger.config()]);
    assert_eq!(code, Some(75), "{told}");
    assert!(told.contains("invalid peer certificate"), "{told}");
}

#[test]
fn a_key_that_cannot_bind_is_no_key_for_a_fleet() {
    let bao = Bao::start();
    let fleet = Fleet::new(&bao, true);
    fleet.hand_over(bao::ROOT);
    let words = fleet.init_words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for body in ["{\"type\":\"rsa-2048\"}", "{\"derived\":true}"] {
        bao.write(
            "transit/keys/nightlatch/config",
            "{\"deletion_allowed\":true}",
        );
        bao.delete("transit/keys/nightlatch");
        bao.write("transit/keys/nightlatch", body);
        let (code, told) = failed(&fleet, &words);
        assert_eq!(code, Some(78), "{told}");
        assert!(
            told.contains("expected a key that is not derived, of type"),
            "{told}"
        );
        assert!(!fleet.path("mastersecret.wrapped.json").exists());
    }
    // A name that is misspelt makes no key, though this token could.
    bao.write(
        "transit/keys/nightlatch/config",
        "{\"deletion_allowed\":true}",
    );
    bao.delete("transit/keys/nightlatch");
    let (code, told) = failed(&fleet, &words);
    assert_eq!(code, Some(77), "{told}");
    assert_eq!(bao.status("transit/keys/nightlatch"), 404);
    bao.write("transit/keys/nightlatch", "{}");
    fleet.init();
}

#[test]
fn after_the_key_is_destroyed_its_fleet_opens_by_the_recovery_key_alone() {
    let bao = Bao::start();
    let (fleet, control) = (Fleet::new(&bao, true), Fleet::new(&bao, false));
    for fleet in [&fleet, &control] {
        // The master secrets of services without a KMS, so that what comes back can be compared.
        fleet.wrap_plain();
    }
    let told = control.good(&["kms", "status", &control.config()]);
    assert!(
        told.contains("the KMS's key is the only way to the data; kms.recovery-key names"),
        "{told}"
    );
    // A key that was named later opens nothing of before, and one that was changed is not the file's.
    let (_, later) = key_pair(&control, "later");
    let named = fs::read_to_string(control.config()).unwrap();
    let line = format!("recovery-key = \"{}\"\n", later.display());
    fs::write(control.config(), format!("{named}{line}")).unwrap();
    let told = control.good(&["kms", "status", &control.config()]);
    assert!(told.contains("made without kms.recovery-key"), "{told}");
    fs::write(control.config(), named).unwrap();
    let theirs = fs::read_to_string(fleet.path("recovery.pem")).unwrap();
    fs::copy(&later, fleet.path("recovery.pem")).unwrap();
    let told = fleet.good(&["kms", "status", &fleet.config()]);
    assert!(told.contains(", and kms.recovery-key is "), "{told}");
    fs::write(fleet.path("recovery.pem"), theirs).unwrap();
    bao.write(
        "transit/keys/nightlatch/config",
        "{\"deletion_allowed\":true}",
    );
    bao.delete("transit/keys/nightlatch");

    let file = fleet
        .path("mastersecret.wrapped.json")
        .display()
        .to_string();
    let plain = fleet.path("back.json").display().to_string();
    let key = fleet.path("recovery.key").display().to_string();
    let recover = ["kms", "recover", "--private-key", &key];
    fleet.good(&[&recover[..], &["--plain", &file, &plain]].concat());
    let original = fs::read_to_string(fleet.path("plain/mastersecret.json")).unwrap();
    assert_eq!(fs::read_to_string(&plain).unwrap(), original);
    // What is there is never replaced.
    let (code, told) = failed(
        &fleet,
        &[&recover[..], &["--plain", &file, &plain]].concat(),
    );
    assert_ne!(code, Some(0), "{told}");

    // Under another key: the same bytes again.
    bao.write("transit/keys/second", "{}");
    let config = fs::read_to_string(fleet.config()).unwrap();
    let second = config.replace("transit/nightlatch", "transit/second");
    fs::write(
        fleet.config(),
        second.replace("mastersecret.wrapped", "second"),
    )
    .unwrap();
    fleet.hand_over(bao::ROOT);
    let again = fleet.path("second.json").display().to_string();
    let config = fleet.config();
    fleet.good(&[&recover[..], &["--config", &config, &file, &again]].concat());
    let told = fleet.good(&["kms", "check", &config]);
    assert!(
        told.contains("file: the master secret was unwrapped"),
        "{told}"
    );
    let back = fleet.path("again.json").display().to_string();
    fleet.good(&[&recover[..], &["--plain", &again, &back]].concat());
    assert_eq!(fs::read_to_string(&back).unwrap(), original);

    // Without a recovery key nothing opens, not even by the one of the other fleet.
    let file = control
        .path("mastersecret.wrapped.json")
        .display()
        .to_string();
    let none = control.path("none.json").display().to_string();
    let (code, told) = failed(
        &control,
        &[&recover[..], &["--plain", &file, &none]].concat(),
    );
    assert_eq!(code, Some(77), "{told}");
    assert!(
        told.contains("nothing but the KMS's key opens it"),
        "{told}"
    );
    let (theirs, _) = key_pair(&control, "other");
    let theirs = theirs.display().to_string();
    let (code, told) = failed(
        &control,
        &[
            "kms",
            "recover",
            "--private-key",
            &theirs,
            "--plain",
            &again,
            &none,
        ],
    );
    assert_eq!(code, Some(77), "{told}");
    assert!(told.contains("another recovery key"), "{told}");
}

#[test]
fn a_service_ends_releases_with_its_key_and_takes_them_up_with_it() {
    let bao = Bao::start();
    let mut fleet = Fleet::new(&bao, true);
    fleet.init();
    fleet.hand_over(&bao.token("unwrap"));
    fleet.serve();
    fleet.until("it gives keys", || fleet.ready() == 200);
    bao.delete("transit/keys/nightlatch/soft-delete");
    // A minute after the first refusal, which is not before that.
    fleet.until("a first refusal", || {
        fleet.events() == ["kms-failure kms-gone"]
    });
    assert_eq!(fleet.ready(), 200);
    fleet.until("the end of releases", || fleet.ready() == 503);
    bao.write("transit/keys/nightlatch/soft-delete-restore", "{}");
    fleet.until("that it gives keys again", || fleet.ready() == 200);
    assert_eq!(
        fleet.events(),
        ["kms-failure kms-gone", "kms-stop kms-gone", "kms-resume -"]
    );
    // A start without the server tries on until it is there.
    fleet.stop();
    bao.stop(true);
    fleet.serve();
    fleet.until("a try in vain", || fleet.said().contains("trying again"));
    bao.stop(false);
    fleet.until("a start", || fleet.ready() == 200);
    fleet.stop();
}
