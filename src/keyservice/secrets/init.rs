// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd init`: the secrets of a new fleet.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret, fill_random};
use crate::keyservice::config::{MASTER_FILE, MEASUREMENT_SALT_FILE, WRAPPED_FILE};
use crate::keyservice::secrets::MasterFile;

/// Makes new secrets and writes them into two files of `directory` that only their owner may read. Files that are there
/// stay as they are, and are an error.
pub fn write(directory: &Path) -> Result<()> {
    write_as(directory, MASTER_FILE, |master| {
        let text = std::str::from_utf8(master.expose()).map_err(Error::failure)?;
        Ok(Zeroizing::new(text.to_owned()))
    })
}

/// The same, with what `wrap` makes of the master secret in its place, which no file ever holds.
#[cfg(feature = "kms-openbao")]
pub fn write_wrapped(
    directory: &Path,
    wrap: impl FnOnce(&Secret) -> Result<Zeroizing<String>>,
) -> Result<()> {
    write_as(directory, WRAPPED_FILE, wrap)
}

fn write_as(
    directory: &Path,
    name: &str,
    make: impl FnOnce(&Secret) -> Result<Zeroizing<String>>,
) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .doing(directory.display())?;
    for name in [MASTER_FILE, WRAPPED_FILE, MEASUREMENT_SALT_FILE] {
        let path = directory.join(name);
        if path.exists() {
            return Err(Error::refused(format_args!(
                "{}: it is there already, and every key of its fleet follows from it",
                path.display()
            )));
        }
    }
    // Before anything is written: a KMS may refuse.
    let master = make(&master()?)?;
    let mut salt = [0; KEY_LEN];
    fill_random(&mut salt)?;
    let text = Zeroizing::new(format!("{}\n", hex::encode(salt)));
    create(&directory.join(MEASUREMENT_SALT_FILE), &text)?;
    create(&directory.join(name), &master)?;
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .doing(directory.display())
}

fn master() -> Result<Secret> {
    let random = || Ok::<_, Error>(Base64::encode_string(Secret::random()?.expose()));
    let file = MasterFile {
        key: random()?,
        salt: random()?,
    };
    serde_json::to_vec(&file)
        .map(Secret::new)
        .map_err(Error::failure)
}

/// Makes a file that only its owner may read.
pub(in crate::keyservice) fn create(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .doing(path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_are_private() {
        let directory =
            std::env::temp_dir().join(format!("nightlatch-init-{}", std::process::id()));
        write(&directory).unwrap();
        let read = |name| fs::read_to_string(directory.join(name)).unwrap();
        let (master, salt) = (read(MASTER_FILE), read(MEASUREMENT_SALT_FILE));
        for name in [MASTER_FILE, MEASUREMENT_SALT_FILE] {
            let mode = fs::metadata(directory.join(name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
        }
        let error = write(&directory).unwrap_err();
        assert!(error.to_string().contains("it is there already"), "{error}");
        assert_eq!(
            (master, salt),
            (read(MASTER_FILE), read(MEASUREMENT_SALT_FILE))
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
