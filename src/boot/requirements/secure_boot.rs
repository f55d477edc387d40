// SPDX-License-Identifier: Apache-2.0
//! Whom the configuration lets vouch for the machine's start, as the rules over the firmware's log take it.

use std::path::Path;

use crate::config::{Config, SecureBoot};
use crate::error::{Doing, Error, Result};
use crate::evidence::start::{certificates, refused_beside_signed};

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
