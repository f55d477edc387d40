// SPDX-License-Identifier: Apache-2.0
//! The logs of what was measured, for whoever wants to know what a PCR's value stands for. The quote proves them, so they
//! may be missing: then the service has nothing to explain a denial with.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use log::debug;

use crate::config::Tcti;

/// systemd's log of user-space measurements (systemd, `docs/TPM2_PCR_MEASUREMENTS.md`).
const USER_SPACE: &str = "run/log/systemd/tpm2-measure.log";

/// The longest log that is sent, in bytes. Firmware keeps some tens of KiB.
const LEN_MAX: u64 = 512 * 1024;

/// What was measured in this boot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Logs {
    /// By the firmware and what it started, in the TCG's format.
    pub firmware: Option<Vec<u8>>,
    /// By systemd and us.
    pub user_space: Option<Vec<u8>>,
}

impl Logs {
    /// Reads the logs below `top` of what was measured into a TPM.
    #[must_use]
    pub fn read(top: &Path, tcti: &Tcti) -> Self {
        Self {
            firmware: read(&top.join(tcti.firmware_log())),
            user_space: read(&top.join(USER_SPACE)),
        }
    }
}

/// The kernel's files have no length beforehand.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let done = File::open(path)
        .and_then(|file| file.take(LEN_MAX.saturating_add(1)).read_to_end(&mut bytes));
    match done {
        Ok(len) if len > 0 && u64::try_from(len).is_ok_and(|len| len <= LEN_MAX) => Some(bytes),
        Ok(len) => {
            debug!("{}: {len} bytes are not sent", path.display());
            None
        }
        Err(error) => {
            debug!("{}: {error}", path.display());
            None
        }
    }
}
