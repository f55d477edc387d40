// SPDX-License-Identifier: Apache-2.0
//! `open` and `close`: a volume on a machine that is not its node, by a key that a person has.
//!
//! **Never:** a key on the command line or in the environment: it is in a file, or typed.

use std::path::Path;

use zeroize::Zeroizing;

use crate::ctl::cli::{Close, Open};
use crate::ctl::input::MASTER_LEN_MIN;
use crate::ctl::{Answer, input, question, terminal};
use crate::error::{Doing, Error, Result};
use crate::key::recovery::RecoveryKey;
use crate::key::{Brought, KEY_LEN, Secret};
use crate::memory;
use crate::rescue::{self, Found, Unlocked};

/// The longest text of a recovery key that is read, in bytes: 71 and whatever a person puts around them.
const TEXT_LEN_MAX: usize = 4096;

pub(super) fn open(given: &Open) -> Result<Answer> {
    memory::forbid_core_dumps();
    let found = Found::examine(&given.device, given.profile, given.uuid)?;
    let unlocked = found.unlock(&key(given)?)?;
    let mapping = unlocked.mapping(given.name.as_deref());
    let report = if given.writable {
        confirm(given, &unlocked)?;
        unlocked.open_writable(&mapping)?
    } else {
        unlocked.open_read_only(&mapping, given.memory.unwrap_or(rescue::MEMORY_BYTES))?
    };
    let json = serde_json::to_value(&report).map_err(Error::failure)?;
    Ok(Answer::new(report.to_string(), json))
}

pub(super) fn close(given: &Close) -> Result<Answer> {
    let closed = rescue::close(&given.mapping)?;
    let json = serde_json::to_value(&closed).map_err(Error::failure)?;
    Ok(Answer::new(closed.to_string(), json))
}

/// The key, by the option that names one, or asked for.
fn key(given: &Open) -> Result<Brought> {
    if let Some(path) = &given.secret_file {
        return secret(path)
            .doing("reading the volume's secret")
            .map(Brought::Secret);
    }
    if let (Some(master), Some(salt), Some(uuid)) = (&given.master_secret, &given.salt, given.uuid)
    {
        let master = input::secret(master, MASTER_LEN_MIN).doing("reading the master secret")?;
        let salt = input::secret(salt, KEY_LEN).doing("reading the salt")?;
        // The id of a volume is its UUID in lower case, as the key service has it.
        let secret = master.derive(salt.expose(), &uuid.hyphenated().to_string())?;
        return Ok(Brought::Secret(secret));
    }
    let key = match &given.recovery_key_file {
        Some(path) => text(path).and_then(|text| RecoveryKey::parse(&text)),
        None => terminal::ask_secret("Recovery key: ").and_then(|text| RecoveryKey::parse(&text)),
    };
    key.doing("reading the recovery key")
        .map(|key| Brought::RecoveryKey(Secret::new(key.text().as_bytes().to_vec())))
}

fn secret(path: &Path) -> Result<Secret> {
    let secret = input::secret(path, KEY_LEN)?;
    match secret.expose().len() {
        KEY_LEN => Ok(secret),
        len => Err(Error::refused(format_args!(
            "{}: expected {KEY_LEN} bytes as they are, found {len}; nightlatchctl derive prints them in hexadecimal digits",
            path.display()
        ))),
    }
}

fn text(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let text = input::read(path, TEXT_LEN_MAX).doing(path.display())?;
    Ok(Zeroizing::new(text))
}

fn confirm(given: &Open, unlocked: &Unlocked) -> Result<()> {
    let what = format!(
        "{}: what is written to {} from now on, and what a mount of it replays, is what its node opens next, and no count of \
         boots or epoch tells the node of it",
        given.device.display(),
        unlocked.title(),
    );
    question::confirm(given.yes, &what)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::*;
    use crate::ctl::cli::{Cli, Verb};

    const UUID: &str = "00000000-0000-0000-0000-000000000000";

    fn given(more: &[&str]) -> std::result::Result<Open, String> {
        let words = ["nightlatchctl", "open"].iter().chain(more);
        let cli =
            Cli::try_parse_from(words.chain(&["/dev/none"])).map_err(|why| why.to_string())?;
        let Verb::Open(open) = cli.verb else {
            panic!("another verb");
        };
        Ok(open)
    }

    struct Files(std::path::PathBuf);

    impl Files {
        fn new(name: &str) -> Self {
            let directory = format!("nightlatch-open-{name}-{}", std::process::id());
            let directory = std::env::temp_dir().join(directory);
            fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }

        fn with(&self, name: &str, bytes: &[u8]) -> String {
            let path = self.0.join(name);
            fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn each_way_to_a_key_excludes_the_others_and_a_master_secret_takes_salt_and_uuid() {
        let master = ["--master-secret", "m", "--salt", "s", "--uuid", UUID];
        given(&master).unwrap();
        given(&["--secret-file", "s", "--uuid", UUID]).unwrap();
        given(&["--recovery-key-file", "r", "--memory", "1G"]).unwrap();
        given(&[
            "--writable",
            "--yes",
            "--profile",
            "luks2-strict",
            "--name",
            "old",
        ])
        .unwrap();
        for wrong in [
            &["--recovery-key-file", "r", "--secret-file", "s"][..],
            &[&master[..], &["--secret-file", "s"]].concat(),
            &[&master[..], &["--recovery-key-file", "r"]].concat(),
            &master[..4],
            &["--master-secret", "m", "--uuid", UUID],
            &["--salt", "s"],
            &["--writable", "--memory", "1G"],
            &["--uuid", "00000000-0000-0000-0000-00000000000A"],
            &["--memory", "1"],
            &["--name", "../x"],
        ] {
            assert!(given(wrong).is_err(), "{wrong:?}");
        }
    }

    /// The vector Constellation publishes in internal/crypto/testvector.
    #[test]
    fn the_secret_that_follows_from_a_master_secret_is_the_services() {
        let files = Files::new("master");
        let (master, salt) = (files.with("m", &[0; 32]), files.with("s", &[0; 32]));
        let open = given(&["--master-secret", &master, "--salt", &salt, "--uuid", UUID]).unwrap();
        let secret = "2b5c829f691bfd4232f8aac464bccc07e605c7c8e82cbca09837e86d0b6d0665";
        assert_eq!(
            hex::encode(key(&open).unwrap().passphrase().expose()),
            secret
        );

        let short = files.with("m", &[0; 15]);
        let open = given(&["--master-secret", &short, "--salt", &salt, "--uuid", UUID]).unwrap();
        let error = key(&open).unwrap_err().to_string();
        assert!(
            error.contains("expected at least 16 bytes, found 15"),
            "{error}"
        );
    }

    #[test]
    fn a_secret_of_another_length_and_a_text_that_is_no_key_are_refused() {
        let files = Files::new("secret");
        let by = |option: &str, bytes: &[u8]| {
            let path = files.with("key", bytes);
            key(&given(&[option, &path]).unwrap())
        };
        let secret = by("--secret-file", &[7; 32]).unwrap();
        assert_eq!(secret.passphrase().expose(), [7; 32]);
        for len in [31, 33, 65] {
            let error = by("--secret-file", &vec![7; len]).unwrap_err().to_string();
            assert!(error.contains("32 bytes"), "{error}");
        }

        let text = "cccbcdce cfcgchci cjckclcn crctcucv bcbbbdbe bfbgbhbi bjbkblbn brbtbubv\n";
        let typed = by("--recovery-key-file", text.to_uppercase().as_bytes()).unwrap();
        let expected = text.trim().replace(' ', "-");
        assert_eq!(typed.passphrase().expose(), expected.as_bytes());
        let error = by("--recovery-key-file", b"hunter2")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("reading the recovery key: expected a recovery key"),
            "{error}"
        );
        assert!(!error.contains("hunter"), "{error}");
    }
}
