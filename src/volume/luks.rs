// SPDX-License-Identifier: Apache-2.0
//! The only user of libcryptsetup.
//!
//! libcryptsetup sees a header in private memory, never the one on the disk: what was checked is what is used, and
//! nothing it decides to repair or rewrite reaches the disk.

use std::io::ErrorKind;
use std::path::Path;

use libcryptsetup_rs::consts::flags::{CryptActivate, CryptDeactivate, CryptPbkdf, CryptVolumeKey};
use libcryptsetup_rs::consts::vals::{CryptKdf, EncryptionFormat};
use libcryptsetup_rs::{
    CryptDevice, CryptInit, CryptParamsLuks2, CryptParamsLuks2Ref, CryptPbkdfType, Either,
    LibcryptErr, TokenInput,
};
use uuid::Uuid;

use super::HeaderFile;
use super::table::SECTOR_LEN;
use crate::config::Kdf;
use crate::error::{Doing, Error, Result};
use crate::header::DATA_OFFSET;
use crate::key::{Secret, fill_random};

/// Length in bytes of a volume key: 64 for AES-256-XTS, 32 for HMAC-SHA256.
pub(super) const VOLUME_KEY_LEN: usize = 96;

/// Most tokens a header has (`LUKS2_TOKENS_MAX`).
const TOKENS_MAX: u32 = 32;

/// A token of one keyslot.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyslotToken {
    /// Its type.
    pub(super) kind: &'static str,
    /// The keyslot.
    pub(super) keyslot: u8,
}

/// What distinguishes one new volume from another.
#[derive(Debug)]
pub(super) struct LuksLabels<'a> {
    /// The LUKS label.
    pub(super) label: &'a str,
    /// The LUKS subsystem.
    pub(super) subsystem: &'a str,
    /// The LUKS UUID.
    pub(super) uuid: Uuid,
}

/// A LUKS2 device: header in memory, data on the disk. Not `Send`; each thread loads its own.
pub(super) struct Luks(CryptDevice);

impl std::fmt::Debug for Luks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Luks(..)")
    }
}

/// A fresh 96-byte volume key, drawn for this volume only.
pub(super) fn new_volume_key() -> Result<Secret> {
    let mut key = vec![0; VOLUME_KEY_LEN];
    fill_random(&mut key)?;
    Ok(Secret::new(key))
}

impl Luks {
    /// Loads a header that has been checked.
    pub(super) fn load(header: &HeaderFile, disk: &Path) -> Result<Self> {
        let path = header.path();
        let paths = Either::Right((path.as_path(), disk));
        let mut device =
            CryptInit::init_with_data_device(paths).doing("preparing libcryptsetup")?;
        // Locks would go to /run/cryptsetup; with them off, libcryptsetup does not repair copies either.
        device
            .settings_handle()
            .metadata_locking(false)
            .doing("turning metadata locks off")?;
        device
            .context_handle()
            .load::<CryptParamsLuks2Ref<'_>>(Some(EncryptionFormat::Luks2), None)
            .doing("loading the header copy")?;
        Ok(Self(device))
    }

    /// Formats `header` for `disk` and writes dm-integrity's superblock on the disk; the header itself stays in memory.
    pub(super) fn format(
        header: &HeaderFile,
        disk: &Path,
        labels: &LuksLabels<'_>,
        volume_key: &Secret,
    ) -> Result<Self> {
        let mut device = CryptInit::init(&header.path()).doing("preparing libcryptsetup")?;
        device
            .settings_handle()
            .metadata_locking(false)
            .doing("turning metadata locks off")?;
        device
            .set_data_offset(DATA_OFFSET / SECTOR_LEN)
            .doing("placing the data")?;
        let params = CryptParamsLuks2 {
            pbkdf: Some(pbkdf2()),
            integrity: Some("hmac(sha256)".into()),
            integrity_params: None,
            data_alignment: 0,
            data_device: Some(disk.to_owned()),
            sector_size: 4096,
            label: Some(labels.label.into()),
            subsystem: Some(labels.subsystem.into()),
        };
        let mut params: CryptParamsLuks2Ref<'_> = (&params).try_into()?;
        device
            .context_handle()
            .format(
                EncryptionFormat::Luks2,
                ("aes", "xts-plain64"),
                Some(labels.uuid),
                Either::Left(volume_key.expose()),
                Some(&mut params),
            )
            .doing("formatting the header copy")?;
        Ok(Self(device))
    }

    /// Puts the volume key into keyslot `slot`, wrapped by `passphrase`.
    pub(super) fn add_keyslot(
        &mut self,
        slot: u8,
        kdf: Kdf,
        passphrase: &[u8],
        volume_key: &Secret,
    ) -> Result<()> {
        let kdf = match kdf {
            Kdf::Argon2id => argon2id(),
            Kdf::Pbkdf2 => pbkdf2(),
        };
        self.0
            .settings_handle()
            .set_pbkdf_type(&kdf)
            .doing("choosing the key derivation")?;
        // The area's cipher stays the library's default, aes-xts-plain64 with 64 bytes: it refuses to be told one for a
        // volume with integrity. The header check sees to it that it is that one.
        self.0
            .keyslot_handle()
            .add_by_key(
                Some(slot.into()),
                Some(Either::Left(volume_key.expose())),
                passphrase,
                CryptVolumeKey::empty(),
            )
            .doing(format_args!("filling keyslot {slot}"))?;
        Ok(())
    }

    /// Adds a token.
    pub(super) fn add_token(&mut self, json: &serde_json::Value) -> Result<()> {
        self.0
            .token_handle()
            .json_set(TokenInput::AddToken(json))
            .doing("adding a token")?;
        Ok(())
    }

    /// Takes the token of type `kind` out and puts this one in its place.
    pub(super) fn replace_token(&mut self, kind: &str, json: &serde_json::Value) -> Result<()> {
        let id = (0..TOKENS_MAX)
            .find(|id| {
                let token = self.0.token_handle().json_get(*id);
                token.is_ok_and(|token| token.get("type").is_some_and(|it| it == kind))
            })
            .ok_or_else(|| Error::failure(format_args!("there is no token {kind}")))?;
        self.0
            .token_handle()
            .json_set(TokenInput::ReplaceToken(id, json))
            .doing("replacing a token")?;
        Ok(())
    }

    /// Takes out the token of this type for this keyslot.
    pub(super) fn remove_token(&mut self, which: KeyslotToken) -> Result<()> {
        let KeyslotToken { kind, keyslot } = which;
        let keyslots = serde_json::json!([keyslot.to_string()]);
        let is_it = |token: serde_json::Value| {
            token.get("type").is_some_and(|it| it == kind)
                && token.get("keyslots").is_some_and(|it| *it == keyslots)
        };
        let id = (0..TOKENS_MAX)
            .find(|id| self.0.token_handle().json_get(*id).is_ok_and(is_it))
            .ok_or_else(|| {
                Error::failure(format_args!(
                    "there is no token {kind} for keyslot {keyslot}"
                ))
            })?;
        self.0
            .token_handle()
            .json_set(TokenInput::RemoveToken(id))
            .doing("removing a token")?;
        Ok(())
    }

    /// Empties keyslot `slot`.
    pub(super) fn destroy_keyslot(&mut self, slot: u8) -> Result<()> {
        self.0
            .keyslot_handle()
            .destroy(slot.into())
            .doing(format_args!("emptying keyslot {slot}"))
    }

    /// The volume key from keyslot `slot`, without activating anything. A passphrase that does not open it is refused.
    pub(super) fn volume_key(&mut self, slot: u8, passphrase: &[u8]) -> Result<Secret> {
        let mut key = zeroize::Zeroizing::new(vec![0; VOLUME_KEY_LEN]);
        let (_, len) = self
            .0
            .volume_key_handle()
            .get(Some(slot.into()), &mut key, Some(passphrase))
            .map_err(wrong_key)
            .doing(format_args!("opening keyslot {slot}"))?;
        if len == VOLUME_KEY_LEN {
            Ok(Secret::new(std::mem::take(&mut *key)))
        } else {
            Err(Error::refused(format_args!(
                "the volume key has {len} bytes instead of {VOLUME_KEY_LEN}"
            )))
        }
    }

    /// Maps the volume as `/dev/mapper/<name>`, with flags from the code and none from the header.
    pub(super) fn activate(
        &mut self,
        name: &str,
        volume_key: &Secret,
        journal: Journal,
    ) -> Result<()> {
        let mut flags = CryptActivate::IGNORE_PERSISTENT;
        if journal == Journal::Off {
            flags |= CryptActivate::NO_JOURNAL;
        }
        self.0
            .activate_handle()
            .activate_by_volume_key(Some(name), Some(volume_key.expose()), flags)
            .map_err(unfit)
    }

    /// A mapping that exists, to remove it.
    pub(super) fn of_mapping(name: &str) -> Result<Self> {
        CryptInit::init_by_name_and_header(name, None)
            .map(Self)
            .doing(format_args!("looking at mapping {name}"))
    }

    /// Removes the mapping `name`, even if udev is looking at it.
    pub(super) fn deactivate(&mut self, name: &str) -> Result<()> {
        self.0
            .activate_handle()
            .deactivate(name, CryptDeactivate::FORCE)
            .doing(format_args!("removing mapping {name}"))
    }

    /// Removes the mapping `name` unless something uses it.
    pub(super) fn deactivate_unused(&mut self, name: &str) -> Result<()> {
        self.0
            .activate_handle()
            .deactivate(name, CryptDeactivate::empty())
            .map_err(in_use)
            .doing(format_args!("removing mapping {name}"))
    }
}

/// Whether dm-integrity journals data with its tags. Off only while every sector is being overwritten anyway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Journal {
    /// As volumes are used.
    On,
    /// For a full wipe.
    Off,
}

/// 4 passes, 64 MiB, 4 lanes. libcryptsetup takes the passes only with `NO_BENCHMARK`, refuses fewer than 4, and cuts the
/// lanes to the processors online (`lib/utils_pbkdf.c`, `init_pbkdf_type`).
fn argon2id() -> CryptPbkdfType {
    CryptPbkdfType {
        type_: CryptKdf::Argon2Id,
        hash: None,
        time_ms: 0,
        iterations: 4,
        max_memory_kb: 64 << 10,
        parallel_threads: 4,
        flags: CryptPbkdf::NO_BENCHMARK,
    }
}

/// 1000 iterations of SHA-512, as systemd-cryptenroll gives to slots whose passphrase is 256 random bits.
fn pbkdf2() -> CryptPbkdfType {
    CryptPbkdfType {
        type_: CryptKdf::Pbkdf2,
        hash: Some("sha512".into()),
        time_ms: 0,
        iterations: 1000,
        max_memory_kb: 0,
        parallel_threads: 0,
        flags: CryptPbkdf::NO_BENCHMARK,
    }
}

/// What is wrong with the parameters, all of which were checked, can only be wrong with what was read again: the superblock of
/// dm-integrity. And what is in use now was not when the disk was examined.
fn unfit(error: LibcryptErr) -> Error {
    let LibcryptErr::IOError(io) = &error else {
        return error.into();
    };
    if io.kind() == ErrorKind::InvalidInput {
        Error::refused(
            "rule E21: the superblock of dm-integrity is not what it was when it was checked",
        )
    } else if io.kind() == ErrorKind::ResourceBusy {
        Error::refused("the disk, or what is mapped on it, is in use by something else")
    } else {
        error.into()
    }
}

fn in_use(error: LibcryptErr) -> Error {
    if let LibcryptErr::IOError(io) = &error
        && io.kind() == ErrorKind::ResourceBusy
    {
        return Error::refused("it is in use: unmount what is mounted from it");
    }
    error.into()
}

fn wrong_key(error: LibcryptErr) -> Error {
    if let LibcryptErr::IOError(io) = &error
        && io.kind() == ErrorKind::PermissionDenied
    {
        return Error::refused("the secret does not open it");
    }
    error.into()
}

impl From<LibcryptErr> for Error {
    fn from(error: LibcryptErr) -> Self {
        Self::failure(format_args!("libcryptsetup: {error}"))
    }
}
