// SPDX-License-Identifier: Apache-2.0
//! The devices of a mounted btrfs.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::{Doing, Error, Result};

/// Where the kernel tells of each mounted btrfs (Linux, `Documentation/ABI/testing/sysfs-fs-btrfs` and `fs/btrfs/sysfs.c`).
const SYSFS: &str = "/sys/fs/btrfs";

/// The numbers of all its devices: as many as the file system says it has, or it is an error.
pub(super) fn devices(directory: &File) -> Result<Vec<String>> {
    let info = btrfs_uapi::filesystem::filesystem_info(directory.as_fd())?;
    let path = place(info.uuid).join("devices");
    let numbers = listed(&path).doing(path.display())?;
    if numbers.len() as u64 == info.num_devices {
        return Ok(numbers);
    }
    Err(Error::refused(format_args!(
        "the file system has {} devices, and {} are there",
        info.num_devices,
        numbers.len()
    )))
}

/// Whether the kernel gave the mount another identifier than the one on the disk, as it does from Linux 6.7 on where it
/// has seen another disk with the same one.
pub fn has_temporary_id(id: Uuid) -> Result<bool> {
    let path = place(id).join("temp_fsid");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end() != "0"),
        // Older kernels have no such file, and do no such thing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing(path.display()),
    }
}

fn place(id: Uuid) -> PathBuf {
    Path::new(SYSFS).join(id.to_string())
}

/// The numbers of the block devices that a directory has links to.
fn listed(directory: &Path) -> Result<Vec<String>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let number = fs::read_to_string(entry?.path().join("dev"))?;
        numbers.push(number.trim_end().to_owned());
    }
    numbers.sort();
    Ok(numbers)
}
