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
    let kms = Kms::new(&engine.config()).unwrap();
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
    let kms = Kms::new(&engine.config()).unwrap();
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
    // A private key that everybody may read is none; openssl makes it private.
    let set = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&private, fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o644);
    let error = RecoveryPrivateKey::load(&private).unwrap_err().to_string();
    assert!(error.contains("everybody may read it"), "{error}");
    set(0o600);
    RecoveryPrivateKey::load(&private).unwrap();
    for path in [&public, &engine.path("empty")] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
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

#[test]
fn a_key_is_told_by_its_thumbprint() {
    // The key of RFC 7517, appendix A.1, whose thumbprint has been computed with Python's hashlib.
    let key = RecoveryKey(EphemeralKey {
        kty: "EC".into(),
        crv: "P-256".into(),
        alg: "ECDH-ES+A256KW".into(),
        x: "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4".into(),
        y: "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM".into(),
    });
    assert_eq!(
        key.thumbprint().unwrap(),
        "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"
    );
    let engine = Engine::start();
    let (_, public) = pair(&engine, "recovery", "P-256");
    let owner = RecoveryKey::load(&public).unwrap();
    let content = Secret::new(b"content".to_vec());
    let sealed = seal(
        &Kms::new(&engine.config()).unwrap(),
        MASTER_ID,
        &content,
        Some(&owner),
    )
    .unwrap();
    let read = Envelope::parse(sealed.text().unwrap().as_bytes()).unwrap();
    let told = read.recovery().unwrap().key.clone();
    assert_eq!(told, Some(owner.thumbprint().unwrap()));
}
