// SPDX-License-Identifier: Apache-2.0
//! The values of PCRs against the log, and against each other.

use super::{Expected, Unmet};
use crate::evidence::eventlog::{Log, SYSTEMD_SEPARATOR};
use crate::evidence::registers::{Registers, Values};
use crate::pcr::{Bank, Pcr, PcrSet};

/// The PCRs of the firmware that it extends.
const FIRMWARE: std::ops::RangeInclusive<u8> = 0..=7;
/// The PCR of the operating system's loaders that it extends too, of those up to [`LAST_EXTENDED`].
const LOADED_FILES: u8 = 9;
/// The last of the PCRs that somebody has extended once the system runs. Those above are for additions and identities.
const LAST_EXTENDED: u8 = 11;

/// Whether systemd's separator follows what the firmware measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Separator {
    Present,
    Absent,
}

impl Separator {
    /// The value of a PCR that had `value` before it.
    pub(super) fn after(self, bank: Bank, value: &[u8]) -> Vec<u8> {
        match self {
            Self::Present => bank.extended(value, &bank.hash(SYSTEMD_SEPARATOR.as_bytes())),
            Self::Absent => value.to_vec(),
        }
    }
}

/// Whether the separator is there, once the log, which replays to `replayed`, explains the PCRs that it has to. It is in all of the firmware's PCRs or in
/// none: half of it is somebody else's work.
pub(super) fn explained(
    replayed: &Values,
    values: &Values,
    expected: &Expected<'_>,
) -> Result<Separator, Unmet> {
    let bank = expected.bank;
    let of = |pcr: u8| {
        let (seen, replayed) = (values.get(&pcr)?, replayed.get(&pcr)?);
        [Separator::Absent, Separator::Present]
            .into_iter()
            .find(|separator| separator.after(bank, replayed) == *seen)
    };
    let [first, second] = expected.explained();
    let separator = |pcr: Pcr| of(pcr.index()).ok_or(Unmet::Unexplained { pcr });
    let separated = separator(first)?;
    separator(second)?;
    let is_other = |pcr: &u8| of(*pcr).is_some_and(|other| other != separated);
    match FIRMWARE.clone().find(is_other) {
        Some(pcr) => Err(Unmet::HalfSeparated {
            pcr,
            other: first.index(),
        }),
        None => Ok(separated),
    }
}

/// Whether the log explains the value of one more PCR, once it is known whether the separator is there.
pub(super) fn replays_to(
    replayed: &Values,
    values: &Values,
    bank: Bank,
    pcr: Pcr,
    separator: Separator,
) -> bool {
    let follows = replayed
        .get(&pcr.index())
        .map(|value| separator.after(bank, value));
    follows.is_some() && follows.as_ref() == values.get(&pcr.index())
}

/// Nothing was added to the image but what the configuration names.
pub(super) fn nothing_else_added(
    log: &Log,
    replayed: &Values,
    values: &Values,
    expected: &Expected<'_>,
    separator: Separator,
) -> Result<(), Unmet> {
    let bank = expected.bank;
    for (pcr, value) in &expected.added {
        let seen = values.get(&pcr.index());
        if seen != Some(&separator.after(bank, value)) {
            let events = log.events(bank, Registers::from(PcrSet::of(&[*pcr])));
            let before = replayed.get(&pcr.index());
            let explained = before.filter(|before| seen == Some(&separator.after(bank, before)));
            return Err(Unmet::Added {
                pcr: *pcr,
                seen: explained.or(seen).map(hex::encode).unwrap_or_default(),
                is_explained: explained.is_some(),
                expected: (*value != bank.zero()).then(|| hex::encode(value)),
                events: events.iter().map(|event| event.what.to_string()).collect(),
            });
        }
    }
    Ok(())
}

/// Somebody has extended each PCR of the system's start that secrets are sealed to: a value that nobody makes up binds
/// nothing.
pub(super) fn extended(
    values: &Values,
    expected: &Expected<'_>,
    separator: Separator,
) -> Result<(), Unmet> {
    let bank = expected.bank;
    let is_untouched = |pcr: &Pcr| {
        let index = pcr.index();
        let is_separated = FIRMWARE.contains(&index) || index == LOADED_FILES;
        let untouched = if is_separated {
            separator.after(bank, &bank.zero())
        } else {
            bank.zero()
        };
        index <= LAST_EXTENDED && values.get(&index).is_none_or(|seen| *seen == untouched)
    };
    match expected.sealed.iter().find(is_untouched) {
        Some(pcr) => Err(Unmet::NeverExtended { pcr }),
        None => Ok(()),
    }
}
