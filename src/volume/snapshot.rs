// SPDX-License-Identifier: Apache-2.0
//! A disk that is written to in memory only: device-mapper's snapshot over it, whose exceptions are kept in this machine's
//! memory and nowhere else.
//!
//! The kernel opens the disk for reading alone (Linux, `drivers/md/dm-snap.c`, `snapshot_ctr`). What is written on top goes to
//! a loop device over a sealed memory file, which goes away with the snapshot. It lies below the encryption, so there is
//! ciphertext in it. Where it is full, the kernel gives the snapshot up: all that is read or written fails from then on.
//!
//! **Never:** a byte written to the disk below.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use devicemapper::{DM, DevId, DmFlags, DmName, DmOptions, DmUuid};
use log::warn;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{major, minor};

use super::Device;
use super::table::SECTOR_LEN;
use crate::error::{Doing, Error, Result};

/// What is copied at once, in sectors: a block of dm-integrity and of the kernel's memory.
const CHUNK_SECTORS: u64 = 8;

/// What the device-mapper UUID of every snapshot of ours begins with.
const UUID_PREFIX: &str = "NIGHTLATCH-RESCUE-";

/// How much of the memory of a snapshot is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Usage {
    /// So many bytes were written.
    Used(u64),
    /// All of it, and more was written: the snapshot is given up.
    Full,
}

/// A snapshot. It is removed when this is dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct Snapshot {
    name: String,
    /// `major:minor`.
    number: String,
    path: PathBuf,
    is_kept: bool,
}

impl Snapshot {
    /// Makes the snapshot `name` over `disk`, for the volume `uuid`, with so much memory.
    pub(super) fn over(disk: &Device, name: &str, uuid: &str, memory_bytes: u64) -> Result<Self> {
        Self::make(disk, name, uuid, memory_bytes)
            .doing(format_args!("making the snapshot {name} in memory"))
    }

    fn make(disk: &Device, name: &str, uuid: &str, memory_bytes: u64) -> Result<Self> {
        let store = LoopDevice::in_memory(memory_bytes)?;
        let table = (
            0,
            disk.len_bytes() / SECTOR_LEN,
            "snapshot".to_owned(),
            format!("{} {} N {CHUNK_SECTORS}", disk.number(), store.number()?),
        );
        let dm = DM::new()?;
        let uuid = format!("{UUID_PREFIX}{uuid}");
        // Nobody is to look for a volume in it: udev would link it in the place of the disk.
        let options = DmOptions::private();
        let made = dm.device_create(DmName::new(name)?, Some(DmUuid::new(&uuid)?), options);
        let made = made.map_err(|error| {
            Error::refused(format_args!(
                "{}; is the volume, or a copy of it, open already?",
                Error::from(error)
            ))
        })?;
        let number = made.device();
        let snapshot = Self {
            name: name.to_owned(),
            number: format!("{}:{}", number.major, number.minor),
            path: PathBuf::from(format!("/dev/dm-{}", number.minor)),
            is_kept: false,
        };
        let id = DevId::Name(DmName::new(name)?);
        dm.table_load(&id, &[table], DmOptions::default())?;
        dm.device_suspend(&id, options)?;
        snapshot.require_node()?;
        Ok(snapshot)
    }

    /// The kernel's own name of the device has to lead to it: libcryptsetup takes a path.
    fn require_node(&self) -> Result<()> {
        let found = fs::metadata(&self.path).doing(self.path.display())?;
        if found.file_type().is_block_device() && number_of(found.rdev()) == self.number {
            return Ok(());
        }
        Err(Error::failure(format_args!(
            "{} is not the device that was made",
            self.path.display()
        )))
    }

    /// Its device node.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `major:minor`.
    pub(super) fn number(&self) -> String {
        self.number.clone()
    }

    /// It stays when this program ends.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = remove(&self.name) {
            warn!("removing the snapshot {}: {error}", self.name);
        }
    }
}

/// How much memory a snapshot uses; nothing where there is none of this name.
pub(super) fn usage(name: &str) -> Result<Option<Usage>> {
    let dm = DM::new()?;
    let wanted = DmName::new(name)?;
    let devices = dm.list_devices()?;
    if !devices.iter().any(|(found, _, _)| **found == *wanted) {
        return Ok(None);
    }
    let (info, status) = dm.table_status(&DevId::Name(wanted), DmOptions::default())?;
    let is_ours = info
        .uuid()
        .is_some_and(|uuid| uuid.to_string().starts_with(UUID_PREFIX));
    match status.as_slice() {
        [(_, _, kind, status)] if is_ours && kind == "snapshot" => parse(status).map(Some),
        _ => Err(Error::refused(format_args!(
            "{name} is a mapping of something else"
        ))),
    }
}

/// Removes a snapshot of this name; its memory goes with it.
pub(super) fn remove(name: &str) -> Result<()> {
    // udev may be looking at it.
    let deferred = DmOptions::default().set_flags(DmFlags::DM_DEFERRED_REMOVE);
    let id = DevId::Name(DmName::new(name)?);
    DM::new()?.device_remove(&id, deferred)?;
    Ok(())
}

/// `<allocated>/<total> <metadata>` in sectors, or a word for one that was given up (kernel documentation,
/// device-mapper/snapshot).
fn parse(status: &str) -> Result<Usage> {
    let words = status.trim();
    if matches!(words, "Invalid" | "Overflow") {
        return Ok(Usage::Full);
    }
    let sectors = words.split_once('/');
    let sectors = sectors.and_then(|(used, _)| used.parse::<u64>().ok());
    let used = sectors.map(|sectors| Usage::Used(sectors.saturating_mul(SECTOR_LEN)));
    used.ok_or_else(|| Error::failure(format_args!("the state of the snapshot is {words:?}")))
}

fn number_of(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

/// A loop device, which goes away with its last user once this is dropped.
struct LoopDevice(PathBuf);

impl LoopDevice {
    /// Over memory that nobody else can reach, and whose length nobody can change.
    fn in_memory(len_bytes: u64) -> Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let memory: OwnedFd = memfd_create(c"snapshot", flags).doing("allocating memory")?;
        let memory = File::from(memory);
        memory.set_len(len_bytes).doing("allocating memory")?;
        let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals)).doing("sealing memory")?;
        // The program has the file as its standard input, and takes it by that name.
        let said = losetup(
            &["--find", "--show", "/proc/self/fd/0"],
            Stdio::from(memory),
        )?;
        Ok(Self(PathBuf::from(said.trim_end())))
    }

    fn number(&self) -> Result<String> {
        let found = fs::metadata(&self.0).doing(self.0.display())?;
        Ok(number_of(found.rdev()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let device = self.0.display().to_string();
        // The kernel keeps a device that is used until it is not (Linux, `drivers/block/loop.c`, `LO_FLAGS_AUTOCLEAR`).
        if let Err(error) = losetup(&["--detach", &device], Stdio::null()) {
            warn!("{error}");
        }
    }
}

/// Runs losetup(8): what it does takes ioctls that only `unsafe` code can make.
fn losetup(arguments: &[&str], input: Stdio) -> Result<String> {
    let output = Command::new("losetup")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(input)
        .output()
        .map_err(|error| {
            Error::unavailable(format_args!("losetup: {error}; install util-linux"))
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::failure(format_args!(
        "losetup: {}: {}",
        output.status,
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_snapshot_is_read_and_a_foreign_word_is_an_error() {
        for (status, expected) in [
            ("0/524288 0", Usage::Used(0)),
            ("2048/524288 0", Usage::Used(1 << 20)),
            ("Invalid", Usage::Full),
            ("Overflow", Usage::Full),
        ] {
            assert_eq!(parse(status).unwrap(), expected, "{status}");
        }
        for status in ["", "Unknown", "Merge failed", "/5 0", "12 0", "-1/5 0"] {
            assert!(parse(status).is_err(), "{status}");
        }
    }
}
