// SPDX-License-Identifier: Apache-2.0
//! What systemd-stub measures of a unified kernel image (systemd-stub(7); src/fundamental/uki.h of systemd 262), and what comes
//! of it.

use super::pe::{Pe, Section};
use crate::command_line::CommandLine;
use crate::error::{Doing, Error, Result};
use crate::pcr::Bank;

/// The sections that are measured, in the order in which they are. `.pcrsig` is in no value: it holds signatures of them.
const MEASURED: [&str; 14] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey", ".profile", ".dtbauto", ".hwids", ".efifw",
];
/// Of these the stub chooses by what it is told or finds, so that the file alone does not say what is measured.
const CHOSEN: [&str; 3] = [".profile", ".dtbauto", ".efifw"];
/// Without it there is nothing to start.
const KERNEL: &str = ".linux";
/// The command line, in UTF-8; tools end it in different ways.
const COMMAND_LINE: &str = ".cmdline";
const COMMAND_LINE_ENDS: [&str; 3] = ["\n\0", "\n", "\0"];
/// What systemd measures into PCR 11 when its initrd begins (systemd-pcrphase.service(8)).
pub const INITRD_PHASE: &str = "enter-initrd";
/// What systemd from version 261 on measures into PCRs 12 and 13 in the initrd (`systemd-pcrosseparator`).
const SEPARATOR: &str = "os-separator";

/// A unified kernel image.
#[derive(Clone, Debug)]
pub struct Uki<'a> {
    /// The program that it is.
    pub program: Pe<'a>,
    kernel: &'a [u8],
    command_line: Option<String>,
    measured: Vec<(&'static str, &'a [u8])>,
}

/// A command line from outside of the image.
#[derive(Clone, Copy, Debug)]
pub struct Addition<'a> {
    /// What it is.
    pub text: &'a str,
    /// How often it is measured: systemd-stub measures what it is handed, and systemd-boot what it hands over.
    pub times: usize,
}

impl<'a> Uki<'a> {
    /// Whether a file is one, whatever is wrong with it: a program with a kernel in it.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        Pe::parse(bytes).is_ok_and(|program| {
            let mut sections = program.sections.iter();
            sections.any(|section| section.name == KERNEL.as_bytes())
        })
    }

    /// Takes an image apart.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let program = Pe::parse(bytes)?;
        let mut measured = Vec::new();
        for name in MEASURED {
            if let Some(bytes) = contents(&program, name)? {
                measured.push((name, bytes));
            }
        }
        if let Some((name, _)) = measured.iter().find(|(name, _)| CHOSEN.contains(name)) {
            return Err(Error::refused(format_args!(
                "section {name}: which of several parts the stub takes is not known from the file: \
                 make an image that has one of each"
            )));
        }
        let part = |name: &str| measured.iter().find(|(other, _)| *other == name);
        let Some((_, kernel)) = part(KERNEL) else {
            return Err(Error::refused(format_args!(
                "no unified kernel image: it has no section {KERNEL}"
            )));
        };
        let command_line = part(COMMAND_LINE).map(|(_, bytes)| command_line(bytes));
        Ok(Self {
            kernel,
            command_line: command_line.transpose()?,
            program,
            measured,
        })
    }

    /// The kernel in it, a program as well.
    pub fn kernel(&self) -> Result<Pe<'a>> {
        Pe::parse(self.kernel).doing(format_args!("section {KERNEL}"))
    }

    /// A section as the stub finds it in memory, if it is there.
    pub fn section(&self, name: &str) -> Result<Option<&'a [u8]>> {
        contents(&self.program, name)
    }

    /// The names of its sections, and how long each is in memory.
    pub fn sizes(&self) -> impl Iterator<Item = (String, usize)> {
        let sections = self.program.sections.iter();
        sections.map(|it| (String::from_utf8_lossy(it.name).into_owned(), it.memory_len))
    }

    /// Its command line.
    #[must_use]
    pub fn command_line(&self) -> Option<&str> {
        self.command_line.as_deref()
    }

    /// PCR 11 when a node asks for its keys: the image's parts, and the phase that systemd measures when the initrd begins.
    #[must_use]
    pub fn kernel_image(&self, bank: Bank) -> Vec<u8> {
        let line = self.command_line.as_deref().unwrap_or_default();
        // Without the firmware's variables systemd does not see that it was measured, and measures no phase.
        if CommandLine::parse(line).turns_variables_off() {
            self.before_phases(bank)
        } else {
            self.in_initrd(bank)
        }
    }

    /// PCR 11 as the stub leaves it, before systemd measures a phase.
    #[must_use]
    pub fn before_phases(&self, bank: Bank) -> Vec<u8> {
        let mut value = bank.zero();
        for (name, bytes) in &self.measured {
            // The name with its zero, then the contents.
            for measured in [format!("{name}\0").as_bytes(), bytes] {
                value = bank.extended(&value, &bank.hash(measured));
            }
        }
        value
    }

    /// PCR 11 in the phase [`INITRD_PHASE`].
    #[must_use]
    pub fn in_initrd(&self, bank: Bank) -> Vec<u8> {
        bank.extended(
            &self.before_phases(bank),
            &bank.hash(INITRD_PHASE.as_bytes()),
        )
    }
}

impl Addition<'_> {
    /// PCR 12 after it.
    fn measured(self, bank: Bank) -> Vec<u8> {
        let units = self.text.encode_utf16().chain([0]);
        let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        (0..self.times).fold(bank.zero(), |value, _| {
            bank.extended(&value, &bank.hash(&bytes))
        })
    }

    /// The values that PCR 12 may have: with nothing from outside, or one of these. Each as systemd up to version 260 leaves it,
    /// and as later versions do.
    #[must_use]
    pub fn kernel_config(bank: Bank, additions: &[Addition<'_>]) -> Vec<Vec<u8>> {
        let added = additions.iter().map(|addition| addition.measured(bank));
        [bank.zero()]
            .into_iter()
            .chain(added)
            .flat_map(|value| with_separator(bank, value))
            .collect()
    }

    /// The values that PCR 13 may have where no extension is added.
    #[must_use]
    pub fn no_extension(bank: Bank) -> Vec<Vec<u8>> {
        with_separator(bank, bank.zero()).to_vec()
    }
}

fn with_separator(bank: Bank, value: Vec<u8>) -> [Vec<u8>; 2] {
    let later = bank.extended(&value, &bank.hash(SEPARATOR.as_bytes()));
    [value, later]
}

/// What the stub finds in memory of a section; nothing where it is not there or empty.
fn contents<'a>(program: &Pe<'a>, name: &str) -> Result<Option<&'a [u8]>> {
    let mut found = program
        .sections
        .iter()
        .filter(|section| section.name == name.as_bytes() && section.memory_len != 0);
    let Some(section) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(Error::refused(format_args!(
            "section {name}: it is there twice, and which the stub takes is not known from the file"
        )));
    }
    in_memory(section).map(Some).ok_or_else(|| {
        Error::refused(format_args!(
            "section {name}: it is longer in memory than in the file"
        ))
    })
}

fn in_memory<'a>(section: &Section<'a>) -> Option<&'a [u8]> {
    section.bytes.get(..section.memory_len)
}

/// The text, without what tools end it with.
fn command_line(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::refused(format_args!(
            "section {COMMAND_LINE}: it is no UTF-8: {error}"
        ))
    })?;
    let text = COMMAND_LINE_ENDS
        .iter()
        .find_map(|end| text.strip_suffix(end))
        .unwrap_or(text);
    if text.chars().any(|c| c == '\0' || c == '\n') {
        return Err(Error::refused(format_args!(
            "section {COMMAND_LINE}: expected one line, found {text:?}"
        )));
    }
    Ok(text.to_owned())
}
