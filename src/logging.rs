// SPDX-License-Identifier: Apache-2.0
//! Where words go: the journal, else standard error. Neither ever stops a boot.
//!
//! Machines read fields: `log`'s key-values become journal fields in upper case (`volume = %name` becomes `VOLUME=`).
//!
//! **Never:** a secret, or a boot that stops because nobody takes its words.

use std::env;
use std::io::{self, Write as _};

use log::{Level, LevelFilter, Log, Metadata, Record, debug, error};
use sd_notify::NotifyState;
use systemd_journal_logger::JournalLog;

use crate::error::Error;

/// Set to `1` by a drop-in of the unit to log each step.
const DEBUG: &str = "NIGHTLATCH_DEBUG";

/// Starts logging in the name of the initrd's program. Steps and details are left out unless `NIGHTLATCH_DEBUG=1`.
pub fn init() {
    init_as("nightlatch");
}

/// Starts logging in the name of another program.
pub fn init_as(program: &str) {
    let detail = match env::var_os(DEBUG) {
        Some(value) if value == "1" => Detail::Steps,
        _ => Detail::Results,
    };
    let to: Box<dyn Log> = match JournalLog::new() {
        Ok(journal) => Box::new(
            journal
                .with_syslog_identifier(program.into())
                .with_extra_fields([("NIGHTLATCH_VERSION", env!("CARGO_PKG_VERSION"))]),
        ),
        // No journald yet, or none at all.
        Err(_) => Box::new(StandardError),
    };
    log::set_max_level(detail.of(env!("CARGO_CRATE_NAME")));
    if log::set_boxed_logger(Box::new(Sieve { detail, to })).is_err() {
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

/// Text of somebody else's for a terminal: in the place of everything that one might act upon, or that is no printable ASCII,
/// stands a question mark.
#[must_use]
pub fn printable(text: &str) -> String {
    let plain = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    text.chars().map(plain).collect()
}

/// The one line that ends a boot that failed, with its verdict for machines.
pub fn last_word(error: &Error) {
    let verdict = error.exit().as_str();
    error!(exit = error.exit().code(), verdict = verdict; "{verdict}: {error}");
    progress(&format!("{verdict}: {error}"));
}

/// How much is said.
#[derive(Clone, Copy, Debug)]
enum Detail {
    /// What this program says of itself, and what goes wrong in the crates it uses.
    Results,
    /// Each step, and all that the crates say, for debugging.
    Steps,
}

impl Detail {
    /// The most verbose level let through from `target`, which starts with the name of a crate.
    fn of(self, target: &str) -> LevelFilter {
        let name = target.split("::").next().unwrap_or_default();
        match (self, name) {
            (Self::Steps, _) => LevelFilter::Debug,
            (Self::Results, env!("CARGO_CRATE_NAME")) => LevelFilter::Info,
            // It tells each object it flushes, and calls each answer an error that it passes on to us, expected or not.
            (Self::Results, "tss_esapi") => LevelFilter::Off,
            (Self::Results, _) => LevelFilter::Warn,
        }
    }
}

/// Lets through what an administrator wants to read.
struct Sieve {
    detail: Detail,
    to: Box<dyn Log>,
}

impl Log for Sieve {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.detail.of(metadata.target()) && self.to.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.to.log(record);
        }
    }

    fn flush(&self) {
        self.to.flush();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_program_speaks_unless_something_is_wrong_or_being_debugged() {
        let is_said = |detail, target, level| {
            let sieve = Sieve {
                detail,
                to: Box::new(StandardError),
            };
            sieve.enabled(&Metadata::builder().target(target).level(level).build())
        };
        for (target, level, by_default, debugging) in [
            ("nightlatch", Level::Info, true, true),
            ("nightlatch::volume", Level::Warn, true, true),
            ("nightlatch::boot", Level::Debug, false, true),
            ("nightlatch_other", Level::Info, false, true),
            ("zbus::connection", Level::Info, false, true),
            ("zbus::connection", Level::Warn, true, true),
            ("tss_esapi::context", Level::Info, false, true),
            ("tss_esapi::context", Level::Error, false, true),
            ("zbus::connection", Level::Trace, false, false),
        ] {
            let said = [Detail::Results, Detail::Steps].map(|d| is_said(d, target, level));
            assert_eq!(said, [by_default, debugging], "{target} {level}");
        }
    }
}
