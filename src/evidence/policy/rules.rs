// SPDX-License-Identifier: Apache-2.0
//! An image against what was verified.
//!
//! Labels in a log are the machine's own. So a rule about events of a PCR looks at every event of it, in order, and accepts only
//! those whose digest says what they are: nothing can hide under another name.

pub(super) mod additions;
mod command_line;
mod firmware;
pub(super) mod programs;
mod secure_boot;

use super::Image;
use super::explain::Difference;
use crate::evidence::eventlog::{Event, What};
use crate::evidence::verify::Verified;
use crate::pcr::Bank;

impl Image {
    /// Everything in which this is another image than the one that was booted.
    pub(super) fn differences(&self, bank: Bank, verified: &Verified) -> Vec<Difference> {
        if verified.bank != bank {
            return vec![Difference::Bank {
                seen: verified.bank.to_string(),
                expected: bank.to_string(),
            }];
        }
        let mut differences = Vec::new();
        for (pcr, expected) in &self.pcrs {
            differences.extend(pcr_differs(*pcr, expected, verified));
        }
        differences.extend(programs::differ(self, verified));
        if let Some(expected) = &self.command_lines {
            differences.extend(command_line::differs(expected, verified));
        }
        if let Some(expected) = self.secure_boot {
            let authorities = self.authorities.as_deref();
            differences.extend(secure_boot::differs(expected, authorities, verified));
        }
        if let Some(expected) = &self.firmware {
            differences.extend(firmware::differs(expected, verified));
        }
        differences.extend(additions::differ(self, verified));
        differences
    }
}

fn pcr_differs(pcr: u8, expected: &[Vec<u8>], verified: &Verified) -> Option<Difference> {
    let Some(seen) = verified.pcrs.get(&pcr) else {
        return Some(Difference::NotQuoted { pcr });
    };
    if expected.contains(seen) {
        return None;
    }
    Some(Difference::Pcr {
        pcr,
        seen: hex::encode(seen),
        expected: digits(expected),
        events: measured_into(pcr, verified)
            .map(|event| event.what.to_string())
            .collect(),
    })
}

/// What there is to say where a rule is about the events of a PCR that does not follow from a log.
fn nothing_logged(pcr: u8, rule: &'static str, verified: &Verified) -> Option<Difference> {
    (!verified.explained.contains(pcr)).then_some(Difference::NotLogged { pcr, rule })
}

/// Whether it is unknown what was measured into a PCR: its value does not follow from a log, and is not that of a PCR nothing
/// was measured into.
fn unknown(pcr: u8, verified: &Verified) -> Option<Difference> {
    if verified.explained.contains(pcr) {
        return None;
    }
    match verified.pcrs.get(&pcr) {
        Some(value) if *value == verified.bank.zero() => None,
        Some(_) => Some(Difference::Unknown { pcr }),
        None => Some(Difference::NotQuoted { pcr }),
    }
}

/// Whether it ends a phase, of the firmware or as systemd does: nothing that ran.
fn is_separator(event: &Event) -> bool {
    matches!(event.what, What::Separator) || event.what.is_systemds_separator()
}

fn measured_into(pcr: u8, verified: &Verified) -> impl Iterator<Item = &Event> {
    verified.events.iter().filter(move |event| event.pcr == pcr)
}

fn digits(values: &[Vec<u8>]) -> Vec<String> {
    values.iter().map(hex::encode).collect()
}
