// SPDX-License-Identifier: Apache-2.0
//! What PCR 7 says of a boot: whether Secure Boot was on, and who vouched for what was started.
//!
//! The firmware measures the variables of Secure Boot, its state first, then a separator, and after that each entry of `db`
//! that let something run, once (TCG PC Client Platform Firmware Profile, section 3.3.4.8). Labels in a log are the machine's
//! own: an entry of `db` may be called a variable. So after the separator there may be nothing but authorities, and before it
//! each variable once.
//!
//! **Never:** what else is in `db` counts, or whatever a first boot happened to find.

use std::collections::BTreeSet;

use super::eventlog::{Event, What};

/// What the events of PCR 7 say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SecureBoot<'a> {
    /// Whether it was on; nothing where the log does not prove it.
    pub is_on: Option<bool>,
    /// Entries of `db` that vouched for a program, in order.
    pub authorities: Vec<&'a [u8]>,
    /// What is none of that, and not one of the firmware's variables. A text there is the firmware's word that it can be debugged
    /// (TCG PC Client Platform Firmware Profile, section 3.3.4.8), which is no proof of anything.
    pub others: Vec<&'a Event>,
}

impl<'a> SecureBoot<'a> {
    /// Reads the events of PCR 7, in order. What the TPM has in PCR 7 has to follow from them.
    pub fn of(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut seen = Self::default();
        let mut names = BTreeSet::new();
        let mut is_first = true;
        let mut is_separated = false;
        for event in events {
            match &event.what {
                // It may come first, and says nothing of what comes after.
                What::Text { .. } => {
                    if !event.what.is_systemds_separator() {
                        seen.others.push(event);
                    }
                    continue;
                }
                What::SecureBoot(is_on) if is_first => seen.is_on = Some(*is_on),
                What::Variable(name) if !is_separated && names.insert(name) => {}
                What::Separator if !is_separated => is_separated = true,
                What::Authority(entry) => seen.authorities.push(entry),
                What::SecureBoot(_)
                | What::Variable(_)
                | What::Separator
                | What::Program { .. }
                | What::Driver { .. }
                | What::CommandLine(_)
                | What::Section(_)
                | What::ClusterId(_)
                | What::PartitionTable
                | What::Tagged { .. }
                | What::Said { .. } => seen.others.push(event),
            }
            is_first = false;
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Registers;
    use crate::evidence::eventlog::Log;
    use crate::evidence::fixture::{FirmwareLog, utf16};
    use crate::pcr::Bank;

    /// What is read of a log: the state, who vouched, and the other events.
    fn read(change: impl FnOnce(&mut FirmwareLog)) -> (Option<bool>, Vec<Vec<u8>>, Vec<String>) {
        let mut log = FirmwareLog::new();
        change(&mut log);
        let log = Log::firmware(&log.0).unwrap();
        let events = log.events(Bank::Sha256, Registers::of(&[7]).unwrap());
        let seen = SecureBoot::of(&events);
        (
            seen.is_on,
            seen.authorities
                .iter()
                .map(|entry| entry.to_vec())
                .collect(),
            seen.others
                .iter()
                .map(|event| event.what.to_string())
                .collect(),
        )
    }

    fn variable(log: &mut FirmwareLog, kind: u32, name: &str, value: &[u8]) {
        let units = utf16(name);
        let data = [
            &[
                0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67,
                0x65, 0x6f,
            ][..],
            &u64::try_from(name.len()).unwrap().to_le_bytes(),
            &u64::try_from(value.len()).unwrap().to_le_bytes(),
            &units[..units.len() - 2],
            value,
        ]
        .concat();
        log.event(7, kind, &data, &data);
    }

    const CONFIG: u32 = 0x8000_0001;
    const AUTHORITY: u32 = 0x8000_00e0;

    #[test]
    fn an_honest_boot_has_variables_a_separator_and_who_vouched() {
        let seen = read(|log| {
            log.secure_boot(true);
            variable(log, CONFIG, "db", b"a list");
            variable(log, CONFIG, "dbx", b"");
            log.event(7, 4, &[0; 4], &[0; 4]).authority(b"mine");
        });
        assert_eq!(seen, (Some(true), vec![b"mine".to_vec()], vec![]));
    }

    #[test]
    fn firmware_that_can_be_debugged_is_told_beside_the_state() {
        let seen = read(|log| {
            log.event(7, 0x8000_0007, b"UEFI Debug Mode", b"UEFI Debug Mode");
            log.secure_boot(true).event(7, 4, &[0; 4], &[0; 4]);
            log.event(7, 5, b"os-separator", b"os-separator");
        });
        assert_eq!(seen.0, Some(true));
        assert_eq!(seen.2, ["EV_EFI_ACTION \"UEFI Debug Mode\""]);
    }

    #[test]
    fn the_state_is_what_came_first() {
        let seen = read(|log| {
            log.secure_boot(false).secure_boot(true);
        });
        assert_eq!(seen, (Some(false), vec![], vec!["Secure Boot on".into()]));
        let seen = read(|log| {
            variable(log, CONFIG, "db", b"");
            log.secure_boot(true);
        });
        assert_eq!(seen.0, None);
        assert_eq!(seen.2, ["Secure Boot on"]);
        assert_eq!(read(|_| ()), (None, vec![], vec![]));
    }

    #[test]
    fn an_authority_cannot_be_told_as_a_variable() {
        // The same bytes, called a variable of the configuration: before the separator db is there twice, after it nothing
        // of the kind may be.
        let entry = [&[0x0e; 16][..], b"the host's"].concat();
        let twice = read(|log| {
            log.secure_boot(true);
            variable(log, CONFIG, "db", b"a list");
            variable(log, CONFIG, "db", &entry);
            log.event(7, 4, &[0; 4], &[0; 4]);
        });
        assert_eq!(twice.2, ["variable \"db\""]);
        let after = read(|log| {
            log.secure_boot(true).event(7, 4, &[0; 4], &[0; 4]);
            variable(log, CONFIG, "db", &entry);
        });
        assert_eq!(after.2, ["variable \"db\""]);
        let said = read(|log| {
            log.secure_boot(true).event(7, 4, &[0; 4], &[0; 4]);
            variable(log, AUTHORITY, "db", &entry);
        });
        assert_eq!(said.1, [b"the host's".to_vec()]);
    }

    #[test]
    fn what_is_only_said_is_something_else() {
        let seen = read(|log| {
            log.secure_boot(true).event(7, 4, &[0; 4], &[0; 4]);
            log.event(7, 0x8000_0007, b"another", b"harmless");
            variable(log, AUTHORITY, "MokList", b"a key of shim's");
            log.event(7, 4, &[0; 4], &[0; 4]);
        });
        assert_eq!(
            seen.2,
            [
                "EV_EFI_ACTION, said to be \"harmless\"",
                "variable \"MokList\"",
                "separator"
            ]
        );
    }
}
