// SPDX-License-Identifier: Apache-2.0
//! The master secret, and all that follows from it.
//!
//! [`Master::load`] reads it, and [`init`] makes one for a new fleet. [`Keys`] is what a running service has of it: all, or
//! nothing while its KMS does not let it.
//!
//! **Never:** the master secret in an answer: only what is derived from it leaves.

pub mod init;
mod keys;
pub mod paper;
#[cfg(feature = "kms")]
pub mod recheck;
#[cfg(feature = "kms")]
pub mod wrapped;

use hkdf::Hkdf;
use sha2::Sha256;

use crate::error::{Doing, Error, Result};
pub(crate) use crate::key::master::{MasterFile, parse};
use crate::key::{KEY_LEN, MEASUREMENT_SECRET_ID, Secret};
use crate::keyservice::config::secret::{CheckValue, SecretSource};
use crate::keyservice::volume_id::VolumeId;
pub use keys::Keys;
#[cfg(not(feature = "kms"))]
pub(in crate::keyservice) use keys::no_kms;

/// HKDF info of the key that seals sessions. No `key-` name, so no id of a volume or a secret leads to it.
const SESSION_INFO: &[u8] = b"nightlatchd session 1";

/// HKDF info of what a master secret is recognised by. It is public: the secret does not follow from it.
const CHECK_INFO: &[u8] = b"nightlatchd master check 1";

/// What all keys are derived from.
#[derive(Debug)]
pub struct Master {
    secret: Secret,
    salt: Secret,
    measurement_salt: [u8; KEY_LEN],
    session: Secret,
}

impl Master {
    /// Reads what `nightlatchd init` wrote: the master secret with its salt, and the salt of measurements.
    pub fn load(master: &SecretSource, measurement_salt: &SecretSource) -> Result<Self> {
        let (secret, salt) = read(master, parse).doing("reading the master secret")?;
        Self::new(secret, salt, load_measurement_salt(measurement_salt)?)
    }

    pub(crate) fn new(
        secret: Secret,
        salt: Secret,
        measurement_salt: [u8; KEY_LEN],
    ) -> Result<Self> {
        let session = expand(&secret, &salt, SESSION_INFO).doing("deriving the key of sessions")?;
        Ok(Self {
            secret,
            salt,
            measurement_salt,
            session,
        })
    }

    /// What it is recognised by. The salt of measurements is not in it.
    pub(crate) fn check_value(&self) -> Result<CheckValue> {
        let value = expand(&self.secret, &self.salt, CHECK_INFO);
        let value = value.doing("deriving the check value")?;
        let bytes = value.expose().try_into().map_err(Error::failure)?;
        Ok(CheckValue::new(bytes))
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
    let text = source.read(": nightlatchd init makes it, once for a fleet")?;
    parse(&text).doing(source.path()?.display())
}

/// Reads the salt of measurements.
pub(crate) fn load_measurement_salt(from: &SecretSource) -> Result<[u8; KEY_LEN]> {
    read(from, measurement_salt).doing("reading the measurement salt")
}

fn expand(secret: &Secret, salt: &Secret, info: &[u8]) -> Result<Secret> {
    let mut key = vec![0; KEY_LEN];
    Hkdf::<Sha256>::new(Some(salt.expose()), secret.expose())
        .expand(info, &mut key)
        .map_err(|error| Error::failure(format_args!("HKDF: {error}")))?;
    Ok(Secret::new(key))
}

fn measurement_salt(text: &str) -> Result<[u8; KEY_LEN]> {
    let mut salt = [0; KEY_LEN];
    hex::decode_to_slice(text.trim(), &mut salt)
        .map_err(|error| Error::config(format_args!("expected 64 hexadecimal digits: {error}")))?;
    Ok(salt)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
    fn a_master_secret_that_everybody_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory =
            std::env::temp_dir().join(format!("nightlatch-master-{}", std::process::id()));
        init::write(&directory).unwrap();
        let source = |name| SecretSource::File(directory.join(name));
        let master = source(crate::keyservice::config::MASTER_FILE);
        let salt = source(crate::keyservice::config::MEASUREMENT_SALT_FILE);
        Master::load(&master, &salt).unwrap();
        let path = master.path().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Master::load(&master, &salt).unwrap_err().to_string();
        assert!(
            error.contains("everybody may read it (mode 644)"),
            "{error}"
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
