// SPDX-License-Identifier: Apache-2.0
//! Where secrets are: the master secret, the salt of measurements, and what a KMS is shown.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{MASTER_FILE, MEASUREMENT_SALT_FILE};
use crate::error::{Doing, Error, Result};
use crate::key::KEY_LEN;

/// Where systemd puts credentials (systemd.exec(5), "Credentials").
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The longest secret that is read, in bytes. A token or a private key has a few thousand.
const SECRET_LEN_MAX: usize = 64 << 10;

/// What keys are derived from.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecretFrom {
    /// The master secret and its salt, as `nightlatchd init` writes them.
    pub master: MasterSource,
    /// The salt of measurements, 32 bytes in hexadecimal digits.
    pub measurement_salt: SecretSource,
    /// Which master secret it has to be, whatever the store has seen.
    pub check_value: Option<CheckValue>,
}

impl Default for SecretFrom {
    fn default() -> Self {
        let file = |name| SecretSource::File(PathBuf::from("/etc/nightlatch").join(name));
        Self {
            master: MasterSource::Plain(file(MASTER_FILE)),
            measurement_salt: file(MEASUREMENT_SALT_FILE),
            check_value: None,
        }
    }
}

/// What a master secret is recognised by: 32 bytes, shown as hexadecimal digits. It is public.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct CheckValue([u8; KEY_LEN]);

impl CheckValue {
    /// That of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for CheckValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl TryFrom<String> for CheckValue {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let mut bytes = [0; KEY_LEN];
        hex::decode_to_slice(&text, &mut bytes).map_err(|error| {
            format!("expected the 64 hexadecimal digits of a check value: {error}")
        })?;
        Ok(Self(bytes))
    }
}

/// Where the master secret is read from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum MasterSource {
    /// As it is.
    Plain(SecretSource),
    /// `wrapped:PATH`: in a file that the KMS of the table `[kms]` unwraps.
    Wrapped(PathBuf),
}

impl TryFrom<String> for MasterSource {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            Some(("wrapped", path)) if Path::new(path).is_absolute() => {
                Ok(Self::Wrapped(path.into()))
            }
            _ => SecretSource::parse(&text).map(Self::Plain).ok_or_else(|| {
                format!(
                    "expected \"file:\" and an absolute path, \"credential:\" and a name, or \"wrapped:\" and an \
                     absolute path, found {text:?}"
                )
            }),
        }
    }
}

/// Where a secret is read from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum SecretSource {
    /// `file:PATH`.
    File(PathBuf),
    /// `credential:NAME`, which systemd hands to the service.
    Credential(String),
}

impl SecretSource {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("file", path) if Path::new(path).is_absolute() => Some(Self::File(path.into())),
            ("credential", name) if is_credential(name) => Some(Self::Credential(name.into())),
            _ => None,
        }
    }

    /// The file it is in now.
    pub fn path(&self) -> Result<PathBuf> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Credential(name) => std::env::var_os(CREDENTIALS)
                .map(|directory| PathBuf::from(directory).join(name))
                .ok_or_else(|| {
                    Error::config(format_args!(
                        "credential {name}: systemd handed over none: \
                         set LoadCredential= or LoadCredentialEncrypted= in the unit"
                    ))
                }),
        }
    }

    /// Its text, which only its owner may have. `missing` is what to do about a file that is not there.
    pub(in crate::keyservice) fn read(&self, missing: &str) -> Result<Zeroizing<String>> {
        self.read_if_there()?.ok_or_else(|| {
            let path = self.path().unwrap_or_default();
            Error::config(format_args!("{}: it is not there{missing}", path.display()))
        })
    }

    /// The same; nothing where the file is not there. It is opened once, so what is looked at is what is read.
    pub(in crate::keyservice) fn read_if_there(&self) -> Result<Option<Zeroizing<String>>> {
        let path = self.path()?;
        // Nobody is at the other end of a pipe, and waiting for him would have no end.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::config(error)).doing(path.display()),
        };
        self.read_private(file).map(Some).doing(path.display())
    }

    /// A file that others may read is no secret. A credential is systemd's to protect.
    fn read_private(&self, file: File) -> Result<Zeroizing<String>> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Error::config("expected a regular file"));
        }
        let mode = metadata.permissions().mode();
        match self {
            Self::File(_) if mode & 0o007 != 0 => {
                return Err(Error::config(format_args!(
                    "everybody may read it (mode {:o}): chmod 0600",
                    mode & 0o777
                )));
            }
            Self::File(_) | Self::Credential(_) => {}
        }
        // As long as any, so that no part of it is left where it grew from.
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_LEN_MAX.saturating_add(1)));
        let limit = u64::try_from(SECRET_LEN_MAX).unwrap_or(u64::MAX);
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() > SECRET_LEN_MAX {
            return Err(Error::config(format_args!(
                "expected at most {SECRET_LEN_MAX} bytes"
            )));
        }
        let text = std::str::from_utf8(&bytes).map_err(Error::config)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

impl TryFrom<String> for SecretSource {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        Self::parse(&text).ok_or_else(|| {
            format!(
                "expected \"file:\" and an absolute path or \"credential:\" and a name, found {text:?}"
            )
        })
    }
}

fn is_credential(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_or_a_credential() {
        let source = |text: &str| SecretSource::try_from(text.to_owned());
        assert_eq!(source("file:/a/b"), Ok(SecretSource::File("/a/b".into())));
        assert_eq!(
            source("credential:master"),
            Ok(SecretSource::Credential("master".into()))
        );
        for wrong in [
            "",
            "/a/b",
            "file:a",
            "credential:",
            "credential:a/b",
            "wrapped:/a",
        ] {
            source(wrong).unwrap_err();
        }
    }

    #[test]
    fn what_is_read_is_a_private_file_and_waits_for_nobody() {
        let name = format!("nightlatch-secret-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("secret");
        let source = SecretSource::File(path.clone());
        let told = || source.read(": make it").unwrap_err().to_string();
        assert!(source.read_if_there().unwrap().is_none());
        assert!(told().ends_with("it is not there: make it"), "{}", told());
        let write = |len: usize| {
            std::fs::write(&path, "x".repeat(len)).unwrap();
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, private).unwrap();
        };
        write(SECRET_LEN_MAX);
        assert_eq!(source.read("").unwrap().len(), SECRET_LEN_MAX);
        write(SECRET_LEN_MAX + 1);
        assert!(told().contains("expected at most"), "{}", told());
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(told().contains("expected a regular file"), "{}", told());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_check_value_is_32_bytes_in_digits() {
        let digits = "0a".repeat(KEY_LEN);
        let value = CheckValue::try_from(digits.clone()).unwrap();
        assert_eq!(value, CheckValue::new([10; KEY_LEN]));
        assert_eq!(value.to_string(), digits);
        for wrong in ["", "0a", &"0g".repeat(KEY_LEN), &"0a".repeat(KEY_LEN + 1)] {
            CheckValue::try_from(wrong.to_owned()).unwrap_err();
        }
    }

    #[test]
    fn the_master_secret_may_be_wrapped() {
        let source = |text: &str| MasterSource::try_from(text.to_owned());
        assert_eq!(
            source("wrapped:/a/b"),
            Ok(MasterSource::Wrapped("/a/b".into()))
        );
        let plain = SecretSource::File("/a/b".into());
        assert_eq!(source("file:/a/b"), Ok(MasterSource::Plain(plain)));
        for wrong in ["wrapped:a", "wrapped:", "/a", "kms:/a"] {
            source(wrong).unwrap_err();
        }
    }
}
