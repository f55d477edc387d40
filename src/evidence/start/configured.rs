// SPDX-License-Identifier: Apache-2.0
//! What a configuration wants of the machine's start.

use super::{Expected, First};
use crate::config::Config;
use crate::evidence::firmware::FirmwarePart;
use crate::pcr::{Bank, Pcr};

impl<'a> Expected<'a> {
    /// What the machine's start has to be; `authorities` are the certificates that the configuration names.
    #[must_use]
    pub fn of(config: &Config, authorities: Option<&'a [Vec<u8>]>) -> Self {
        let bank = Bank::from(config.tpm.bank);
        let added = |pcr: Pcr| {
            let value = config.boot.added(pcr);
            let value = value.map(|value| value.as_bytes().to_vec());
            (pcr, value.unwrap_or_else(|| bank.zero()))
        };
        Self {
            bank,
            authorities,
            first: match config.boot.loader {
                None => First::Image,
                Some(_) => First::Loader,
            },
            sealed: config.tpm.pcrs,
            added: [Pcr::KERNEL_CONFIG, Pcr::SYSTEM_EXTENSIONS].map(added),
            firmware: config.boot.firmware.as_ref().map(|parts| {
                let parts = parts.iter();
                parts
                    .map(|part| FirmwarePart::parse(bank, part.as_str()))
                    .collect()
            }),
        }
    }
}
