// SPDX-License-Identifier: Apache-2.0
//! An image against what was verified.
//!
//! Labels in a log are the machine's own. So a rule about events of a PCR looks at every event of it, in order, and accepts only
//! those whose digest says what they are: nothing can hide under another name.

use super::Image;
use super::explain::Difference;
use crate::evidence::eventlog::{Event, What};
use crate::evidence::verify::Verified;
use crate::pcr::{Bank, Pcr};

/// Where the firmware measures the programs it starts (TCG PC Client Platform Firmware Profile, section 3.3.4).
const BOOT_PROGRAMS: u8 = 4;
/// The section of a unified kernel image that holds its command line.
const CMDLINE_SECTION: &str = ".cmdline";
/// What may follow the text in that section: nothing, or what tools put there.
const CMDLINE_ENDS: [&str; 4] = ["", "\n", "\0", "\n\0"];

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
        if let Some(expected) = &self.programs {
            differences.extend(programs_differ(expected, verified));
        }
        if let Some(expected) = &self.command_lines {
            differences.extend(command_line_differs(expected, verified));
        }
        if let Some(expected) = self.secure_boot {
            differences.extend(secure_boot_differs(expected, verified));
        }
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

fn programs_differ(expected: &[Vec<u8>], verified: &Verified) -> Vec<Difference> {
    if !verified.explained.contains(BOOT_PROGRAMS) {
        return vec![Difference::NotLogged {
            pcr: BOOT_PROGRAMS,
            rule: "uki-hash",
        }];
    }
    let is_started = |event: &&Event| !matches!(event.what, What::Separator | What::Text { .. });
    let mut started = measured_into(BOOT_PROGRAMS, verified)
        .filter(is_started)
        .peekable();
    if started.peek().is_none() {
        return vec![Difference::Program {
            what: "no program".into(),
            seen: "none".into(),
            expected: digits(expected),
        }];
    }
    started
        .filter(|event| !expected.contains(&event.digest))
        .map(|event| Difference::Program {
            what: event.what.to_string(),
            seen: hex::encode(&event.digest),
            expected: digits(expected),
        })
        .collect()
}

/// systemd-stub measures the image's own command line into PCR 11 as a section, and one it is handed, or parts that are
/// added, into PCR 12 (systemd-stub(7)). Which of them the kernel gets depends on Secure Boot, so each has to be listed.
fn command_line_differs(expected: &[String], verified: &Verified) -> Vec<Difference> {
    for pcr in [Pcr::KERNEL_CONFIG, Pcr::KERNEL_IMAGE].map(Pcr::index) {
        if !verified.explained.contains(pcr) {
            let rule = "command-line";
            return vec![Difference::NotLogged { pcr, rule }];
        }
    }
    let mut is_there = false;
    let mut differences = Vec::new();
    let mut differs = |seen: String| {
        differences.push(Difference::CommandLine {
            seen,
            expected: expected.iter().map(|text| format!("{text:?}")).collect(),
        });
    };
    for event in measured_into(Pcr::KERNEL_IMAGE.index(), verified)
        .chain(measured_into(Pcr::KERNEL_CONFIG.index(), verified))
    {
        let in_image = event.pcr == Pcr::KERNEL_IMAGE.index();
        match &event.what {
            What::Section(name) if in_image && name == CMDLINE_SECTION => {
                is_there = true;
                if !is_text_of(event, expected, verified.bank) {
                    let digest = hex::encode(&event.digest);
                    differs(format!("that of the image, with digest {digest}"));
                }
            }
            What::CommandLine(text) if !in_image => {
                is_there = true;
                if !expected.contains(text) {
                    differs(format!("{text:?}"));
                }
            }
            What::Section(_) if in_image => {}
            What::Text { .. } | What::Separator => {}
            What::Program { .. }
            | What::Driver { .. }
            | What::SecureBoot(_)
            | What::Authority(_)
            | What::Variable(_)
            | What::CommandLine(_)
            | What::Section(_)
            | What::ClusterId(_)
            | What::Tagged { .. }
            | What::Said { .. } => {
                differs(format!("what may be a part of one: {}", event.what));
            }
        }
    }
    if !is_there {
        differs("none".into());
    }
    differences
}

fn is_text_of(event: &Event, expected: &[String], bank: Bank) -> bool {
    expected.iter().any(|text| {
        CMDLINE_ENDS
            .iter()
            .any(|end| bank.hash(format!("{text}{end}").as_bytes()) == event.digest)
    })
}

/// The variable comes first: what follows it may have been measured by anybody.
fn secure_boot_differs(expected: bool, verified: &Verified) -> Option<Difference> {
    let pcr = Pcr::SECURE_BOOT.index();
    if !verified.explained.contains(pcr) {
        let rule = "secure-boot";
        return Some(Difference::NotLogged { pcr, rule });
    }
    let first = measured_into(pcr, verified).find(|event| !matches!(event.what, What::Text { .. }));
    let seen = match first.map(|event| &event.what) {
        Some(What::SecureBoot(seen)) => Some(*seen),
        _ => None,
    };
    (seen != Some(expected)).then_some(Difference::SecureBoot { seen, expected })
}

fn measured_into(pcr: u8, verified: &Verified) -> impl Iterator<Item = &Event> {
    verified.events.iter().filter(move |event| event.pcr == pcr)
}

fn digits(values: &[Vec<u8>]) -> Vec<String> {
    values.iter().map(hex::encode).collect()
}
