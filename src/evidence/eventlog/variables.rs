// SPDX-License-Identifier: Apache-2.0
//! What a log has of the firmware's variables of Secure Boot, values and all (TCG PC Client Platform Firmware Profile, section
//! 3.3.4.8).

use super::describe::variable_of;
use super::{Log, Source};
use crate::pcr::{Bank, Pcr};

/// Where the length of the value is in `UEFI_VARIABLE_DATA`, behind the vendor and the length of the name, and where it ends
/// (section 10.2.6).
const VALUE_LEN_AT: usize = 24;
const VALUE_LEN_END: usize = 32;

/// A variable as it was measured into PCR 7. The digest proves its name and its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::evidence) struct Variable {
    /// Its place among the events of PCR 7, as [`Log::events`] counts.
    pub(in crate::evidence) place: usize,
    pub(in crate::evidence) name: String,
    pub(in crate::evidence) value: Vec<u8>,
    /// All that was measured.
    data: Vec<u8>,
}

impl Log {
    /// The variables that were measured into PCR 7, in order: those of the firmware and, as entries of `db`, who vouched.
    pub(in crate::evidence) fn variables(&self, bank: Bank) -> Vec<Variable> {
        let is_of_pcr = |pcr: u8| pcr == Pcr::SECURE_BOOT.index();
        let entries = self.entries.iter().filter(|entry| is_of_pcr(entry.pcr));
        let entries = entries.filter_map(|entry| Some((entry.digest(bank)?, &entry.source)));
        let measured = entries.enumerate().filter_map(|(place, (digest, source))| {
            let Source::Firmware { data, .. } = source else {
                return None;
            };
            let (name, value) = variable_of(data).ok()?;
            (bank.hash(data) == digest).then(|| Variable {
                place,
                name,
                value: value.to_vec(),
                data: data.clone(),
            })
        });
        measured.collect()
    }

    /// The same log with another value of a variable, in `bank` alone.
    pub(in crate::evidence) fn with_value(
        mut self,
        bank: Bank,
        variable: &Variable,
        value: &[u8],
    ) -> Option<Self> {
        let behind_len = variable.data.len().checked_sub(variable.value.len())?;
        let (vendor, name) = (
            variable.data.get(..VALUE_LEN_AT)?,
            variable.data.get(VALUE_LEN_END..behind_len)?,
        );
        let len = u64::try_from(value.len()).ok()?.to_le_bytes();
        let changed = [vendor, &len, name, value].concat();
        let mut of_pcr = self
            .entries
            .iter_mut()
            .filter(|entry| entry.pcr == Pcr::SECURE_BOOT.index() && entry.digest(bank).is_some());
        let entry = of_pcr.nth(variable.place)?;
        entry.digests = vec![(bank, bank.hash(&changed))];
        if let Source::Firmware { data, .. } = &mut entry.source {
            *data = changed;
        }
        Some(self)
    }
}
