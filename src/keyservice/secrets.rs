// SPDX-License-Identifier: Apache-2.0
//! The master secret, and all that follows from it.
//!
//! [`Master::load`] reads it, and [`init`] makes one for a new fleet.
//!
//! **Never:** the master secret in an answer: only what is derived from it leaves.

pub mod init;

use std::fs;
use std::path::Path;

use base64ct::{Base64, Encoding};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, MEASUREMENT_SECRET_ID, Secret};
use crate::keyservice::config::{SecretFrom, SecretSource};
use crate::keyservice::volume_id::VolumeId;

/// The shortest master secret that is taken, in bytes: that of Constellation.
const MASTER_LEN_MIN: usize = 16;

/// HKDF info of the key that seals sessions. No `key-` name, so no id of a volume or a secret leads to it.
const SESSION_INFO: &[u8] = b"nightlatchd session 1";

/// The file `constellation-mastersecret.json`. Its contents are wiped when dropped.
#[derive(Deserialize, Serialize)]
pub(crate) struct MasterFile {
    /// The secret, base64.
    pub(crate) key: String,
    /// The salt, base64.
    pub(crate) salt: String,
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

/// What all keys are derived from.
#[derive(Debug)]
pub struct Master {
    secret: Secret,
    salt: Secret,
    measurement_salt: [u8; KEY_LEN],
    session: Secret,
}

impl Master {
    /// Reads what `nightlatchd init` wrote.
    pub fn load(from: &SecretFrom) -> Result<Self> {
        let (secret, salt) = read(&from.master, master).doing("reading the master secret")?;
        let measurement_salt =
            read(&from.measurement_salt, measurement_salt).doing("reading the measurement salt")?;
        Self::new(secret, salt, measurement_salt)
    }

    pub(crate) fn new(
        secret: Secret,
        salt: Secret,
        measurement_salt: [u8; KEY_LEN],
    ) -> Result<Self> {
        let mut session = vec![0; KEY_LEN];
        Hkdf::<Sha256>::new(Some(salt.expose()), secret.expose())
            .expand(SESSION_INFO, &mut session)
            .map_err(|error| Error::failure(format_args!("HKDF: {error}")))
            .doing("deriving the key of sessions")?;
        Ok(Self {
            secret,
            salt,
            measurement_salt,
            session: Secret::new(session),
        })
    }

    /// A volume's secret, 32 bytes.
    pub fn volume_secret(&self, id: &VolumeId) -> Result<Secret> {
        self.secret.derive(self.salt.expose(), id.as_str())
    }

    /// The measurement secret and the measurement salt, 64 bytes: what the clusterID is derived from.
    pub fn measurement(&self) -> Result<Secret> {
        let secret = self
            .secret
            .derive(self.salt.expose(), MEASUREMENT_SECRET_ID)?;
        let mut both = Vec::with_capacity(KEY_LEN.saturating_mul(2));
        both.extend_from_slice(secret.expose());
        both.extend_from_slice(&self.measurement_salt);
        Ok(Secret::new(both))
    }

    /// The key that seals sessions.
    pub(crate) fn session_key(&self) -> &Secret {
        &self.session
    }
}

fn read<T>(source: &SecretSource, parse: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let path = source.path()?;
    let text = fs::read_to_string(&path)
        .map(Zeroizing::new)
        .map_err(|error| {
            let hint = if error.kind() == std::io::ErrorKind::NotFound {
                ": nightlatchd init makes it, once for a fleet"
            } else {
                ""
            };
            Error::config(format_args!("{}: {error}{hint}", path.display()))
        })?;
    require_private(source, &path)?;
    parse(&text).doing(path.display())
}

/// A file that others may read is no secret. A credential is systemd's to protect.
fn require_private(source: &SecretSource, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path)
        .doing(path.display())?
        .permissions()
        .mode();
    match source {
        SecretSource::File(_) if mode & 0o007 != 0 => Err(Error::config(format_args!(
            "{}: everybody may read it (mode {:o}): chmod 0600",
            path.display(),
            mode & 0o777
        ))),
        SecretSource::File(_) | SecretSource::Credential(_) => Ok(()),
    }
}

fn master(text: &str) -> Result<(Secret, Secret)> {
    let file: MasterFile = serde_json::from_str(text)
        // The message of the parser may quote the secret.
        .map_err(|error| {
            Error::config(format_args!(
                "expected {{\"key\":\"…\",\"salt\":\"…\"}}, found something else at line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
    let decode = |text: &str, name: &str, len_min: usize| {
        let bytes = Base64::decode_vec(text)
            .map(Secret::new)
            .map_err(|error| Error::config(format_args!("{name}: {error}")))?;
        match bytes.expose().len() {
            len if len < len_min => Err(Error::config(format_args!(
                "{name}: expected at least {len_min} bytes, found {len}"
            ))),
            _ => Ok(bytes),
        }
    };
    Ok((
        decode(&file.key, "key", MASTER_LEN_MIN)?,
        decode(&file.salt, "salt", KEY_LEN)?,
    ))
}

fn measurement_salt(text: &str) -> Result<[u8; KEY_LEN]> {
    let mut salt = [0; KEY_LEN];
    hex::decode_to_slice(text.trim(), &mut salt)
        .map_err(|error| Error::config(format_args!("expected 64 hexadecimal digits: {error}")))?;
    Ok(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u8, to: u8) -> Vec<u8> {
        (from..=to).collect()
    }

    /// The vectors Constellation publishes in internal/crypto/testvector.
    #[test]
    fn what_nodes_get_equals_the_published_vectors() {
        let master = |secret, salt| {
            Master::new(Secret::new(secret), Secret::new(salt), [7; KEY_LEN]).unwrap()
        };
        let id = VolumeId::parse("00000000-0000-0000-0000-000000000000").unwrap();
        let key = master(vec![0; 32], vec![0; 32]).volume_secret(&id).unwrap();
        assert_eq!(
            hex::encode(key.expose()),
            "2b5c829f691bfd4232f8aac464bccc07e605c7c8e82cbca09837e86d0b6d0665"
        );
        let both = master(range(0x40, 0x5f), range(0x60, 0x7f))
            .measurement()
            .unwrap();
        assert_eq!(
            hex::encode(both.expose()),
            format!(
                "4790578891f3fe6cc22cb661ecdc1b7e33121b1287546a52ba33a9136719c213{}",
                "07".repeat(32)
            )
        );
    }

    #[test]
    fn a_short_or_broken_master_secret_is_refused_without_being_quoted() {
        let salt = Base64::encode_string(&[1; 32]);
        let text = |key: &str, salt: &str| format!(r#"{{"key":"{key}","salt":"{salt}"}}"#);
        let key = Base64::encode_string(&[2; 32]);
        assert!(master(&text(&key, &salt)).is_ok());
        for (key, salt) in [
            (Base64::encode_string(&[2; 15]), salt.clone()),
            (key.clone(), Base64::encode_string(&[1; 31])),
            ("c2VjcmV0!".into(), salt.clone()),
        ] {
            let error = master(&text(&key, &salt)).unwrap_err();
            assert!(!error.to_string().contains(&key), "{error}");
        }
        let error = master(r#"{"key":12345678}"#).unwrap_err().to_string();
        assert!(
            error.contains("line 1") && !error.contains("12345"),
            "{error}"
        );
    }

    #[test]
    fn a_master_secret_that_everybody_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory =
            std::env::temp_dir().join(format!("nightlatch-master-{}", std::process::id()));
        init::write(&directory).unwrap();
        let source = |name| SecretSource::File(directory.join(name));
        let from = SecretFrom {
            master: source(crate::keyservice::config::MASTER_FILE),
            measurement_salt: source(crate::keyservice::config::MEASUREMENT_SALT_FILE),
        };
        Master::load(&from).unwrap();
        let path = from.master.path().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Master::load(&from).unwrap_err().to_string();
        assert!(
            error.contains("everybody may read it (mode 644)"),
            "{error}"
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
