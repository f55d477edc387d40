// SPDX-License-Identifier: Apache-2.0
//! Kernels with known defects where they read what the host stores: dm-crypt, dm-integrity and btrfs.
//!
//! Only the series whose fixes are known is judged by its number. Distributions fix older series under their own numbers,
//! and newer series have had the fixes from some release on that the sources do not name: of those nothing is said.

use std::fs;
use std::path::Path;

use log::warn;

use crate::config::{Config, FileSystem, KernelDefects};
use crate::error::{Doing, Error, Result};

/// Where the kernel says what it is, below the root.
const RELEASE_PATH: &str = "proc/sys/kernel/osrelease";

/// A defect, and the first release of the series 6.12 without it (stable kernel change logs).
#[derive(Debug)]
struct Defect {
    what: &'static str,
    fixed_in: u32,
}

const SERIES: (u32, u32) = (6, 12);
const DEFECTS: [Defect; 3] = [
    Defect {
        what: "CVE-2026-99086: dm-integrity takes its superblock from the disk again on resume, unchecked",
        fixed_in: 117,
    },
    Defect {
        what: "CVE-2026-99136: a race in dm-crypt",
        fixed_in: 115,
    },
    Defect {
        what: "dm-integrity takes a forged mark of discarded sectors",
        fixed_in: 114,
    },
];

/// The first series whose btrfs does not take other disks for a volume because they have the identifier of its file system
/// (Linux 6.7, `fs/btrfs/volumes.c`, `same_fsid_diff_dev`: a mount of one device gets an identifier of its own). Up to then
/// the mount is found out afterwards, and the boot refused.
const BTRFS_KNOWS_TWINS: (u32, u32) = (6, 7);

/// A release as far as it is compared: `6.12.63+deb13-amd64` is 6, 12, 63.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Release {
    series: (u32, u32),
    patch: u32,
}

impl Release {
    /// The numbers a release begins with; `None` if it does not begin with two.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_end().splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let (minor, _) = digits(parts.next()?)?;
        let patch = parts.next().and_then(digits).map_or(0, |(patch, _)| patch);
        Some(Self {
            series: (major, minor),
            patch,
        })
    }

    fn defects(self) -> impl Iterator<Item = &'static Defect> {
        let judged = self.series == SERIES;
        let has = move |defect: &&Defect| judged && self.patch < defect.fixed_in;
        DEFECTS.iter().filter(has)
    }
}

/// Warns of known defects of the running kernel, or refuses to go on, as configured.
pub fn check(root: &Path, config: &Config) -> Result<()> {
    let path = root.join(RELEASE_PATH);
    let text = fs::read_to_string(&path).doing(path.display())?;
    let text = text.trim_end();
    let release = Release::parse(text)
        .ok_or_else(|| Error::failure(format_args!("{text:?} is no kernel release")))?;
    let (major, minor) = release.series;
    for defect in release.defects() {
        let fixed = format!("{major}.{minor}.{}", defect.fixed_in);
        found(config, text, defect.what, &fixed)?;
    }
    let has_btrfs = config
        .volumes()
        .any(|it| it.file_system == FileSystem::Btrfs);
    if has_btrfs && release.series < BTRFS_KNOWS_TWINS {
        let what =
            "btrfs takes a disk with the identifier of a volume's file system for the volume";
        found(config, text, what, "6.7")?;
    }
    Ok(())
}

/// Warns of a defect or refuses to go on.
fn found(config: &Config, kernel: &str, what: &str, fixed_in: &str) -> Result<()> {
    let sentence = format!("kernel {kernel}: {what}; fixed in {fixed_in}");
    match config.kernel_defects {
        KernelDefects::Warn => {
            warn!("{sentence}");
            Ok(())
        }
        KernelDefects::Refuse => Err(Error::refused(format_args!(
            "{sentence}: build the image with a newer kernel, or set kernel-defects = \"warn\""
        ))),
    }
}

/// The number a text begins with, and what follows it.
fn digits(text: &str) -> Option<(u32, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        Release::parse(text).unwrap().defects().count()
    }

    #[test]
    fn a_series_whose_fixes_are_known_is_judged_by_its_number() {
        assert_eq!(count("6.12.63+deb13-cloud-amd64\n"), 3);
        assert_eq!(count("6.12-rc1"), 3);
        assert_eq!(count("6.12.114"), 2);
        assert_eq!(count("6.12.115-amd64"), 1);
        assert_eq!(count("6.12.116"), 1);
        assert_eq!(count("6.12.117"), 0);
        for other in ["6.1.0-41-amd64", "6.18.2", "7.0.0", "5.15.0-1"] {
            assert_eq!(count(other), 0, "{other}");
        }
    }

    #[test]
    fn what_is_no_release_is_none() {
        for text in ["", "6", "six.12", "6.x.1", ".12.1", "99999999999.1"] {
            assert_eq!(Release::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_defect_is_a_warning_or_a_refusal() {
        let root = std::env::temp_dir().join(format!("nightlatch-kernel-{}", std::process::id()));
        fs::create_dir_all(root.join("proc/sys/kernel")).unwrap();
        let of = |line: &str, file_system: &str| {
            let volume = "boot.authorities = [\"/etc/nightlatch/authority.pem\"]\n[[volume]]\nname = \"a\"\nrole = \"state\"\ndevice = \"/dev/a\"\nmount = \"/a\"\nsources = [\"tpm\"]\n";
            Config::parse(&format!(
                "{line}\n{volume}file-system = \"{file_system}\"\n"
            ))
            .unwrap()
        };
        let config = |line: &str| of(line, "btrfs");
        let refuse = config("kernel-defects = \"refuse\"");
        fs::write(root.join(RELEASE_PATH), "6.12.116\n").unwrap();
        check(&root, &config("")).unwrap();
        let error = check(&root, &refuse).unwrap_err().to_string();
        assert!(
            error.starts_with("kernel 6.12.116: CVE-2026-99086"),
            "{error}"
        );
        assert!(error.contains("fixed in 6.12.117"), "{error}");
        fs::write(root.join(RELEASE_PATH), "6.12.117\n").unwrap();
        check(&root, &refuse).unwrap();

        // A defect of btrfs concerns nobody without one.
        let xfs = of("kernel-defects = \"refuse\"", "xfs");
        for (release, is_refused) in [
            ("6.1.0-41-amd64\n", true),
            ("6.6.9\n", true),
            ("6.7.0\n", false),
        ] {
            fs::write(root.join(RELEASE_PATH), release).unwrap();
            check(&root, &xfs).unwrap();
            let said = check(&root, &refuse).err().map(|error| error.to_string());
            assert_eq!(said.is_some(), is_refused, "{release}: {said:?}");
            if let Some(said) = said {
                assert!(
                    said.contains("btrfs takes a disk with the identifier"),
                    "{said}"
                );
                assert!(said.contains("fixed in 6.7: build the image"), "{said}");
            }
        }
        fs::remove_dir_all(root).unwrap();
    }
}
