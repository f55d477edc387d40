// SPDX-License-Identifier: Apache-2.0
//! Journals and logs that are on another device than the file system.

use std::fs;
use std::path::Path;

use crate::error::{Doing, Error, Result};

/// All mounts, with what the kernel says of each (`proc_pid_mountinfo(5)`).
const MOUNTS: &str = "/proc/self/mountinfo";

/// The journal's inode in an ext4 that has its journal inside (Linux, `fs/ext4/ext4.h`, `EXT4_JOURNAL_INO`).
const JOURNAL_INODE: u32 = 8;

/// What a file system without a journal says of the task that writes it (Linux, `fs/ext4/sysfs.c`, `journal_task_show`).
const NO_JOURNAL: &str = "<none>";

/// Refuses a mounted ext4 whose journal is on another device. A superblock can name one, by its number.
pub(super) fn ext4_is_internal(device: &str) -> Result<()> {
    let name = name_of(device)?;
    let path = format!("/sys/fs/ext4/{name}/journal_task");
    let task = fs::read_to_string(&path).doing(&path)?;
    // The kernel calls a journal by its device and, where it is a file, the file's inode (`fs/jbd2/journal.c`).
    let journal = format!("/proc/fs/jbd2/{name}-{JOURNAL_INODE}");
    if task.trim_end() == NO_JOURNAL || Path::new(&journal).exists() {
        return Ok(());
    }
    Err(Error::refused(
        "the journal of the file system is on another device",
    ))
}

/// Refuses a mounted xfs that has a log or a realtime section on another device. Only the options of the mount can name one.
pub(super) fn xfs_is_internal(device: &str) -> Result<()> {
    let mounts = fs::read_to_string(MOUNTS).doing(MOUNTS)?;
    match elsewhere(&mounts, device) {
        None => Ok(()),
        Some(option) => Err(Error::refused(format_args!(
            "a part of the file system is on another device: {option}"
        ))),
    }
}

/// The name that the kernel has for a block device, as its file systems write it.
fn name_of(device: &str) -> Result<String> {
    let path = format!("/sys/dev/block/{device}");
    let target = fs::read_link(&path).doing(&path)?;
    let name = target.file_name().unwrap_or_default();
    Ok(name.to_string_lossy().replace('/', "!"))
}

/// The option of a mount of `device` that names another one.
fn elsewhere<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    let of_device = mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(device));
    let mut options = of_device.filter_map(|line| {
        let (_, rest) = line.split_once(" - ")?;
        let all = rest.split(' ').nth(2)?;
        all.split(',')
            .find(|option| option.starts_with("logdev=") || option.starts_with("rtdev="))
    });
    options.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_names_another_device_is_found() {
        let mounts = "22 1 254:0 / / rw - btrfs /dev/mapper/a rw,subvol=/\n\
                      23 1 254:1 / /a rw,nosuid shared:1 - xfs /dev/mapper/b rw,inode64,logdev=/dev/vdd,noquota\n\
                      24 1 254:2 / /b rw - xfs /dev/mapper/c rw,rtdev=/dev/vde\n\
                      25 1 254:3 / /c rw - xfs /dev/mapper/d rw,inode64,noquota\n\
                      26 1 254:4\n";
        assert_eq!(elsewhere(mounts, "254:1"), Some("logdev=/dev/vdd"));
        assert_eq!(elsewhere(mounts, "254:2"), Some("rtdev=/dev/vde"));
        for device in ["254:0", "254:3", "254:4", "254:5", ""] {
            assert_eq!(elsewhere(mounts, device), None, "{device}");
        }
    }
}
