// SPDX-License-Identifier: Apache-2.0
//! `boot.firmware`: what the firmware says it is, where the configuration lists that.

use super::registers::{Separator, replays_to};
use super::{Expected, Unmet};
use crate::evidence::eventlog::{Log, What};
use crate::evidence::registers::{Registers, Values};
use crate::pcr::{Pcr, PcrSet};

/// The log explains PCR 0, and nothing was measured there that is not listed.
pub(super) fn listed(
    log: &Log,
    values: &Values,
    expected: &Expected<'_>,
    separator: Separator,
) -> Result<(), Unmet> {
    let Some(parts) = &expected.firmware else {
        return Ok(());
    };
    let bank = expected.bank;
    if !replays_to(log, values, bank, Pcr::FIRMWARE, separator)? {
        return Err(Unmet::Unexplained { pcr: Pcr::FIRMWARE });
    }
    let events = log.events(bank, Registers::from(PcrSet::of(&[Pcr::FIRMWARE])));
    let mut measured = events
        .iter()
        .filter(|event| !matches!(event.what, What::Separator))
        .peekable();
    if measured.peek().is_none() {
        return Err(Unmet::ForeignFirmware("nothing".into()));
    }
    match measured.find(|event| !parts.iter().any(|part| part.is(event, bank))) {
        Some(event) => Err(Unmet::ForeignFirmware(format!(
            "{} with {}",
            event.what,
            hex::encode(&event.digest)
        ))),
        None => Ok(()),
    }
}
