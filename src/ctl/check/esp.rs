// SPDX-License-Identifier: Apache-2.0
//! The programs that a machine may boot next: those on its ESP, and which of them is taken first.
//!
//! The latter the loader and the stub say, in variables of the firmware that the host and whoever is root can change. So it
//! decides about an order and about whose verdict is the exit code, and every other image is judged as well.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::ctl::input;
use crate::error::{Doing, Error, Result};

/// Where an ESP is mounted (the UAPI group's Boot Loader Specification, section "Mount Points"; Debian has it at the last one).
const PLACES: [&str; 3] = ["efi", "boot", "boot/efi"];
/// Where an ESP has its programs: a directory for each vendor in this one (UEFI, section 13.3.1.3).
const PROGRAMS: &str = "EFI";
/// Where unified kernel images are, by the names of which systemd-boot calls them (Boot Loader Specification, "Type #2").
const LINUX: &str = "EFI/Linux";
const ENDING: &str = "efi";
/// The most programs that are looked at. What is on an ESP is the host's to choose.
const PROGRAMS_MAX: usize = 64;
/// Variables of loaders and of systemd-stub (the Boot Loader Interface; systemd-stub(7)), as the kernel shows them.
const VARIABLES: &str = "sys/firmware/efi/efivars";
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Those of the firmware (`EFI_GLOBAL_VARIABLE`; UEFI, section 3.3).
const FIRMWARE: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Bytes of attributes in front of what a variable holds (Linux, Documentation/filesystems/efivarfs.rst).
const ATTRIBUTES_LEN: usize = 4;
/// The longest such variable that is read, in bytes.
const VARIABLE_LEN_MAX: usize = 4096;
/// What systemd-boot says that it is.
const SYSTEMD_BOOT: &str = "systemd-boot";

/// A program on the ESP.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// Whether it is what the firmware or its loader starts next.
    pub(super) is_default: bool,
}

/// All programs on the ESP.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Esp {
    /// The one that is started next comes first, then they are in the order of their names.
    pub(super) programs: Vec<Program>,
    /// Where the one is that is started next, if variables say it, below the ESP.
    pub(super) default: Option<String>,
}

impl Esp {
    /// Looks below `root` at the usual places, or at `directory`.
    pub(super) fn find(root: &Path, directory: Option<&Path>) -> Result<Self> {
        let places = match directory {
            Some(directory) => vec![directory.to_owned()],
            None => PLACES.iter().map(|place| root.join(place)).collect(),
        };
        let mut places = places.into_iter();
        let Some(place) = places.find(|place| place.join(PROGRAMS).is_dir()) else {
            return Err(Error::unavailable(match directory {
                Some(directory) => format!(
                    "{}: no ESP, as it has no directory {PROGRAMS}",
                    directory.display()
                ),
                None => format!(
                    "no ESP is mounted at /{}: mount it, or say where it is with --esp, or which image",
                    PLACES.join(", /")
                ),
            }));
        };
        let default = default(root);
        let paths = programs(&place)
            .doing(place.display())
            .doing("looking for images")?;
        let mut programs: Vec<Program> = paths
            .into_iter()
            .map(|path| Program {
                is_default: default
                    .as_deref()
                    .is_some_and(|name| is_at(&place, &path, name)),
                path,
            })
            .collect();
        programs.sort_by(|a, b| (!a.is_default, &a.path).cmp(&(!b.is_default, &b.path)));
        Ok(Self { programs, default })
    }
}

/// The programs in the vendors' directories.
fn programs(place: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for vendor in fs::read_dir(place.join(PROGRAMS))? {
        let vendor = vendor?.path();
        if !vendor.is_dir() {
            continue;
        }
        for file in fs::read_dir(&vendor)? {
            let file = file?.path();
            let is_program = file
                .extension()
                .is_some_and(|it| it.eq_ignore_ascii_case(ENDING));
            if is_program && file.is_file() {
                found.push(file);
            }
        }
    }
    if found.len() > PROGRAMS_MAX {
        let len = found.len();
        return Err(Error::refused(format_args!(
            "expected at most {PROGRAMS_MAX} programs, found {len}"
        )));
    }
    Ok(found)
}

/// Whether a program is at a place on the ESP, whose file system does not tell capitals from small letters.
fn is_at(place: &Path, path: &Path, name: &str) -> bool {
    let path = path.strip_prefix(place).ok().and_then(Path::to_str);
    path.is_some_and(|path| path.eq_ignore_ascii_case(name))
}

/// What is started next, as far as variables say it: nothing where the firmware goes another way than in this boot, as an entry for
/// one try has it; where systemd-boot chooses by rules of its own, as no entry is set; or behind another loader.
fn default(root: &Path) -> Option<String> {
    let number = |name| variable(root, name, FIRMWARE).and_then(|bytes| first_number(&bytes));
    let next = number("BootNext").or_else(|| number("BootOrder"))?;
    if number("BootCurrent") != Some(next) {
        return None;
    }
    let said = |name| variable(root, name, LOADER).and_then(|bytes| text(&bytes));
    let Some(loader) = said("LoaderInfo") else {
        let image = said("StubImageIdentifier").or_else(|| said("LoaderImageIdentifier"))?;
        return Some(image.replace('\\', "/").trim_start_matches('/').to_owned());
    };
    if !loader.starts_with(SYSTEMD_BOOT) {
        return None;
    }
    let entry = said("LoaderEntryOneShot").or_else(|| said("LoaderEntryDefault"))?;
    Some(format!("{LINUX}/{entry}"))
}

/// What a variable holds, behind its attributes.
fn variable(root: &Path, name: &str, vendor: &str) -> Option<Vec<u8>> {
    let path = root.join(VARIABLES).join(format!("{name}-{vendor}"));
    match input::read(&path, VARIABLE_LEN_MAX) {
        Ok(bytes) => bytes.get(ATTRIBUTES_LEN..).map(<[u8]>::to_vec),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                log::warn!("{}: {error}", path.display());
            }
            None
        }
    }
}

/// The number of a boot option, or the first of a list of them.
fn first_number(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|first| u16::from_le_bytes(*first))
}

/// A text as the firmware keeps it: UTF-16, little-endian, up to a zero. Nothing where it is empty or none.
fn text(bytes: &[u8]) -> Option<String> {
    let units = bytes.chunks(2).map(|unit| match unit {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    let text = String::from_utf16(&units).ok()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
