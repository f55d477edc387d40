// SPDX-License-Identifier: Apache-2.0
//! A volume's block device, opened once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag, PosixFadviseAdvice, posix_fadvise};
use nix::libc;
use nix::sys::stat::{major, minor};

use crate::error::{Doing, Error, Result};

/// A block device: its file stays open, so that all that is read and written goes to the same device.
#[derive(Debug)]
pub struct Device {
    file: File,
    /// Only a device that is being provisioned is written to. The lock keeps udev from probing it meanwhile (systemd,
    /// "Locking Block Device Access").
    writer: Option<Flock<File>>,
    path: PathBuf,
    number: u64,
    len_bytes: u64,
}

impl Device {
    /// Opens the block device at `path` for reading and makes sure that nobody else uses it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_canonical(path).doing(format_args!("opening {}", path.display()))
    }

    fn open_canonical(path: &Path) -> Result<Self> {
        // Links below /dev/disk are re-pointed by udev when the host renames a disk: follow them once.
        let path = fs::canonicalize(path).map_err(|error| unopened(&error))?;
        require_unused(&path)?;
        let mut file = File::open(&path).map_err(|error| unopened(&error))?;
        let metadata = file.metadata()?;
        if !metadata.file_type().is_block_device() {
            return Err(Error::refused(
                "not a block device; name the disk or partition itself",
            ));
        }
        let len_bytes = file.seek(SeekFrom::End(0))?;
        Ok(Self {
            file,
            writer: None,
            path,
            number: metadata.rdev(),
            len_bytes,
        })
    }

    /// The open file. It is used by reads at absolute offsets only.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Opens the same device for writing too, and locks it.
    pub fn lock_for_writing(&mut self) -> Result<()> {
        let writer = self.reopened(OpenOptions::new().write(true))?;
        let writer = Flock::lock(writer, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .doing("locking the device")?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Writes `bytes` at `offset` and waits until they are on the disk.
    pub fn write_durably(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let writer = self
            .writer
            .as_ref()
            .ok_or_else(|| Error::failure("the device is not open for writing"))?;
        writer.write_all_at(bytes, offset)?;
        Ok(writer.sync_all()?)
    }

    /// The same device past the kernel's memory of it: what is read once and never again would only be in the way there.
    /// Reads are of whole sectors into pages.
    pub fn uncached(&self) -> Result<File> {
        self.reopened(OpenOptions::new().read(true).custom_flags(libc::O_DIRECT))
            .map_err(|error| unopened(&error))
            .doing("opening the device past the cache")
    }

    /// What was written must come back, from the disk and not from the kernel's memory of it.
    pub fn require_written(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let signed = |number: u64| i64::try_from(number).map_err(Error::failure);
        let (at, len) = (signed(offset)?, signed(bytes.len() as u64)?);
        let dropped = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        posix_fadvise(&self.file, at, len, dropped).doing("dropping what is cached")?;
        let mut back = vec![0; bytes.len()];
        self.file.read_exact_at(&mut back, offset)?;
        if back == bytes {
            Ok(())
        } else {
            Err(Error::refused(
                "the disk does not give back what was written to it",
            ))
        }
    }

    fn reopened(&self, options: &OpenOptions) -> io::Result<File> {
        options.open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
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
        Err(error) => Err(unopened(&error)),
    }
}

fn unopened(error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENOMEDIUM) => Error::unavailable(
            "the device has not appeared; attach the disk, or correct `device` in the configuration",
        ),
        Some(libc::EIO) => Error::refused(error),
        _ => Error::failure(error),
    }
}
