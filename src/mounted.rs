// SPDX-License-Identifier: Apache-2.0
//! What is mounted is what was opened: the devices a file system has, asked of the kernel once it is mounted.
//!
//! A mount is asked for by the name of a mapping, and which devices the kernel then takes is another question: btrfs looks
//! for members by an identifier that whoever stores the disk knows, and a journal or a log can be on a device that the
//! superblock names. So it is asked again after each mount, before the hand-over and once more in the final system.
//!
//! **Never:** a path is taken for what is mounted there, and nothing is mounted or unmounted.

mod btrfs;
mod journal;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};

pub use btrfs::has_temporary_id;

use crate::error::{Doing, Error, Result};

/// A file system that was mounted, and what it is on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Mounted {
    /// Where the final system sees it.
    pub at: String,
    /// The mapping, `/dev/mapper/NAME`.
    pub mapping: String,
    /// The mapping's device number, `MAJOR:MINOR`.
    pub device: String,
}

impl Mounted {
    /// What should be mounted at `at`: `mapping`, by the number it has now.
    pub fn expected(at: &str, mapping: &str) -> Result<Self> {
        Ok(Self {
            at: at.into(),
            mapping: mapping.into(),
            device: number(Path::new(mapping)).doing(mapping)?,
        })
    }

    /// Refuses a mount that has another device than the mapping, or more than that one. `below` is where the final system's
    /// root is: `/sysroot`, or `/`.
    pub fn check(&self, below: &Path) -> Result<()> {
        let path = below.join(self.at.trim_start_matches('/'));
        only_device(&path, &self.device).doing(format_args!(
            "checking that {} is what is mounted at {}",
            self.mapping, self.at
        ))
    }
}

/// The number of a block device, `MAJOR:MINOR`.
pub fn number(device: &Path) -> Result<String> {
    Ok(text_of(fs::metadata(device)?.rdev()))
}

/// The number of the device that a directory is on, as `stat` has it.
#[cfg(test)]
pub(crate) fn device_of(path: &Path) -> Result<String> {
    Ok(text_of(fs::metadata(path)?.dev()))
}

/// Refuses the file system that is mounted at `path` unless it is on the device with this number, and on nothing else.
pub fn only_device(path: &Path, device: &str) -> Result<()> {
    let directory = File::open(path)?;
    let kind = fstatfs(&directory)?.filesystem_type();
    let found = match kind {
        BTRFS_SUPER_MAGIC => btrfs::devices(&directory)?,
        _ => vec![text_of(directory.metadata()?.dev())],
    };
    require_only(&found, device)?;
    match kind {
        EXT4_SUPER_MAGIC => journal::ext4_is_internal(device),
        XFS_SUPER_MAGIC => journal::xfs_is_internal(device),
        _ => Ok(()),
    }
}

fn require_only(found: &[String], device: &str) -> Result<()> {
    match found {
        [only] if only == device => Ok(()),
        [] => Err(Error::refused("the file system has no device at all")),
        others => Err(Error::refused(format_args!(
            "the file system there is on {}, expected {device} alone: detach the disks that are not this machine's",
            others.join(" and ")
        ))),
    }
}

fn text_of(number: u64) -> String {
    format!("{}:{}", major(number), minor(number))
}

#[cfg(test)]
mod tests {
    use crate::error::Exit;
    use crate::mounted::*;

    #[test]
    fn one_device_and_the_right_one_is_all_that_passes() {
        let found =
            |devices: &[&str]| -> Vec<String> { devices.iter().map(ToString::to_string).collect() };
        require_only(&found(&["254:1"]), "254:1").unwrap();
        for (devices, said) in [
            (vec![], "the file system has no device at all"),
            (
                vec!["254:3"],
                "the file system there is on 254:3, expected 254:1 alone: detach the disks that are not this machine's",
            ),
            (
                vec!["254:1", "254:3"],
                "the file system there is on 254:1 and 254:3, expected 254:1 alone: detach the disks that are not this machine's",
            ),
        ] {
            let error = require_only(&found(&devices), "254:1").unwrap_err();
            assert_eq!(error.exit(), Exit::Refused);
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn a_mount_of_another_device_is_refused_and_says_what_to_do() {
        // The file system of the tree is on some device, and that is not 0:0.
        let mount = |device: String| Mounted {
            at: "/".into(),
            mapping: "/dev/mapper/state".into(),
            device,
        };
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let error = mount("0:0".into()).check(here).unwrap_err();
        let said = error.to_string();
        assert_eq!(error.exit(), Exit::Refused, "{said}");
        let start = "checking that /dev/mapper/state is what is mounted at /: the file system";
        assert!(said.starts_with(start), "{said}");
        assert!(
            said.ends_with("detach the disks that are not this machine's"),
            "{said}"
        );
    }
}
