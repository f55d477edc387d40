// SPDX-License-Identifier: Apache-2.0
//! Which programs the firmware started: PCR 4 (TCG PC Client Platform Firmware Profile, section 3.3.4.5).
//!
//! They are counted, and not compared with what other PCRs have before or after them: a log proves the order within a PCR
//! alone.

use super::registers::Separator;
use super::{Expected, First, Program, Start, Unmet};
use crate::evidence::eventlog::{self, Event, Log, What};
use crate::evidence::registers::Registers;
use crate::pcr::{Bank, Pcr, PcrSet};

/// What the firmware measures when a boot option led to nothing (section 3.3.4.5; EDK 2, `DxeTpm2MeasureBootLib` and
/// `EFI_RETURNING_FROM_EFI_APPLICATION`).
const RETURNED: &str = "Returning from EFI Application from Boot Option";

/// What the log says of the programs.
pub(super) struct Started {
    pub(super) start: Start,
    /// Whether each was started for a boot option, and not before the firmware came to these.
    are_of_boot_options: bool,
    /// The first boot option that led to a program and back: it ended, or Secure Boot denied it.
    in_vain: Option<String>,
}

/// Reads PCR 4.
pub(super) fn started(log: &Log, bank: Bank, separator: Separator) -> Started {
    let events = |pcr: Pcr| log.events(bank, Registers::from(PcrSet::of(&[pcr])));
    let of_programs = events(Pcr::BOOT_PROGRAMS);
    let mut options = log.boot_options().into_iter();
    let (mut programs, mut tried) = (Vec::new(), Vec::new());
    let mut in_vain = None;
    let mut is_in_program = false;
    for event in &of_programs {
        if event.may_be_program() {
            is_in_program = true;
            programs.push(Program {
                said: event.what.to_string(),
                digest: event.digest.clone(),
            });
        } else if has_returned(event) {
            let option = options.next().unwrap_or_else(|| "without a name".into());
            if std::mem::take(&mut is_in_program) {
                in_vain.get_or_insert_with(|| option.clone());
            }
            tried.push(option);
        }
    }
    Started {
        are_of_boot_options: eventlog::are_of_boot_options(&of_programs),
        in_vain,
        start: Start {
            programs,
            tried,
            is_unified: !events(Pcr::KERNEL_IMAGE).is_empty(),
            is_separated: separator == Separator::Present,
        },
    }
}

/// The image is there, by a boot option, and nothing else was started but what is configured.
pub(super) fn check(started: &Started, expected: &Expected<'_>) -> Result<(), Unmet> {
    let programs = &started.start.programs;
    let Some(program) = programs.first() else {
        return Err(Unmet::NoProgram);
    };
    // Of one program alone it says nothing, and OVMF starts a kernel that QEMU hands over before the separator.
    if programs.len() > 1 && !started.are_of_boot_options {
        return Err(Unmet::OutsideOfBootOptions(program.said.clone()));
    }
    if programs.len() <= most(started, expected) {
        return Ok(());
    }
    Err(Unmet::ProgramBefore {
        program: program.said.clone(),
        option: started.in_vain.clone(),
        first: expected.first,
    })
}

/// How many programs an honest start has: the image; the loader and the addon that are configured, of which the stub has the
/// firmware load the latter (systemd, `src/boot/stub.c`, `load_addons`); and without Secure Boot the kernel inside the image, which
/// stubs up to 257 have the firmware start. With Secure Boot they start it past the firmware's check, which would measure it
/// (systemd, `src/boot/linux.c`).
fn most(started: &Started, expected: &Expected<'_>) -> usize {
    let zero = expected.bank.zero();
    let has_addon = expected
        .added
        .iter()
        .any(|(pcr, value)| *pcr == Pcr::KERNEL_CONFIG && *value != zero);
    let has_loader = expected.first == First::Loader;
    let has_kernel_inside = expected.authorities.is_none() && started.start.is_unified;
    let more = [has_addon, has_loader, has_kernel_inside];
    let more = more.into_iter().filter(|is_there| *is_there);
    more.count().saturating_add(1)
}

fn has_returned(event: &Event) -> bool {
    matches!(&event.what, What::Text { text, .. } if text == RETURNED)
}
