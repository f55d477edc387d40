// SPDX-License-Identifier: Apache-2.0
//! Level `checkpoint`: a btrfs file system that is older than the TPM remembers is not written to.
//!
//! Every block of a btrfs tree names the generation its parent expects, and data is checksummed in a tree. So all of it is
//! as fresh as the superblock is, and the superblock is one sector that the host can put back. Its generation goes to the
//! TPM, once the transaction is durable and not before: a crash leaves the disk ahead of the TPM, never behind.
//!
//! At boot the superblock is read once, by a mount that does not write. The kernel keeps it while the file system stays
//! mounted, so that mount is let go of only after systemd has mounted the volume as well: whoever put another superblock on
//! the disk in between has put it where nobody looks.
//!
//! The log tree has to be off (`notreelog`): `fsync` changes it without a new generation, so what was synced could be dropped
//! unnoticed. A superblock that has one all the same would be replayed by that mount, even by a read-only one, which makes
//! a new generation. `rescue=nologreplay` would prevent it, but a mount with it can never be made writable (Linux 6.12,
//! `fs/btrfs/super.c`, `btrfs_check_options`). So it is looked for before, and that nothing was committed is read from the kernel
//! after.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use log::warn;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::anchor::judge;
use crate::anchor::record::Checkpoint;
use crate::config::NO_LOG;
use crate::error::{Doing, Error, Result};
use crate::mounted;

/// Below which directory a file system is held.
const HELD: &str = "/run/nightlatch/held";

/// Where the superblock is, and its field `log_root` within it (Linux, `include/uapi/linux/btrfs_tree.h`).
const SUPERBLOCK_OFFSET: u64 = 64 << 10;
const LOG_ROOT: u64 = 0x60;

/// A file system that stays mounted, out of everybody's way, until this is dropped.
#[derive(Debug)]
pub struct PinnedMount {
    target: PathBuf,
    seen: Checkpoint,
}

impl PinnedMount {
    /// Mounts what is on `mapping` without writing a byte to it, and reads its generation from the kernel's memory.
    pub fn mount(mapping: &Path, name: &str) -> Result<Self> {
        require_no_log(mapping)?;
        let target = Path::new(HELD).join(name);
        fs::create_dir_all(&target).doing(target.display())?;
        let flags = flags() | MsFlags::MS_RDONLY;
        mount(Some(mapping), &target, Some("btrfs"), flags, Some(NO_LOG))
            .map_err(|errno| unreadable(errno.into()))
            .doing("mounting it to look at")?;
        // From here on it is unmounted on every way out.
        let mut pinned = Self {
            target,
            seen: Checkpoint::default(),
        };
        mounted::only_device(&pinned.target, &mounted::number(mapping)?)?;
        pinned.seen = state(&pinned.target).doing("reading its generation")?;
        require_own_id(&pinned.seen)?;
        require_no_commit(&pinned.seen)?;
        Ok(pinned)
    }

    /// Compares it with the last checkpoint. What is ahead of it was written after it, before a crash.
    pub fn compare(&self, anchored: Option<&Checkpoint>) -> Result<()> {
        judge::freshness(anchored, &self.seen)
    }

    /// What was on the disk.
    #[must_use]
    pub fn seen(&self) -> Checkpoint {
        self.seen
    }

    /// Lets writes through.
    pub fn allow_writes(&self) -> Result<()> {
        let flags = flags() | MsFlags::MS_REMOUNT;
        mount(
            None::<&Path>,
            &self.target,
            None::<&str>,
            flags,
            Some(NO_LOG),
        )
        .doing("making it writable")
    }
}

impl Drop for PinnedMount {
    fn drop(&mut self) {
        if let Err(errno) = umount2(&self.target, MntFlags::MNT_DETACH) {
            warn!("letting go of {}: {}", self.target.display(), errno.desc());
        }
    }
}

/// Refuses a file system whose log tree a mount would replay.
fn require_no_log(mapping: &Path) -> Result<()> {
    let mut log_root = [0; 8];
    File::open(mapping)
        .and_then(|file| {
            file.read_exact_at(&mut log_root, SUPERBLOCK_OFFSET.saturating_add(LOG_ROOT))
        })
        .map_err(unreadable)
        .doing("looking for a log tree")?;
    if log_root == [0; 8] {
        Ok(())
    } else {
        Err(log_tree())
    }
}

/// Refuses a file system that the kernel gave another identifier, since that is not the one the TPM remembers.
fn require_own_id(seen: &Checkpoint) -> Result<()> {
    if !mounted::has_temporary_id(uuid::Uuid::from_bytes(seen.fsid))? {
        return Ok(());
    }
    Err(Error::refused(
        "another disk has the identifier of this file system, so the kernel gave the mount a temporary one: detach the \
         disks that are not this machine's",
    ))
}

/// Refuses a file system that the kernel has changed since it was mounted, by its own count of commits.
fn require_no_commit(seen: &Checkpoint) -> Result<()> {
    let id = uuid::Uuid::from_bytes(seen.fsid);
    let path = format!("/sys/fs/btrfs/{id}/commit_stats");
    let text = fs::read_to_string(&path).doing(&path)?;
    let commits = text.lines().find_map(|line| line.strip_prefix("commits "));
    match commits.map(str::trim) {
        Some("0") => Ok(()),
        Some(_) => Err(log_tree()),
        None => Err(Error::failure(format_args!(
            "{path} has no number of commits"
        ))),
    }
}

/// What is wrong with the bytes of a volume is wrong with the disk: no tag fits, or no file system is there.
fn unreadable(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EIO | libc::EILSEQ | libc::EUCLEAN | libc::EINVAL) => {
            Error::refused(format_args!("the file system cannot be read: {error}"))
        }
        _ => error.into(),
    }
}

fn log_tree() -> Error {
    Error::refused(format_args!(
        "the file system has a log tree, so it was last mounted without {NO_LOG}, or put back to a time when it was: \
         open it once with level \"epoch\" and {NO_LOG}, and unmount it"
    ))
}

/// What is durable of the file system that `path` is on, after everything written so far is.
///
/// It is the transaction that was waited for, not the file system's own number: while it is in use that one is of a
/// transaction that may never become durable.
pub fn durable(path: &Path) -> Result<Checkpoint> {
    let directory = File::open(path)?;
    let generation = btrfs_uapi::filesystem::start_sync(directory.as_fd())?;
    btrfs_uapi::filesystem::wait_sync(directory.as_fd(), generation)?;
    Ok(Checkpoint {
        generation,
        ..state(path)?
    })
}

/// Id and generation of the file system that `path` is on, from the kernel's memory.
fn state(path: &Path) -> Result<Checkpoint> {
    let directory = File::open(path)?;
    let info = btrfs_uapi::filesystem::filesystem_info(directory.as_fd())?;
    Ok(Checkpoint {
        fsid: info.uuid.into_bytes(),
        generation: info.generation,
    })
}

fn flags() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}
