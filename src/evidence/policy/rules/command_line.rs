// SPDX-License-Identifier: Apache-2.0
//! `command-line`: what the kernel was told.

use super::{measured_into, nothing_logged};
use crate::evidence::eventlog::{Event, What};
use crate::evidence::policy::explain::Difference;
use crate::evidence::verify::Verified;
use crate::pcr::{Bank, Pcr};

/// The section of a unified kernel image that holds its command line.
const CMDLINE_SECTION: &str = ".cmdline";
/// What may follow the text in that section: nothing, or what tools put there.
const CMDLINE_ENDS: [&str; 4] = ["", "\n", "\0", "\n\0"];

/// systemd-stub measures the image's own command line into PCR 11 as a section, and one it is handed, or parts that are
/// added, into PCR 12 (systemd-stub(7)). Which of them the kernel gets depends on Secure Boot, so each has to be listed.
pub(super) fn differs(expected: &[String], verified: &Verified) -> Vec<Difference> {
    for pcr in [Pcr::KERNEL_CONFIG, Pcr::KERNEL_IMAGE].map(Pcr::index) {
        if let Some(difference) = nothing_logged(pcr, "command-line", verified) {
            return vec![difference];
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
            | What::PartitionTable
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
