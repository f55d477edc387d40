// SPDX-License-Identifier: Apache-2.0
//! Event logs: what a machine says was measured, replayed, so that what it says can be compared with what its TPM says.
//!
//! Two logs follow each other: the firmware's ([`Log::firmware`], which systemd-stub and the kernel's stub add to) and systemd's
//! in user space ([`Log::append_userspace`], which this program adds to). A log proves nothing by itself. An entry is
//! as good as the PCR it was measured into, and only for the digest: [`Event::what`] goes beyond that where the digest
//! proves the words, and says [`What::Said`] where it does not.
//!
//! **Never:** an event is believed because the log has it: it counts where the log replays to what a TPM quoted.

mod boot_options;
mod describe;
mod firmware;
mod userspace;
mod variables;

use std::fmt;

pub(super) use boot_options::are_of_boot_options;

use super::registers::{self, Registers, Values};
use super::{Check, Refusal};
use crate::pcr::{Bank, Pcr};

/// Longest log, in bytes. Firmware logs have some tens of KiB.
pub const LOG_LEN_MAX: usize = 1 << 20;

/// What systemd from version 261 on measures into most PCRs before units of the initrd run (systemd-pcrosseparator.service(8)).
pub(super) const SYSTEMD_SEPARATOR: &str = "os-separator";

/// PCRs that start with all ones: those of the dynamic root of trust (TCG PC Client Platform TPM Profile, section 4.6.2).
const DYNAMIC: std::ops::RangeInclusive<u8> = 17..=22;

/// Entries of both logs, in order. Nothing about them is verified.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Log {
    entries: Vec<Entry>,
    /// The locality the TPM was started from, which PCR 0 starts with.
    locality: u8,
    /// How many entries came before user space.
    firmware_len: usize,
}

/// One extend as a log has it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    pcr: u8,
    digests: Vec<(Bank, Vec<u8>)>,
    source: Source,
}

/// What the log says about an extend, as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Source {
    Firmware {
        kind: u32,
        data: Vec<u8>,
    },
    Userspace {
        kind: String,
        /// The bytes whose digest was measured, where the record has them.
        preimage: Option<Vec<u8>>,
        text: String,
    },
}

/// One extend of a PCR, in one bank.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// The PCR.
    pub pcr: u8,
    /// What it was extended with.
    pub digest: Vec<u8>,
    /// What that is.
    pub what: What,
}

/// What was measured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// A program the firmware started; the digest is its Authenticode hash. Where it was found is only said.
    Program {
        /// The device path's file, or what else the firmware said.
        path: String,
    },
    /// A driver that the firmware loaded, such as a card's option ROM; the digest is its Authenticode hash. With Secure Boot it
    /// is measured even where it was not allowed to run.
    Driver {
        /// The device path's file, or what else the firmware said.
        path: String,
    },
    /// Whether Secure Boot was on. The digest proves it.
    SecureBoot(bool),
    /// What let a program run under Secure Boot: an entry of the firmware's `db`, without its owner. Where a certificate
    /// vouched that is its DER; it may be the issuer's of the signer's. The digest proves it.
    Authority(Vec<u8>),
    /// Another variable of the firmware, with its name. The digest proves the name.
    Variable(String),
    /// The kernel's command line, or a part added to it. The digest proves the text.
    CommandLine(String),
    /// The contents of a section of the unified kernel image; its name was measured just before.
    Section(String),
    /// Text, of a kind. The digest proves it: boot phases, `nightlatch:fence`, what the operator allowed.
    Text {
        /// The event's type.
        kind: String,
        /// What was measured.
        text: String,
    },
    /// The clusterID, in lower-case hexadecimal digits. The digest proves it.
    ClusterId(String),
    /// The partition table of a disk that the firmware looked at. The digest proves it.
    PartitionTable,
    /// The end of a phase of the firmware.
    Separator,
    /// What a program of the firmware's time measured under a number of its own: the kernel's stub its options and initrd. Nothing
    /// proves the number or the text.
    Tagged {
        /// The number.
        tag: u32,
        /// What the log says.
        text: String,
    },
    /// Something else, with what the log says about it and nothing proves.
    Said {
        /// The event's type.
        kind: String,
        /// What the log says.
        text: String,
    },
}

impl Log {
    /// Takes the firmware's log, `binary_bios_measurements` of the kernel's securityfs: TCG crypto-agile format (TCG PC Client
    /// Platform Firmware Profile, section 10).
    ///
    /// Fails [`Check::FirmwareLog`].
    pub fn firmware(bytes: &[u8]) -> Result<Self, Refusal> {
        bounded(bytes, Check::FirmwareLog)?;
        let (entries, locality) = firmware::parse(bytes)?;
        Ok(Self {
            firmware_len: entries.len(),
            entries,
            locality,
        })
    }

    /// Adds systemd's log, `tpm2-measure.log`.
    ///
    /// Fails [`Check::UserspaceLog`].
    pub fn append_userspace(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        bounded(bytes, Check::UserspaceLog)?;
        self.entries.extend(userspace::parse(bytes)?);
        Ok(())
    }

    /// Takes both logs, where they are there.
    pub fn of(firmware: Option<&[u8]>, userspace: Option<&[u8]>) -> Result<Self, Refusal> {
        let mut log = firmware
            .map(Self::firmware)
            .transpose()?
            .unwrap_or_default();
        if let Some(userspace) = userspace {
            log.append_userspace(userspace)?;
        }
        Ok(log)
    }

    /// The values the PCRs of `bank` would have after all of it.
    ///
    /// Fails [`Check::EventLog`] where an entry has no digest for the bank.
    pub fn replay(&self, bank: Bank) -> Result<Values, Refusal> {
        let mut values = self.start(bank);
        for entry in &self.entries {
            entry.extend(bank, &mut values)?;
        }
        Ok(values)
    }

    /// The values at each moment from the end of the firmware's log on: a quote was made at one of these.
    ///
    /// Fails [`Check::EventLog`] where an entry has no digest for the bank.
    pub fn moments(&self, bank: Bank) -> Result<Vec<Values>, Refusal> {
        let (firmware, userspace) = self
            .entries
            .split_at_checked(self.firmware_len)
            .unwrap_or((&self.entries, &[]));
        let mut values = self.start(bank);
        for entry in firmware {
            entry.extend(bank, &mut values)?;
        }
        let mut moments = vec![values.clone()];
        for entry in userspace {
            entry.extend(bank, &mut values)?;
            moments.push(values.clone());
        }
        Ok(moments)
    }

    /// The log as it was at a moment, counted as [`Log::moments`] counts them.
    #[must_use]
    pub fn until(&self, moment: usize) -> Self {
        let len = self.firmware_len.saturating_add(moment);
        Self {
            entries: self.entries.iter().take(len).cloned().collect(),
            ..*self
        }
    }

    /// The same log with another digest in the place of one, of `bank` alone: `place` counts the events of `pcr`, as
    /// [`Log::events`] does.
    #[must_use]
    pub(super) fn exchanged(mut self, bank: Bank, pcr: Pcr, place: usize, digest: &[u8]) -> Self {
        let mut of_pcr = self
            .entries
            .iter_mut()
            .filter(|entry| entry.pcr == pcr.index() && entry.digest(bank).is_some());
        if let Some(entry) = of_pcr.nth(place) {
            entry.digests = vec![(bank, digest.to_vec())];
        }
        self
    }

    /// What was measured into `pcrs`, in order.
    #[must_use]
    pub fn events(&self, bank: Bank, pcrs: Registers) -> Vec<Event> {
        let entries: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| pcrs.contains(entry.pcr))
            .collect();
        describe::events(bank, &entries)
    }

    fn start(&self, bank: Bank) -> Values {
        (0..registers::COUNT)
            .map(|pcr| {
                let mut value = bank.zero();
                if DYNAMIC.contains(&pcr) {
                    value.fill(0xff);
                }
                // PCR 0 starts with the locality (TCG PC Client Platform Firmware Profile, section 3.3.4.1).
                if let (0, Some(last)) = (pcr, value.last_mut()) {
                    *last = self.locality;
                }
                (pcr, value)
            })
            .collect()
    }
}

impl Entry {
    fn digest(&self, bank: Bank) -> Option<&[u8]> {
        self.digests
            .iter()
            .find(|(other, _)| *other == bank)
            .map(|(_, digest)| digest.as_slice())
    }

    fn extend(&self, bank: Bank, values: &mut Values) -> Result<(), Refusal> {
        let digest = self.digest(bank).ok_or_else(|| {
            let pcr = self.pcr;
            Refusal::new(
                Check::EventLog,
                format_args!(
                    "an event of PCR {pcr} has no digest for {bank}: switch the TPM's bank {bank} on in the firmware, or \
                     use another by tpm.bank"
                ),
            )
        })?;
        if let Some(value) = values.get_mut(&self.pcr) {
            *value = bank.extended(value, digest);
        }
        Ok(())
    }
}

fn bounded(bytes: &[u8], check: Check) -> Result<(), Refusal> {
    if bytes.len() <= LOG_LEN_MAX {
        return Ok(());
    }
    let len = bytes.len();
    Err(Refusal::new(
        check,
        format_args!("expected at most {LOG_LEN_MAX} bytes, found {len}"),
    ))
}

impl What {
    /// Whether it is systemd's separator.
    pub(super) fn is_systemds_separator(&self) -> bool {
        matches!(self, Self::Text { text, .. } if text == SYSTEMD_SEPARATOR)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { path } => write!(f, "program {}", Path(path)),
            Self::Driver { path } => write!(f, "driver {}", Path(path)),
            Self::SecureBoot(true) => f.write_str("Secure Boot on"),
            Self::SecureBoot(false) => f.write_str("Secure Boot off"),
            Self::Authority(entry) => {
                let id = hex::encode(Bank::Sha256.hash(entry));
                write!(f, "authority of db with SHA-256 {id}")
            }
            Self::Variable(name) => write!(f, "variable {name:?}"),
            Self::CommandLine(text) => write!(f, "command line {text:?}"),
            Self::Section(name) => write!(f, "section {}", name.escape_debug()),
            Self::Text { kind, text } => write!(f, "{kind} {text:?}"),
            Self::ClusterId(id) => write!(f, "clusterID {}", id.escape_debug()),
            Self::PartitionTable => f.write_str("partition table"),
            Self::Separator => f.write_str("separator"),
            Self::Tagged { tag, text } => write!(f, "tag {tag:#010x}, said to be {text:?}"),
            Self::Said { kind, text } if text.is_empty() => f.write_str(kind),
            Self::Said { kind, text } => write!(f, "{kind}, said to be {text:?}"),
        }
    }
}

/// A path of the firmware's between quotes. Backslashes are what it is made of.
struct Path<'a>(&'a str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for part in self.0.split_inclusive('\\') {
            let name = part.trim_end_matches('\\');
            let end = part.get(name.len()..).unwrap_or_default();
            write!(f, "{}{end}", name.escape_debug())?;
        }
        f.write_str("\"")
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = hex::encode(&self.digest);
        write!(f, "PCR {}: {}: {digest}", self.pcr, self.what)
    }
}

#[cfg(test)]
pub(super) mod tests;
