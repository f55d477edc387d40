// SPDX-License-Identifier: Apache-2.0
//! How a machine was started, as far as its firmware's event log proves it, compared with how it has to be.
//!
//! PCRs 11 and 12 are extended by the program that was booted, and any program can extend them. What it cannot make up are
//! PCR 7, whose signatures counted, and PCRs 2 and 4, which drivers and programs the firmware ran. Where no signature
//! counts, PCR 9 says which initrd the kernel was handed, as that kernel is one of the programs. A log is the machine's own
//! word and may have been changed by whatever ran before: it counts for the PCRs it replays to, and there by digests and
//! their order; what it calls things decides nothing.
//!
//! **Never:** what a log calls a thing decides: digests in the PCRs that it replays to do.

mod authority;
mod changes;
mod configured;
mod firmware;
mod next;
mod outlook;
mod programs;
mod registers;
mod secure_boot;
mod unmet;
mod vendors;

use std::fmt;

pub use authority::certificates;
pub use changes::{Changes, KeyList};
pub use next::{KernelInside, Next, NextImage, next};
pub use outlook::Outlook;
pub use unmet::Unmet;
pub use vendors::{known_vendor, refused_beside_signed};

use super::eventlog::Log;
use super::firmware::FirmwarePart;
use super::registers::{Registers, Values};
use crate::pcr::{Bank, Pcr, PcrSet};

/// How a machine has to be started.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The bank that secrets are sealed in.
    pub bank: Bank,
    /// The certificates, in DER, that alone may have vouched for what ran under Secure Boot; none where it is not required.
    pub authorities: Option<&'a [Vec<u8>]>,
    /// What the firmware starts first.
    pub first: First,
    /// The PCRs that secrets are sealed to.
    pub sealed: PcrSet,
    /// The values that the PCRs of additions have before systemd's separator.
    pub added: [(Pcr, Vec<u8>); 2],
    /// The parts that the firmware may have, where that is said.
    pub firmware: Option<Vec<FirmwarePart>>,
}

/// What the firmware starts first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum First {
    /// The image.
    Image,
    /// A loader, which starts the image.
    Loader,
}

/// How a machine was started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Start {
    /// The programs that were started, in order: what the log says of each, and its Authenticode hash.
    pub programs: Vec<Program>,
    /// Boot options that the firmware tried in vain before, as it calls them. Nothing proves their names.
    pub tried: Vec<String>,
    /// Whether the image is a unified kernel image, as far as the log says: then PCR 4 has its initrd too.
    pub is_unified: bool,
    /// Whether systemd's separator follows what the firmware measured.
    pub is_separated: bool,
}

/// A program that the firmware started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Program {
    /// Where it was found, as the log says.
    pub said: String,
    /// Its Authenticode hash.
    pub digest: Vec<u8>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", hex::encode(&self.digest), self.said)
    }
}

impl Expected<'_> {
    /// The PCRs that the log has to explain.
    fn explained(&self) -> [Pcr; 2] {
        match self.authorities {
            Some(_) => [Pcr::BOOT_PROGRAMS, Pcr::SECURE_BOOT],
            None => [Pcr::DRIVERS, Pcr::BOOT_PROGRAMS],
        }
    }
}

/// Compares how a machine was started with how it has to be; `values` are those of PCRs 0 to 7, 12 and 13 and of what secrets
/// are sealed to.
pub fn prove(log: &Log, values: &Values, expected: &Expected<'_>) -> Result<Start, Unmet> {
    let replayed = log.replay(expected.bank).map_err(Unmet::Log)?;
    let separator = registers::explained(&replayed, values, expected)?;
    if let Some(authorities) = expected.authorities {
        let pcr = Registers::from(PcrSet::of(&[Pcr::SECURE_BOOT]));
        secure_boot::vouched(&log.events(expected.bank, pcr), authorities)?;
    }
    if let Some(parts) = &expected.firmware {
        if !registers::replays_to(&replayed, values, expected.bank, Pcr::FIRMWARE, separator) {
            return Err(Unmet::Unexplained { pcr: Pcr::FIRMWARE });
        }
        let pcr = Registers::from(PcrSet::of(&[Pcr::FIRMWARE]));
        let events = log.events(expected.bank, pcr);
        firmware::listed(&events, parts, expected.bank)?;
    }
    let started = programs::started(log, expected.bank, separator);
    programs::check(&started, expected)?;
    registers::nothing_else_added(log, &replayed, values, expected, separator)?;
    registers::extended(values, expected, separator)?;
    Ok(started.start)
}

#[cfg(test)]
mod tests;
