// SPDX-License-Identifier: Apache-2.0
//! A wrapped master secret: what follows from it, and how long a start waits for it.

use super::*;
use crate::error::Exit;
use crate::key::cluster_id;
use crate::keyservice::kms::tests::Engine;
use crate::keyservice::secrets::{Keys, init};
use crate::keyservice::volume_id::VolumeId;

const UUID: &str = "00000000-0000-0000-0000-000000000000";

/// A configuration whose master secret is in this file.
fn config(engine: &Engine, file: &str) -> Config {
    let at = engine.path("secrets").display().to_string();
    let text = format!(
        "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n[secret]\nmaster = \"wrapped:{at}/{file}\"\n\
         measurement-salt = \"file:{at}/measurement-salt\"\n[kms]\n{}",
        engine.table("deadline-s = 20")
    );
    Config::parse(&text).unwrap()
}

/// What is wrapped is the text of a `mastersecret.json`, so that of a fleet of before gives the same keys.
#[test]
fn a_master_secret_that_was_unwrapped_gives_the_keys_of_the_same_bytes_in_a_file() {
    let engine = Engine::start();
    let directory = engine.path("secrets");
    init::write(&directory).unwrap();
    let source =
        |name: &str| crate::keyservice::config::secret::SecretSource::File(directory.join(name));
    let (file, salt) = (source("mastersecret.json"), source("measurement-salt"));
    let plain = Master::load(&file, &salt).unwrap();
    let config = config(&engine, "wrapped.json");
    let content = Secret::new(file.read("").unwrap().as_bytes().to_vec());
    let envelope = wrap(kms_of(&config).unwrap(), &content).unwrap();
    std::fs::write(directory.join("wrapped.json"), envelope.text().unwrap()).unwrap();

    let keys = Keys::load(&config).unwrap();
    let unwrapped = keys.master().unwrap();
    let id = VolumeId::parse(UUID).unwrap();
    let of = |master: &Master| {
        let both = master.measurement().unwrap();
        let (secret, salt) = both.expose().split_at(KEY_LEN);
        let salt: [u8; KEY_LEN] = salt.try_into().unwrap();
        let cluster = cluster_id(&Secret::new(secret.to_vec()), &salt).unwrap();
        let session = master.session_key().expose().to_vec();
        (
            master.volume_secret(&id).unwrap().expose().to_vec(),
            cluster,
            session,
        )
    };
    assert_eq!(of(&plain), of(&unwrapped));
    // The control: another fleet's are others.
    let other = engine.path("other");
    init::write(&other).unwrap();
    let source =
        |name: &str| crate::keyservice::config::secret::SecretSource::File(other.join(name));
    let other = Master::load(&source("mastersecret.json"), &source("measurement-salt")).unwrap();
    assert_ne!(of(&plain).0, of(&other).0);
}

#[test]
fn a_recheck_that_brings_another_master_secret_than_the_start_is_no_unwrap() {
    let engine = Engine::start();
    let directory = engine.path("secrets");
    let config = config(&engine, "mastersecret.wrapped.json");
    init::write_wrapped(&directory, |master| {
        let envelope = wrap(kms_of(&config)?, master)?;
        envelope.text().map(zeroize::Zeroizing::new)
    })
    .unwrap();
    let path = directory.join("mastersecret.wrapped.json");
    let (mut wrapped, _) = Wrapped::start(&config, &path).unwrap();
    wrapped.unwrap().unwrap();
    wrapped.started_with = Some(CheckValue::new([0; KEY_LEN]));
    let failure = wrapped.unwrap().unwrap_err();
    assert_eq!(failure.class, Class::Wrong);
    assert!(
        failure.to_string().contains("than at the start"),
        "{failure}"
    );
}

#[test]
fn a_start_tries_for_a_minute_and_then_ends_with_the_code_of_the_class() {
    for (class, exit, is_tried_again) in [
        (Class::Away, Exit::Temporary, true),
        (Class::Denied, Exit::Refused, true),
        (Class::Gone, Exit::Refused, true),
        (Class::Wrong, Exit::Refused, false),
        (Class::Unusable, Exit::Config, false),
    ] {
        let (mut pauses, mut tries) = (Vec::new(), 0);
        let error = patiently(
            START_MAX,
            |pause| pauses.push(pause),
            || {
                tries += 1;
                Err::<(), _>(Failure::new(class, "x"))
            },
        )
        .unwrap_err();
        assert_eq!(error.exit(), exit, "{error}");
        assert_eq!(tries > 1, is_tried_again, "{error}");
        assert_eq!(pauses.len(), tries - 1);
        assert!(pauses.iter().sum::<Duration>() < START_MAX, "{pauses:?}");
        for pause in &pauses {
            assert!(*pause >= PAUSE_MIN / 2 && *pause <= PAUSE_MAX, "{pauses:?}");
        }
        // At the least: each as long as it may be.
        assert!(tries >= 9 || !is_tried_again, "{tries}");
    }
    let mut tries = 0;
    let done = patiently(
        START_MAX,
        |_| (),
        || {
            tries += 1;
            match tries {
                3 => Ok(tries),
                _ => Err(Failure::new(Class::Away, "x")),
            }
        },
    );
    assert_eq!(done.unwrap(), 3);
}

#[test]
fn a_file_that_everybody_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let engine = Engine::start();
    let content = Secret::new(b"content".to_vec());
    let text = wrap(&engine.config(), &content).unwrap().text().unwrap();
    let path = engine.path("wrapped.json");
    std::fs::write(&path, text).unwrap();
    let set =
        |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    set(0o644);
    let envelope = read(&path).unwrap();
    set(0o646);
    let error = read(&path).unwrap_err();
    assert_eq!(error.exit(), Exit::Config);
    assert!(
        error
            .to_string()
            .contains("everybody may write to it (mode 646)"),
        "{error}"
    );
    let error = read(&engine.path("none")).unwrap_err().to_string();
    assert!(error.contains("nightlatchd init --kms makes it"), "{error}");
    // What is sealed is no master secret here.
    let key = kms::open(&Kms::new(&engine.config()).unwrap(), MASTER_ID, &envelope).unwrap();
    let failure = of_content(&key, [0; KEY_LEN]).unwrap_err();
    assert_eq!(failure.class, Class::Wrong);
    assert!(!failure.to_string().contains("content"), "{failure}");
}
