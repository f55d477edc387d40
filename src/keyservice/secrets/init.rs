// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd init`: the secrets of a new fleet.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use crate::error::{Doing, Error, Result};
use crate::key::Secret;
use crate::keyservice::config::{MASTER_FILE, MEASUREMENT_SALT_FILE, WRAPPED_FILE};
use crate::keyservice::secrets::paper::Paper;
use crate::keyservice::secrets::{MasterFile, measurement_salt, parse};

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
    write_as(
        directory,
        (MASTER_FILE, Readers::Owner),
        &Paper::random()?,
        plain,
    )
}

/// The same of the secrets that a paper has.
pub fn write_from(directory: &Path, paper: &Paper) -> Result<()> {
    write_as(directory, (MASTER_FILE, Readers::Owner), paper, plain)
}

/// The secrets that [`write()`] has written into `directory`.
pub fn read(directory: &Path) -> Result<Paper> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path)
            .map(Zeroizing::new)
            .doing(path.display())
    };
    let (key, salt) = parse(&read(MASTER_FILE)?).doing(directory.join(MASTER_FILE).display())?;
    let salt_path = directory.join(MEASUREMENT_SALT_FILE);
    let measurement_salt = measurement_salt(&read(MEASUREMENT_SALT_FILE)?);
    Ok(Paper {
        key,
        salt,
        measurement_salt: Secret::new(measurement_salt.doing(salt_path.display())?.to_vec()),
    })
}

fn plain(master: &Secret) -> Result<Zeroizing<String>> {
    let text = std::str::from_utf8(master.expose()).map_err(Error::failure)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The same, with what `wrap` makes of the master secret in its place, which no file ever holds. That one everybody may
/// read: the account of the service does, and not as a credential.
#[cfg(feature = "kms")]
pub fn write_wrapped(
    directory: &Path,
    wrap: impl FnOnce(&Secret) -> Result<Zeroizing<String>>,
) -> Result<()> {
    let made = Paper::random()?;
    write_as(directory, (WRAPPED_FILE, Readers::Everybody), &made, wrap)
}

fn write_as(
    directory: &Path,
    (name, readers): (&str, Readers),
    secrets: &Paper,
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
    let master = make(&master(secrets)?)?;
    let salt = Zeroizing::new(hex::encode(secrets.measurement_salt.expose()));
    let text = Zeroizing::new(format!("{}\n", *salt));
    create(
        &directory.join(MEASUREMENT_SALT_FILE),
        &text,
        Readers::Owner,
    )?;
    create(&directory.join(name), &master, readers)
}

impl Paper {
    /// Those of a new fleet.
    fn random() -> Result<Self> {
        Ok(Self {
            key: Secret::random()?,
            salt: Secret::random()?,
            measurement_salt: Secret::random()?,
        })
    }
}

fn master(secrets: &Paper) -> Result<Secret> {
    let file = MasterFile {
        key: Base64::encode_string(secrets.key.expose()),
        salt: Base64::encode_string(secrets.salt.expose()),
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

    /// What is typed off the paper makes the same files, and nothing is replaced by it.
    #[test]
    fn a_fleets_secrets_come_back_from_paper() {
        let top = std::env::temp_dir().join(format!("nightlatch-paper-{}", std::process::id()));
        let (old, new) = (top.join("old"), top.join("new"));
        write(&old).unwrap();
        let text = read(&old).unwrap().text().unwrap();
        let typed = Paper::parse(&text).unwrap();
        write_from(&new, &typed).unwrap();
        for name in [MASTER_FILE, MEASUREMENT_SALT_FILE] {
            let read = |directory: &Path| fs::read_to_string(directory.join(name)).unwrap();
            assert_eq!(read(&new), read(&old));
            let mode = fs::metadata(new.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let error = write_from(&new, &typed).unwrap_err().to_string();
        assert!(error.contains("it is there already"), "{error}");
        fs::remove_file(new.join(MASTER_FILE)).unwrap();
        assert!(read(&new).is_err());
        fs::remove_dir_all(&top).unwrap();
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
