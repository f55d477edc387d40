// SPDX-License-Identifier: Apache-2.0
//! The image below an overlay is the measured one: the root hash in the kernel's table is that of the command line.
//!
//! What the table says beside the hash comes from the host's hash device and from options, and dm-verity can be told to let
//! corrupted blocks through.

use std::fs;
use std::path::Path;

use crate::command_line::CommandLine;
use crate::config::DevicePath;
use crate::error::{Doing, Error, Result};
use crate::volume::table;

/// Where systemd-veritysetup-generator(8) finds devices that the command line does not name, below the root.
const VERITYTAB: &str = "etc/veritytab";

/// Options of dm-verity after which a block that is read need not be the one that was hashed (Linux,
/// `Documentation/admin-guide/device-mapper/verity.rst`).
const UNSAFE_OPTIONS: [&str; 2] = ["ignore_corruption", "check_at_most_once"];

/// Refuses an image that dm-verity does not vouch for, or vouches for by another root hash than the measured one.
pub(super) fn check(top: &Path, lower: &DevicePath) -> Result<()> {
    let mapping = table::verity(lower.as_path())?;
    let expected = measured_hash(top, &mapping.name)?;
    check_table(&mapping.params, &expected)
}

/// The root hash that is measured for a mapping: `root` and `usr` are those of the command line, others come from
/// `/etc/veritytab` in the initrd.
fn measured_hash(top: &Path, name: &str) -> Result<String> {
    let command_line = CommandLine::load(top)?;
    let key = match name {
        "usr" => "usrhash",
        _ => "roothash",
    };
    let tab = fs::read_to_string(top.join(VERITYTAB)).unwrap_or_default();
    let (in_line, in_tab) = (command_line.value(key), in_veritytab(&tab, name));
    let found = match name {
        "root" | "usr" => in_line.or(in_tab),
        _ => in_tab.or(in_line),
    };
    found.map(str::to_ascii_lowercase).ok_or_else(|| {
        Error::refused(format_args!(
            "no root hash is measured for it: add {key}= to the kernel's command line, or a line for {name} to /{VERITYTAB} in \
             the initrd"
        ))
    })
}

/// The root hash in the line of a device (veritytab(5)).
fn in_veritytab<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let is_named = fields.next() == Some(name);
        fields.nth(2).filter(|_| is_named)
    })
}

/// `<version> <dev> <hash dev> <block> <hash block> <blocks> <start> <algorithm> <digest> <salt> [<n> <options>]` (Linux,
/// `Documentation/admin-guide/device-mapper/verity.rst`).
fn check_table(params: &str, expected: &str) -> Result<()> {
    let mut words = params.split(' ');
    let found = words.nth(8).unwrap_or("");
    if found.is_empty() || found != expected {
        return Err(Error::refused(format_args!(
            "root hash: expected {expected:?}, which is measured, found {found:?}"
        )));
    }
    match words.find(|word| UNSAFE_OPTIONS.contains(word)) {
        Some(option) => Err(Error::refused(format_args!(
            "dm-verity has the option {option}, so what it vouches for may change"
        ))),
        None => Ok(()),
    }
    .doing("comparing the live table")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "1 254:2 254:3 4096 4096 1024 1 sha256 00ff aa";

    #[test]
    fn only_the_measured_root_hash_passes_and_no_option_that_lets_corruption_through() {
        check_table(TABLE, "00ff").unwrap();
        check_table(
            &format!("{TABLE} 2 restart_on_corruption ignore_zero_blocks"),
            "00ff",
        )
        .unwrap();
        for (table, expected, said) in [
            (TABLE.to_owned(), "00fe", "root hash: expected \"00fe\""),
            (TABLE.to_owned(), "", "root hash: expected \"\""),
            (
                "1 254:2 254:3 4096".to_owned(),
                "",
                "root hash: expected \"\"",
            ),
            (
                format!("{TABLE} 1 ignore_corruption"),
                "00ff",
                "has the option ignore_corruption",
            ),
            (
                format!("{TABLE} 1 check_at_most_once"),
                "00ff",
                "has the option check_at_most_once",
            ),
        ] {
            let error = check_table(&table, expected).unwrap_err().to_string();
            assert!(error.contains(said), "{table}: {error}");
        }
    }

    #[test]
    fn the_hash_of_a_device_is_found_where_it_is_measured() {
        let tab = "# name data hash root\nother /dev/a /dev/b 11\nimage /dev/c /dev/d 2A options\nshort /dev/e\n";
        assert_eq!(in_veritytab(tab, "image"), Some("2A"));
        for name in ["short", "absent"] {
            assert_eq!(in_veritytab(tab, name), None, "{name}");
        }
        let top = std::env::temp_dir().join(format!("nightlatch-verity-{}", std::process::id()));
        fs::create_dir_all(top.join("proc")).unwrap();
        fs::create_dir_all(top.join("etc")).unwrap();
        fs::write(top.join(VERITYTAB), tab).unwrap();
        fs::write(top.join("proc/cmdline"), "quiet usrhash=BB").unwrap();
        assert_eq!(measured_hash(&top, "image").unwrap(), "2a");
        assert_eq!(measured_hash(&top, "usr").unwrap(), "bb");
        let error = measured_hash(&top, "root").unwrap_err().to_string();
        assert!(
            error.starts_with("no root hash is measured for it: add roothash="),
            "{error}"
        );
        fs::write(top.join("proc/cmdline"), "roothash=cc").unwrap();
        assert_eq!(measured_hash(&top, "root").unwrap(), "cc");
        assert_eq!(measured_hash(&top, "mine").unwrap(), "cc");
        assert_eq!(measured_hash(&top, "image").unwrap(), "2a");
        fs::remove_dir_all(top).unwrap();
    }
}
