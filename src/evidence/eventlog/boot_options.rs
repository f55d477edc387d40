// SPDX-License-Identifier: Apache-2.0
//! The firmware's boot options, which it measures into PCR 1 before it tries them. Their names are for people: the log
//! says them, and nothing rests on them. What rests on something is where in PCR 4 it began with them.

use super::{Entry, Event, Log, Source, What};
use crate::evidence::Check;
use crate::evidence::Refusal;
use crate::evidence::bytes::Bytes;

// Types of events (TCG PC Client Platform Firmware Profile, section 10.4.1).
const EV_EFI_VARIABLE_BOOT: u32 = 0x8000_0002;
const EV_EFI_VARIABLE_BOOT2: u32 = 0x8000_000c;
/// The order of the options, and how the name of each begins (UEFI, section 3.1.2).
const BOOT_ORDER: &str = "BootOrder";
const BOOT_OPTION: &str = "Boot";
/// `LOAD_OPTION_ACTIVE`, and the bits of the category, of which zero is a boot option (UEFI, section 3.1.3).
const ACTIVE: u32 = 0x0000_0001;
const CATEGORY: u32 = 0x0000_1f00;

/// Whether every program was started for a boot option; `events` are those of PCR 4.
///
/// Firmware measures one separator into PCR 4, before the first boot option (TCG PC Client Platform Firmware Profile, section
/// 3.3.4.5; EDK 2, `Tcg2Dxe.c`, `OnReadyToBoot`). What `SysPrep####` names it starts before that, one after the other and with
/// nothing measured in between when one of them comes back (UEFI, section 3.1.7; EDK 2, `BmLoadOption.c`).
pub(in crate::evidence) fn are_of_boot_options<'a>(
    events: impl IntoIterator<Item = &'a Event>,
) -> bool {
    let mut separators = 0_usize;
    for event in events {
        if matches!(event.what, What::Separator) {
            separators = separators.saturating_add(1);
        } else if event.may_be_program() && separators != 1 {
            return false;
        }
    }
    separators == 1
}

impl Event {
    /// Whether it may be a program in PCR 4: whatever is not proven to be a text or a separator.
    pub(in crate::evidence) fn may_be_program(&self) -> bool {
        !matches!(self.what, What::Separator | What::Text { .. })
    }
}

impl Log {
    /// What the firmware calls the options that it tries, in its order.
    #[must_use]
    pub fn boot_options(&self) -> Vec<String> {
        let variables: Vec<(String, &[u8])> =
            self.entries.iter().filter_map(boot_variable).collect();
        let of = |name: &str| {
            let found = variables.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| *value)
        };
        let (numbers, _) = of(BOOT_ORDER).unwrap_or_default().as_chunks::<2>();
        numbers
            .iter()
            .map(|number| format!("{BOOT_OPTION}{:04X}", u16::from_le_bytes(*number)))
            .filter_map(|name| of(&name))
            .filter_map(|value| description(value).ok().flatten())
            .collect()
    }
}

/// The name and the value of a variable about boot options (section 10.2.6).
fn boot_variable(entry: &Entry) -> Option<(String, &[u8])> {
    match &entry.source {
        Source::Firmware {
            kind: EV_EFI_VARIABLE_BOOT | EV_EFI_VARIABLE_BOOT2,
            data,
        } => super::describe::variable_of(data).ok(),
        Source::Firmware { .. } | Source::Userspace { .. } => None,
    }
}

/// The description in an `EFI_LOAD_OPTION` that is tried; none in one that is not (UEFI, section 3.1.3).
fn description(value: &[u8]) -> Result<Option<String>, Refusal> {
    let mut value = Bytes::new(value, "boot option", Check::FirmwareLog);
    let attributes = value.le32()?;
    value.le16()?;
    let is_tried = attributes & ACTIVE != 0 && attributes & CATEGORY == 0;
    Ok(is_tried.then(|| super::describe::utf16_text(value.rest()).trim().to_owned()))
}
