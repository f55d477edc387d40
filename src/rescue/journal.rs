// SPDX-License-Identifier: Apache-2.0
//! What the next mount of a file system has to replay, as its superblock tells. It is read through the mapping, so it was
//! authenticated, and it is a hint for people: nothing follows from it.
//!
//! **Never:** a byte of a file system relied on.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Serialize;

/// Where a superblock begins and how much of it is looked at: that of ext4 (kernel documentation, filesystems/ext4/globals), of
/// btrfs (Linux, `include/uapi/linux/btrfs_tree.h`, `BTRFS_SUPER_INFO_OFFSET`) and of XFS at the very start.
const EXT4_OFFSET: u64 = 1024;
const BTRFS_OFFSET: u64 = 64 << 10;
const LOOKED_AT: usize = 512;

/// What a mount has to replay.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Journal {
    /// Nothing.
    Clean,
    /// What was written last.
    ToReplay,
    /// It cannot be told before the mount.
    Unknown,
}

impl Journal {
    /// Of the file system on `mapping`.
    pub(super) fn on(mapping: &Path) -> Self {
        let Ok(file) = File::open(mapping) else {
            return Self::Unknown;
        };
        let read = |offset| {
            let mut bytes = [0; LOOKED_AT];
            // A sector that nobody has written yet cannot be read.
            file.read_exact_at(&mut bytes, offset).ok()?;
            Some(bytes)
        };
        let btrfs = read(BTRFS_OFFSET).and_then(|bytes| of_btrfs(&bytes));
        let ext4 = || read(EXT4_OFFSET).and_then(|bytes| of_ext4(&bytes));
        btrfs.or_else(ext4).unwrap_or(Self::Unknown)
    }

    /// The word that the report uses.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "nothing more for its mount to replay",
            Self::ToReplay => "a log, which its mount replays",
            Self::Unknown => "whether there is a log to replay, its mount tells",
        }
    }
}

/// `magic` and `log_root` (Linux, `include/uapi/linux/btrfs_tree.h`, `struct btrfs_super_block`).
fn of_btrfs(superblock: &[u8]) -> Option<Journal> {
    (superblock.get(0x40..0x48)? == b"_BHRfS_M").then_some(())?;
    let log_root = superblock.get(0x60..0x68)?;
    Some(if log_root == [0; 8] {
        Journal::Clean
    } else {
        Journal::ToReplay
    })
}

/// `s_magic` and, of `s_feature_incompat`, `INCOMPAT_RECOVER` (kernel documentation, filesystems/ext4/globals).
fn of_ext4(superblock: &[u8]) -> Option<Journal> {
    (superblock.get(0x38..0x3a)? == [0x53, 0xef]).then_some(())?;
    let incompat = superblock.get(0x60)?;
    Some(if incompat & 0x4 == 0 {
        Journal::Clean
    } else {
        Journal::ToReplay
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; LOOKED_AT];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn a_log_is_told_from_none_and_other_bytes_tell_nothing() {
        let magic: (usize, &[u8]) = (0x40, b"_BHRfS_M");
        assert_eq!(of_btrfs(&with(&[magic])), Some(Journal::Clean));
        let logged = with(&[magic, (0x66, &[1])]);
        assert_eq!(of_btrfs(&logged), Some(Journal::ToReplay));
        assert_eq!(of_ext4(&logged), None);

        let magic: (usize, &[u8]) = (0x38, &[0x53, 0xef]);
        assert_eq!(
            of_ext4(&with(&[magic, (0x60, &[0xc2])])),
            Some(Journal::Clean)
        );
        let dirty = with(&[magic, (0x60, &[0xc6])]);
        assert_eq!(of_ext4(&dirty), Some(Journal::ToReplay));
        assert_eq!(of_btrfs(&dirty), None);

        for cut in [0, 0x38, 0x40, 0x60] {
            assert_eq!(
                (of_btrfs(&logged[..cut]), of_ext4(&dirty[..cut])),
                (None, None)
            );
        }
    }
}
