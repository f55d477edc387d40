// SPDX-License-Identifier: Apache-2.0
//! The live device-mapper tables, compared with what was meant (rule E20 of the header rules).
//!
//! libcryptsetup builds the tables from the header copy; what counts is what the kernel maps in the end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{major, minor};

use devicemapper::{DM, DevId, DmFlags, DmName, DmOptions};
use zeroize::Zeroizing;

use crate::error::{Doing, Error, Result};

/// The algorithm of the crypt target, in the kernel's crypto API notation.
const CIPHER: &str = "capi:authenc(hmac(sha256),xts(aes))-plain64";

/// Where data starts on the device, in sectors of 512 bytes: the 16 MiB of the header area.
const DATA_OFFSET_SECTORS: &str = "32768";

/// The unit of device-mapper tables, in bytes.
pub const SECTOR_LEN: u64 = 512;

/// One line of a device-mapper table.
#[derive(Debug)]
struct Target {
    kind: String,
    start_sector: u64,
    len_sectors: u64,
    /// Wiped on drop: without a keyring the kernel would print the volume key here.
    params: Zeroizing<String>,
}

/// What the two mappings of a volume must be.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The name of the upper mapping; the lower one has the suffix `_dif`.
    pub name: &'a str,
    /// The LUKS UUID.
    pub uuid: &'a str,
    /// `major:minor` of the disk.
    pub disk: &'a str,
    /// The length of both mappings in sectors of 512 bytes, as it follows from the disk's.
    pub len_sectors: u64,
    /// dm-integrity's mode: `J` with a journal, `D` without.
    pub mode: &'a str,
}

/// Reads both live tables of an active volume and compares them.
pub fn verify(expected: &Expected<'_>) -> Result<()> {
    let dm = DM::new()?;
    let lower_name = format!("{}_dif", expected.name);
    let lower = read(&dm, &lower_name)?;
    check_integrity(&lower.target, expected).doing(format_args!("mapping {lower_name}"))?;
    let upper = read(&dm, expected.name)?;
    let prefix = format!("CRYPT-LUKS2-{}-", expected.uuid.replace('-', ""));
    check_crypt(&upper.target, expected, &lower.device)
        .and_then(|()| require("UUID", &upper.uuid, &format!("{prefix}{}", expected.name)))
        .doing(format_args!("mapping {}", expected.name))
}

/// A mapping of dm-verity: its name, and what its table says.
#[derive(Debug)]
pub struct Verity {
    /// The mapping's name.
    pub name: String,
    /// The parameters in its live table.
    pub params: String,
}

/// The live table of a device, which has to be a mapping of dm-verity.
pub fn verity(device: &Path) -> Result<Verity> {
    let metadata = fs::metadata(device).map_err(Error::unavailable)?;
    let number = metadata.rdev();
    let name = format!("/sys/dev/block/{}:{}/dm/name", major(number), minor(number));
    let name = fs::read_to_string(name)
        .map_err(|error| Error::refused(format_args!("not a mapping of dm-verity: {error}")))?;
    let name = name.trim_end().to_owned();
    let mapping = read(&DM::new()?, &name)?;
    require("target", &mapping.target.kind, "verity")?;
    Ok(Verity {
        name,
        params: mapping.target.params.to_string(),
    })
}

/// An active mapping.
struct Mapping {
    /// `major:minor`.
    device: String,
    /// The device-mapper UUID.
    uuid: String,
    /// Its only target.
    target: Target,
}

fn read(dm: &DM, name: &str) -> Result<Mapping> {
    let id = DevId::Name(DmName::new(name)?);
    let options = DmOptions::default().set_flags(DmFlags::DM_STATUS_TABLE);
    let (info, table) = dm
        .table_status(&id, options)
        .doing(format_args!("reading the live table of {name}"))?;
    let mut targets = table
        .into_iter()
        .map(|(start_sector, len_sectors, kind, params)| Target {
            kind,
            start_sector,
            len_sectors,
            params: Zeroizing::new(params),
        });
    let (Some(target), None) = (targets.next(), targets.next()) else {
        return Err(Error::refused(format_args!(
            "the live table of {name} does not have exactly one target"
        )));
    };
    if info.flags().contains(DmFlags::DM_SUSPEND) {
        return Err(Error::refused(format_args!("mapping {name} is suspended")));
    }
    Ok(Mapping {
        device: format!("{}:{}", info.device().major, info.device().minor),
        uuid: info.uuid().map(ToString::to_string).unwrap_or_default(),
        target,
    })
}

/// `<cipher> :96:logon:<description> 0 <device> 0 <n> integrity:32:aead sector_size:4096`
/// (kernel documentation, device-mapper/dm-crypt).
fn check_crypt(target: &Target, expected: &Expected<'_>, lower_device: &str) -> Result<()> {
    let mut words = target.params.split(' ');
    let mut next = || words.next().unwrap_or("");
    require("target", &target.kind, "crypt")?;
    require_extent(target, expected)?;
    require("cipher", next(), CIPHER)?;
    // 2.6 and 2.7 name the key `cryptsetup:UUID-dN`; what must hold is that it is a keyring reference of this volume.
    if !next().starts_with(&format!(":96:logon:cryptsetup:{}-", expected.uuid)) {
        return Err(Error::refused(
            "key: expected a reference to this volume's 96-byte key in the kernel keyring",
        ));
    }
    require("IV offset", next(), "0")?;
    require("device", next(), lower_device)?;
    require("offset", next(), "0")?;
    require("number of options", next(), "2")?;
    let mut options: Vec<&str> = words.collect();
    options.sort_unstable();
    require(
        "options",
        &options.join(" "),
        "integrity:32:aead sector_size:4096",
    )
}

/// `<device> <reserved sectors> <tag size> J <n> <options>` (kernel documentation, device-mapper/dm-integrity).
fn check_integrity(target: &Target, expected: &Expected<'_>) -> Result<()> {
    let mut words = target.params.split(' ');
    let mut next = || words.next().unwrap_or("");
    require("target", &target.kind, "integrity")?;
    require_extent(target, expected)?;
    require("device", next(), expected.disk)?;
    require("offset", next(), DATA_OFFSET_SECTORS)?;
    require("tag size", next(), "32")?;
    require("mode", next(), expected.mode)?;
    let count = next();
    let options: Vec<&str> = words.collect();
    require("number of options", count, &options.len().to_string())?;
    for option in &options {
        check_integrity_option(option)?;
    }
    for wanted in ["block_size:4096", "interleave_sectors:32768", "fix_padding"] {
        if !options.contains(&wanted) {
            return Err(Error::refused(format_args!("option {wanted} is missing")));
        }
    }
    Ok(())
}

/// Options that change how data is checked are refused; tuning of the journal is the kernel's affair.
fn check_integrity_option(option: &str) -> Result<()> {
    const KNOWN: [&str; 7] = [
        "block_size",
        "interleave_sectors",
        "fix_padding",
        "journal_sectors",
        "buffer_sectors",
        "journal_watermark",
        "commit_time",
    ];
    let name = option.split(':').next().unwrap_or("");
    if KNOWN.contains(&name) {
        Ok(())
    } else {
        Err(Error::refused(format_args!("unexpected option {option}")))
    }
}

/// From the first sector on, and as long as the disk's length says: the kernel takes the length from a superblock that
/// the host may have changed since it was checked.
fn require_extent(target: &Target, expected: &Expected<'_>) -> Result<()> {
    require("start", &target.start_sector.to_string(), "0")?;
    let found = target.len_sectors.to_string();
    require("length", &found, &expected.len_sectors.to_string())
}

fn require(what: &str, found: &str, expected: &str) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(Error::refused(format_args!(
            "{what}: expected {expected:?}, found {found:?}"
        )))
    }
}

impl From<devicemapper::DmError> for Error {
    fn from(error: devicemapper::DmError) -> Self {
        Self::failure(format_args!("device-mapper: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "01234567-89ab-4cde-8f01-23456789abcd";
    const CRYPT: &str = "capi:authenc(hmac(sha256),xts(aes))-plain64 :96:logon:cryptsetup:01234567-89ab-4cde-8f01-23456789abcd-d0 0 253:0 0 2 integrity:32:aead sector_size:4096";
    const INTEGRITY: &str = "254:16 32768 32 J 7 block_size:4096 journal_sectors:130944 interleave_sectors:32768 buffer_sectors:128 journal_watermark:50 commit_time:10000 fix_padding";

    const EXPECTED: Expected<'_> = Expected {
        name: "state",
        uuid: UUID,
        disk: "254:16",
        len_sectors: 2048,
        mode: "J",
    };

    fn target(kind: &str, params: &str) -> Target {
        Target {
            kind: kind.into(),
            start_sector: 0,
            len_sectors: 2048,
            params: Zeroizing::new(params.into()),
        }
    }

    #[test]
    fn a_crypt_table_that_differs_anywhere_is_refused() {
        let check =
            |kind: &str, params: &str| check_crypt(&target(kind, params), &EXPECTED, "253:0");
        assert!(check("crypt", CRYPT).is_ok());
        assert_eq!(
            check("linear", CRYPT).unwrap_err().to_string(),
            "target: expected \"crypt\", found \"linear\""
        );
        let cases = [
            (
                "capi:authenc(hmac(sha256),xts(aes))-plain64",
                "cipher_null-ecb",
            ),
            (":96:", ":64:"),
            (
                ":96:logon:cryptsetup:01234567",
                ":96:logon:cryptsetup:11234567",
            ),
            ("-d0 0 ", "-d0 8 "),
            ("253:0", "253:1"),
            (" 0 2 ", " 8 2 "),
            ("integrity:32:aead", "integrity:0:none"),
            ("sector_size:4096", "sector_size:512"),
            ("2 integrity", "3 allow_discards integrity"),
        ];
        for (from, to) in cases {
            assert!(CRYPT.contains(from), "{from}");
            let error = check("crypt", &CRYPT.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.exit(), crate::error::Exit::Refused, "{to}");
        }
    }

    #[test]
    fn a_raw_key_in_the_table_does_not_reach_the_message() {
        let params = CRYPT.replace(&format!(":96:logon:cryptsetup:{UUID}-d0"), "5ec4e7");
        let error = check_crypt(&target("crypt", &params), &EXPECTED, "253:0").unwrap_err();
        assert!(!error.to_string().contains("5ec4e7"));
    }

    #[test]
    fn an_integrity_table_that_differs_where_it_matters_is_refused() {
        let check = |params: &str| check_integrity(&target("integrity", params), &EXPECTED);
        assert!(check(INTEGRITY).is_ok());
        assert!(check(&INTEGRITY.replace("commit_time:10000", "commit_time:5000")).is_ok());
        let cases = [
            ("254:16", "254:32"),
            ("32768 32 J", "32776 32 J"),
            (" 32 J", " 4 J"),
            (" J ", " D "),
            (" J ", " R "),
            ("fix_padding", "allow_discards"),
            ("7 block_size", "8 recalculate block_size"),
            ("block_size:4096", "block_size:512"),
        ];
        for (from, to) in cases {
            assert!(INTEGRITY.contains(from), "{from}");
            assert!(check(&INTEGRITY.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_table_that_is_longer_or_shorter_than_the_disk_allows_is_refused() {
        for (start_sector, len_sectors) in [(0, 2049), (0, 2047), (8, 2048)] {
            let other = Target {
                start_sector,
                len_sectors,
                ..target("crypt", CRYPT)
            };
            assert!(check_crypt(&other, &EXPECTED, "253:0").is_err());
        }
    }
}
