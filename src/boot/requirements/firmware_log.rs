// SPDX-License-Identifier: Apache-2.0
//! The firmware's event log, as the kernel shows it.

use std::path::Path;

use super::read_bounded;
use crate::config::Tcti;
use crate::error::{Doing, Result};
use crate::evidence::eventlog::{LOG_LEN_MAX, Log};

/// Reads the log of a TPM below `top`. A machine without one was not started by firmware that measures, and is refused like one whose log
/// says something else.
pub(super) fn read(top: &Path, tcti: &Tcti) -> Result<Log> {
    let path = top.join(tcti.firmware_log());
    let read = || -> Result<Log> {
        let none = "there is no log of the firmware's measurements: start the machine by UEFI firmware that measures into \
                    this TPM";
        let bytes = read_bounded(&path, LOG_LEN_MAX, none)?;
        Ok(Log::firmware(&bytes)?)
    };
    read().doing(path.display())
}
