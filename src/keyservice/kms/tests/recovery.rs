// SPDX-License-Identifier: Apache-2.0
//! The way without the KMS, with keys as openssl makes them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::error::Exit;
use crate::keyservice::kms::tests::Engine;
use crate::keyservice::kms::{Kms, MASTER_ID, seal};

/// A pair of files in the engine's directory: the private key, and the public one.
pub(crate) fn pair(engine: &Engine, name: &str, curve: &str) -> (PathBuf, PathBuf) {
    let (private, public) = (
        engine.path(&format!("{name}.key")),
        engine.path(&format!("{name}.pem")),
    );
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let (private_text, public_text) = (private.display().to_string(), public.display().to_string());
    let curve = format!("ec_paramgen_curve:{curve}");
    let make = [
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        &curve,
        "-out",
        &private_text,
    ];
    openssl(&make);
    openssl(&[
        "pkey",
        "-in",
        &private_text,
        "-pubout",
        "-out",
        &public_text,
    ]);
    (private, public)
}

#[test]
fn the_owner_of_the_recovery_key_opens_without_the_kms_and_nobody_else_does() {
    let engine = Engine::start();
    let kms = Kms::new(&engine.config());
    let (private, public) = pair(&engine, "recovery", "P-256");
    let content = Secret::new(b"content".to_vec());
    let owner = RecoveryKey::load(&public).unwrap();
    let sealed = seal(&kms, MASTER_ID, &content, Some(&owner)).unwrap();
    let read = Envelope::parse(sealed.text().unwrap().as_bytes()).unwrap();
    engine.always(404, "{\"errors\":[]}");
    assert!(crate::keyservice::kms::open(&kms, MASTER_ID, &read).is_err());
    let private = RecoveryPrivateKey::load(&private).unwrap();
    assert_eq!(private.open(&read).unwrap().expose(), b"content");

    let (other, _) = pair(&engine, "other", "P-256");
    let error = RecoveryPrivateKey::load(&other)
        .unwrap()
        .open(&read)
        .unwrap_err();
    assert!(
        error.to_string().contains("another recovery key"),
        "{error}"
    );
    // Another file's member opens nothing here.
    engine.restore();
    let mixed = seal(&kms, MASTER_ID, &content, Some(&owner)).unwrap();
    let mut mixed: serde_json::Value = serde_json::from_str(&mixed.text().unwrap()).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(&read.text().unwrap()).unwrap();
    mixed["recovery"] = theirs["recovery"].clone();
    let mixed = Envelope::parse(mixed.to_string().as_bytes()).unwrap();
    let error = private.open(&mixed).unwrap_err();
    assert!(
        error.to_string().contains("put together from several"),
        "{error}"
    );
}

#[test]
fn without_a_recovery_key_there_is_no_way_but_the_kms() {
    let engine = Engine::start();
    let kms = Kms::new(&engine.config());
    let (private, _) = pair(&engine, "recovery", "P-256");
    let content = Secret::new(b"content".to_vec());
    let sealed = seal(&kms, MASTER_ID, &content, None).unwrap();
    let error = RecoveryPrivateKey::load(&private)
        .unwrap()
        .open(&sealed)
        .unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(
        error
            .to_string()
            .contains("nothing but the KMS's key opens it"),
        "{error}"
    );
}

#[test]
fn keys_of_other_kinds_are_told() {
    let engine = Engine::start();
    let (private, public) = pair(&engine, "good", "P-256");
    RecoveryKey::load(&public).unwrap();
    RecoveryPrivateKey::load(&private).unwrap();
    let (other_private, other_public) = pair(&engine, "p384", "P-384");
    fs::write(engine.path("empty"), "").unwrap();
    for path in [
        &other_public,
        &private,
        &engine.path("empty"),
        &engine.path("none"),
    ] {
        let error = RecoveryKey::load(path).unwrap_err();
        assert_eq!(error.exit(), Exit::Config);
        assert!(
            error.to_string().contains("expected a public key of P-256"),
            "{error}"
        );
    }
    for path in [&other_private, &public, &engine.path("empty")] {
        let error = RecoveryPrivateKey::load(path).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("expected a private key of P-256"),
            "{error}"
        );
    }
}
