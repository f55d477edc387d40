// SPDX-License-Identifier: Apache-2.0
//! Which programs the firmware started: PCR 4 (TCG PC Client Platform Firmware Profile, section 3.3.4.5).

use super::registers::Separator;
use super::{First, Program, Start, Unmet};
use crate::evidence::eventlog::{Event, Log, What};
use crate::evidence::registers::Registers;
use crate::pcr::{Bank, Pcr, PcrSet};

/// What the firmware measures when a boot option led to nothing (section 3.3.4.5; EDK 2, `DxeTpm2MeasureBootLib` and
/// `EFI_RETURNING_FROM_EFI_APPLICATION`).
const RETURNED: &str = "Returning from EFI Application from Boot Option";

/// What the log says of the programs.
pub(super) struct Started {
    pub(super) start: Start,
    /// How many of them were started before the image measured itself.
    before_sections: usize,
}

/// Programs come before and after what the stub of a unified kernel image measures of itself: the image and what started it,
/// and then the kernel in it, where the stub has the firmware start that.
pub(super) fn started(log: &Log, bank: Bank, separator: Separator) -> Started {
    let pcrs = PcrSet::of(&[Pcr::BOOT_PROGRAMS, Pcr::KERNEL_IMAGE]);
    let events = log.events(bank, Registers::from(pcrs));
    let is_image = |event: &Event| event.pcr == Pcr::KERNEL_IMAGE.index();
    let first_section = events.iter().position(is_image);
    let (before, after) = events
        .split_at_checked(first_section.unwrap_or(events.len()))
        .unwrap_or((&events, &[]));
    let programs = |events: &[Event]| -> Vec<Program> {
        let of_pcr = events.iter().filter(|event| !is_image(event));
        of_pcr.filter_map(program).collect()
    };
    let returned = events.iter().filter(|event| has_returned(event)).count();
    let mut options = log.boot_options().into_iter();
    let tried = (0..returned).map(|_| options.next().unwrap_or_else(|| "without a name".into()));
    let before_image = programs(before);
    Started {
        before_sections: before_image.len(),
        start: Start {
            programs: [before_image, programs(after)].concat(),
            tried: tried.collect(),
            is_unified: first_section.is_some(),
            is_separated: separator == Separator::Present,
        },
    }
}

/// The image is there, and nothing was started before it but what is configured.
pub(super) fn check(started: &Started, first: First) -> Result<(), Unmet> {
    let allowed = match first {
        First::Image => 1,
        First::Loader => 2,
    };
    let before = started
        .start
        .programs
        .get(..started.before_sections)
        .unwrap_or_default();
    match before.split_first() {
        None => Err(Unmet::NoProgram),
        Some(_) if before.len() <= allowed => Ok(()),
        Some((program, _)) => Err(Unmet::ProgramBefore {
            program: program.said.clone(),
            first,
        }),
    }
}

/// Whatever is not proven to be a text or a separator may have been a program.
fn program(event: &Event) -> Option<Program> {
    let is_none = matches!(event.what, What::Separator | What::Text { .. });
    (!is_none).then(|| Program {
        said: event.what.to_string(),
        digest: event.digest.clone(),
    })
}

fn has_returned(event: &Event) -> bool {
    matches!(&event.what, What::Text { text, .. } if text == RETURNED)
}
