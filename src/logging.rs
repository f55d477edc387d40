// SPDX-License-Identifier: Apache-2.0
//! Where words go: the journal, else standard error. Neither ever stops a boot.
//!
//! Machines read fields: `log`'s key-values become journal fields in upper case (`volume = %name` becomes `VOLUME=`).

use std::env;
use std::io::{self, Write as _};

use log::{Level, LevelFilter, Log, Metadata, Record, debug, error};
use sd_notify::NotifyState;
use systemd_journal_logger::JournalLog;

use crate::error::Error;

/// Set to `1` by a drop-in of the unit to log each step.
const DEBUG: &str = "NIGHTLATCH_DEBUG";

/// Starts logging. Steps and details are left out unless `NIGHTLATCH_DEBUG=1`.
pub fn init() {
    let installed = match JournalLog::new() {
        Ok(journal) => journal
            .with_syslog_identifier("nightlatch".into())
            .with_extra_fields([("NIGHTLATCH_VERSION", env!("CARGO_PKG_VERSION"))])
            .install(),
        // No journald yet, or none at all.
        Err(_) => log::set_logger(&StandardError),
    };
    log::set_max_level(match env::var_os(DEBUG) {
        Some(value) if value == "1" => LevelFilter::Debug,
        _ => LevelFilter::Info,
    });
    if installed.is_err() {
        debug!("logging was started before");
    }
}

/// Says what the program is busy with: in `systemctl status`, and in the log at debug level.
pub fn progress(what: &str) {
    debug!("{what}");
    if let Err(error) = sd_notify::notify(&[NotifyState::Status(what)]) {
        debug!("telling systemd the status: {error}");
    }
}

/// The one line that ends a boot that failed, with its verdict for machines.
pub fn last_word(error: &Error) {
    let verdict = error.exit().word();
    error!(exit = error.exit().code(), verdict = verdict; "{verdict}: {error}");
    progress(&format!("{verdict}: {error}"));
}

/// Plain lines, with the prefix journald understands on standard error (sd-daemon(3)).
struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let priority = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 5,
            Level::Debug => 6,
            Level::Trace => 7,
        };
        // Where standard error is closed there is nowhere left to complain.
        drop(writeln!(io::stderr(), "<{priority}>{}", record.args()));
    }

    fn flush(&self) {}
}
