// SPDX-License-Identifier: Apache-2.0
//! What the configuration wants of the machine's start, as the rules over the firmware's log take it.

use std::path::Path;

use crate::config::{Config, SecureBoot};
use crate::error::{Doing, Error, Result};
use crate::evidence::firmware::FirmwarePart;
use crate::evidence::start::{Expected, First, certificates, refused_beside_signed};
use crate::pcr::{Bank, Pcr};

/// The certificates, in DER, that alone may have vouched; none where Secure Boot is not required.
pub(super) fn authorities(top: &Path, config: &Config) -> Result<Option<Vec<Vec<u8>>>> {
    let Config { boot, tpm, .. } = config;
    if boot.secure_boot == SecureBoot::NotRequired {
        return Ok(None);
    }
    let mut all = Vec::new();
    for file in &boot.authorities {
        let found = file.read(top).and_then(|bytes| {
            certificates(&bytes).map_err(|refusal| {
                Error::config(format_args!("{}: {}", file.as_str(), refusal.why))
            })
        });
        all.extend(found.doing("boot.authorities")?);
    }
    if tpm.signed.is_some()
        && let Some(refusal) = all.iter().find_map(|it| refused_beside_signed(it))
    {
        return Err(Error::config(refusal)).doing("boot.authorities");
    }
    Ok(Some(all))
}

/// What the machine's start has to be.
pub(super) fn expected<'a>(config: &Config, authorities: Option<&'a [Vec<u8>]>) -> Expected<'a> {
    let bank = Bank::from(config.tpm.bank);
    let added = |pcr: Pcr| {
        let value = config
            .boot
            .added(pcr)
            .map(|value| value.as_bytes().to_vec());
        (pcr, value.unwrap_or_else(|| bank.zero()))
    };
    Expected {
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
