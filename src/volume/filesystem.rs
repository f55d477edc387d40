// SPDX-License-Identifier: Apache-2.0
//! A file system on a volume whose sectors were never written.
//!
//! A sector that was never written has no valid tag and reads as an error. So the regions that probing reads are written
//! first, and each mkfs gets the options with which it reads only what it wrote.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount, umount};
use nix::unistd::syncfs;

use crate::config::FileSystem;
use crate::error::{Doing, Error, Result};
use crate::header::{PROBE_HEAD_LEN, PROBE_TAIL_LEN};

/// How much is written at once.
const BLOCK_LEN: usize = 1 << 20;

/// Writes zeros to the regions that probing reads.
pub(super) fn wipe_edges(mapping: &Path) -> Result<()> {
    let (mut file, len) = open(mapping)?;
    zero(&mut file, 0, PROBE_HEAD_LEN.min(len), &mut |_| {})?;
    let tail = PROBE_TAIL_LEN.min(len);
    zero(&mut file, len.saturating_sub(tail), tail, &mut |_| {})?;
    Ok(file.sync_all()?)
}

/// Writes zeros everywhere, and tells `progress` how many per cent are done each time that number grows.
pub(super) fn wipe_full(mapping: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let (mut file, len) = open(mapping)?;
    let mut shown = None;
    zero(&mut file, 0, len, &mut |done| {
        let percent = done.saturating_mul(100).checked_div(len).unwrap_or(100);
        if shown != Some(percent) {
            shown = Some(percent);
            progress(percent);
        }
    })?;
    Ok(file.sync_all()?)
}

fn open(mapping: &Path) -> Result<(File, u64)> {
    let mut file = OpenOptions::new().write(true).open(mapping)?;
    let len = file.seek(SeekFrom::End(0))?;
    Ok((file, len))
}

fn zero(file: &mut File, start: u64, len: u64, done: &mut dyn FnMut(u64)) -> Result<()> {
    let zeros = vec![0; BLOCK_LEN];
    file.seek(SeekFrom::Start(start))?;
    let mut written: u64 = 0;
    while written < len {
        let left = usize::try_from(len.saturating_sub(written)).unwrap_or(BLOCK_LEN);
        let block = zeros.get(..left.min(BLOCK_LEN)).unwrap_or(&zeros);
        file.write_all(block)?;
        written = written.saturating_add(block.len() as u64);
        done(written);
    }
    Ok(())
}

/// Makes a file system on `mapping`, labelled with the volume's name.
pub(super) fn make(mapping: &Path, kind: FileSystem, label: &str) -> Result<()> {
    let program = format!("mkfs.{}", kind.as_str());
    let output = Command::new(&program)
        .args(options(kind))
        .args(inodes(kind, mapping)?)
        .args(["-L", label])
        .arg(mapping)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::failure(format_args!("{program}: {error}; is it in the initrd?"))
        })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let cause = stderr.lines().rev().find(|line| !line.trim().is_empty());
    Err(Error::failure(format_args!(
        "{program}: {}: {}",
        output.status,
        cause.unwrap_or("no message")
    )))
}

/// How many files ext4 has room for, as mkfs takes it; the others make room as they go.
///
/// mkfs writes all inode tables now, 256 bytes an inode. So there is a limit that does not grow with the disk, below it
/// the usual one for every 16 KiB.
fn inodes(kind: FileSystem, mapping: &Path) -> Result<Vec<String>> {
    const MOST: u64 = 1 << 18;
    const BYTES_PER_INODE: u64 = 16 << 10;
    match kind {
        FileSystem::Ext4 => {
            let (_, len) = open(mapping)?;
            Ok(vec![
                "-N".into(),
                MOST.min(len / BYTES_PER_INODE).to_string(),
            ])
        }
        FileSystem::Btrfs | FileSystem::Xfs => Ok(Vec::new()),
    }
}

/// Options that write before they read, never discard, and cap what would grow with the disk.
fn options(kind: FileSystem) -> &'static [&'static str] {
    match kind {
        // blake2: a node is four sectors, and a mix of old and new ones must not meet its checksum.
        FileSystem::Btrfs => &["-f", "-K", "-q", "--csum", "blake2"],
        // The default log is half a gibibyte at 1 TiB.
        FileSystem::Xfs => &["-f", "-K", "-q", "-l", "size=64m"],
        // No backup superblocks, which mkfs reads before it writes them; inode tables written now, because the kernel's
        // lazy initialisation races with their first use and then reads unwritten blocks.
        FileSystem::Ext4 => &[
            "-F",
            "-q",
            "-O",
            "sparse_super2,^resize_inode",
            "-E",
            "nodiscard,num_backup_sb=0,lazy_itable_init=0,lazy_journal_init=0",
            "-J",
            "size=64",
        ],
    }
}

/// Waits until all that was written to `mapping` is on the disk, with its integrity tags.
pub(super) fn flush(mapping: &Path) -> Result<()> {
    Ok(File::open(mapping)?.sync_all()?)
}

/// The directories below an overlay's volume: its upper and its work directory.
pub(super) const OVERLAY_DIRS: [&str; 2] = ["upper", "work"];

/// Creates `dirs` at the top of the new file system, by mounting it for that long on `scratch`.
pub(super) fn populate(
    mapping: &Path,
    kind: FileSystem,
    dirs: &[&str],
    scratch: &Path,
) -> Result<()> {
    fs::create_dir_all(scratch)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let kind = Some(kind.as_str());
    mount(Some(mapping), scratch, kind, flags, None::<&str>)
        .doing("mounting the new file system")?;
    let created = create(scratch, dirs);
    umount(scratch).doing("unmounting the new file system")?;
    created
}

fn create(top: &Path, dirs: &[&str]) -> Result<()> {
    for dir in dirs {
        let dir = top.join(dir);
        fs::create_dir_all(&dir)?;
        // An overlay's root has the mode of its upper directory, and the service has a umask of 0077.
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
    }
    Ok(syncfs(File::open(top)?)?)
}
