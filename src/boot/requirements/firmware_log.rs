// SPDX-License-Identifier: Apache-2.0
//! The firmware's event log, as the kernel shows it.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::config::Tcti;
use crate::error::{Doing, Error, Result};
use crate::evidence::eventlog::{LOG_LEN_MAX, Log};

/// Reads the log of a TPM below `top`. A machine without one was not started by firmware that measures, and is refused like one whose log
/// says something else.
pub(super) fn read(top: &Path, tcti: &Tcti) -> Result<Log> {
    let path = top.join(tcti.firmware_log());
    let read = || -> Result<Log> {
        let mut bytes = Vec::new();
        // The kernel's files have no length beforehand. One more than fits is refused by whoever parses it.
        let most = u64::try_from(LOG_LEN_MAX).unwrap_or(u64::MAX);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::refused(
                    "there is no log of the firmware's measurements: start the machine by UEFI firmware that measures into \
                     this TPM",
                ));
            }
            file => file?,
        };
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(Log::firmware(&bytes)?)
    };
    read().doing(path.display())
}
