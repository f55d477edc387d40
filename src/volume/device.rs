// SPDX-License-Identifier: Apache-2.0
//! A volume's block device, opened once.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};

use crate::error::{Doing, Error, Result};

/// A block device: its file stays open, so that all that is read and written goes to the same device.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
    number: u64,
    len_bytes: u64,
}

impl Device {
    /// Opens the block device at `path` and makes sure that nobody else uses it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_canonical(path).doing(format_args!("opening {}", path.display()))
    }

    fn open_canonical(path: &Path) -> Result<Self> {
        // Links below /dev/disk are re-pointed by udev when the host renames a disk: follow them once.
        let path = fs::canonicalize(path).map_err(|error| missing_or(&error))?;
        require_unused(&path)?;
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        let metadata = file.metadata()?;
        if !metadata.file_type().is_block_device() {
            return Err(Error::refused(
                "not a block device; name the disk or partition itself",
            ));
        }
        let len_bytes = file.seek(SeekFrom::End(0))?;
        Ok(Self {
            file,
            path,
            number: metadata.rdev(),
            len_bytes,
        })
    }

    /// The open file. It is shared by reads at absolute offsets only.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The device node behind all links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `major:minor`, as device-mapper tables name it.
    #[must_use]
    pub fn number(&self) -> String {
        format!("{}:{}", major(self.number), minor(self.number))
    }

    /// The device's size in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The node must still be the device that was opened: libcryptsetup opens it again by its path.
    pub fn require_same(&self) -> Result<()> {
        let now = fs::metadata(&self.path)?;
        if now.file_type().is_block_device() && now.rdev() == self.number {
            Ok(())
        } else {
            Err(Error::refused(format_args!(
                "{} is another device than before",
                self.path.display()
            )))
        }
    }
}

/// An exclusive open fails while a mapping, a mount or a swap holds the device.
fn require_unused(path: &Path) -> Result<()> {
    let exclusive = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_EXCL.bits())
        .open(path);
    match exclusive {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Err(Error::refused(
            "in use by a mapping, a mount or a swap; is the volume open already?",
        )),
        Err(error) => Err(missing_or(&error)),
    }
}

fn missing_or(error: &std::io::Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        Error::unavailable(
            "the device has not appeared; attach the disk, or correct `device` in the configuration",
        )
    } else {
        Error::failure(error)
    }
}
