// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd init`: the secrets of a new fleet.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret, fill_random};
use crate::keyservice::config::{MASTER_FILE, MEASUREMENT_SALT_FILE, WRAPPED_FILE};
use crate::keyservice::secrets::MasterFile;

/// Who may read what is made. Nobody but the owner may write to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readers {
    /// Its owner: it is a secret.
    Owner,
    /// Everybody: a service has an account of its own, which is not the one that makes its files.
    Everybody,
}

impl Readers {
    fn file_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everybody => 0o644,
        }
    }

    fn directory_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Everybody => 0o755,
        }
    }
}

/// Makes new secrets and writes them into two files of `directory` that only their owner may read. Files that are there
/// stay as they are, and are an error.
pub fn write(directory: &Path) -> Result<()> {
    write_as(directory, (MASTER_FILE, Readers::Owner), |master| {
        let text = std::str::from_utf8(master.expose()).map_err(Error::failure)?;
        Ok(Zeroizing::new(text.to_owned()))
    })
}

/// The same, with what `wrap` makes of the master secret in its place, which no file ever holds. That one everybody may
/// read: the account of the service does, and not as a credential.
#[cfg(feature = "kms")]
pub fn write_wrapped(
    directory: &Path,
    wrap: impl FnOnce(&Secret) -> Result<Zeroizing<String>>,
) -> Result<()> {
    write_as(directory, (WRAPPED_FILE, Readers::Everybody), wrap)
}

fn write_as(
    directory: &Path,
    (name, readers): (&str, Readers),
    make: impl FnOnce(&Secret) -> Result<Zeroizing<String>>,
) -> Result<()> {
    make_directory(directory, readers).doing(directory.display())?;
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
    create(
        &directory.join(MEASUREMENT_SALT_FILE),
        &text,
        Readers::Owner,
    )?;
    create(&directory.join(name), &master, readers)
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

fn make_directory(directory: &Path, readers: Readers) -> std::io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let mode = readers.directory_mode();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)?;
    // Whatever the mask of whoever makes it is.
    fs::set_permissions(directory, fs::Permissions::from_mode(mode))
}

/// Makes a file, which is on the disk when this returns, or is not there.
pub(in crate::keyservice) fn create(path: &Path, text: &str, readers: Readers) -> Result<()> {
    let mode = readers.file_mode();
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .doing(path.display())?;
    let write = |mut file: fs::File| {
        // Whatever the mask of whoever makes it is.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    let written = write(created);
    if written.is_err() {
        // The next try would not replace a part of a file either.
        fs::remove_file(path).doing(path.display())?;
    }
    written.doing(path.display())?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .doing(directory.display())
}

#[cfg(test)]
mod tests {
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

    /// The service runs under an account of its own, and root makes its files.
    #[cfg(feature = "kms")]
    #[test]
    fn a_wrapped_secret_can_be_read_by_the_account_of_the_service_and_its_salt_cannot() {
        let top = std::env::temp_dir().join(format!("nightlatch-init-kms-{}", std::process::id()));
        let (wrapped, plain) = (top.join("wrapped"), top.join("plain"));
        write_wrapped(&wrapped, |_| Ok(Zeroizing::new("{}".into()))).unwrap();
        write(&plain).unwrap();
        for (path, expected) in [
            (wrapped.clone(), 0o755),
            (wrapped.join(WRAPPED_FILE), 0o644),
            (wrapped.join(MEASUREMENT_SALT_FILE), 0o600),
            (plain.clone(), 0o700),
            (plain.join(MASTER_FILE), 0o600),
        ] {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, expected, "{}: {mode:o}", path.display());
        }
        fs::remove_dir_all(&top).unwrap();
    }
}
