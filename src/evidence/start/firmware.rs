// SPDX-License-Identifier: Apache-2.0
//! `boot.firmware`: what the firmware says it is, where the configuration lists that.

use super::Unmet;
use crate::evidence::eventlog::{Event, What};
use crate::evidence::firmware::{FirmwarePart, unlisted};
use crate::pcr::Bank;

/// Nothing was measured into PCR 0 that is not listed. `events` are those of PCR 0, which the log explains.
pub(super) fn listed(events: &[Event], parts: &[FirmwarePart], bank: Bank) -> Result<(), Unmet> {
    let measured = events
        .iter()
        .filter(|event| !matches!(event.what, What::Separator));
    match unlisted(parts, measured, bank).into_iter().next() {
        Some(seen) => Err(Unmet::ForeignFirmware(seen)),
        None => Ok(()),
    }
}
