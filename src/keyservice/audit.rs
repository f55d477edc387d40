// SPDX-License-Identifier: Apache-2.0
//! The audit log: a line of JSON for each admission, release, report and denial.
//!
//! A line is in the file before the answer leaves, or there is no answer: what the service gave away is known even if it
//! is killed at that moment. Lines reach the disk within [`SYNC_EVERY`], so a machine that loses power forgets no more
//! than that.
//!
//! **Never:** a line changed or taken away, or a secret.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

pub use crate::clock::utc as time;
use crate::error::{Doing, Error, Result};

/// How long a line may be in memory only.
pub const SYNC_EVERY: Duration = Duration::from_secs(1);

/// One line.
#[derive(Debug, Default, Serialize)]
pub struct Line<'a> {
    /// When, RFC 3339.
    pub time: String,
    /// `admission`, `release`, `report`, `denial`, `failure`, `forget`, `readmit`, `cancel-readmit` or
    /// `readmission`; of the KMS `kms-failure`, `kms-stop` or `kms-resume`.
    pub event: &'static str,
    /// The step of the protocol, or `kms`.
    pub step: &'static str,
    /// The address of the client, or the KMS and its key.
    pub peer: String,
    /// The id of the endorsement key, as far as it is known; proven from the admission on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ek: Option<&'a str>,
    /// The volumes it was about.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub volumes: &'a [String],
    /// What was asked for, beside a volume's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<&'a str>,
    /// The image, as the policy calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<&'a str>,
    /// The check that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<&'a str>,
    /// What was expected and what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'a str>,
    /// What a report says was accepted of the volume in that boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<&'a str>,
    /// The certificate of the operator who made the service do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<&'a str>,
}

/// The file.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    open: Mutex<Open>,
    is_dirty: AtomicBool,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Whether the last line may have got there in part only.
    is_torn: bool,
}

impl Audit {
    /// Opens the file, and makes it where there is none.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new(append(path)?),
            is_dirty: AtomicBool::new(false),
        })
    }

    /// Adds a line.
    pub fn add(&self, line: &Line<'_>) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(Error::failure)?;
        text.push(b'\n');
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // What is left of a torn line must not take this one with it.
        if open.is_torn {
            text.insert(0, b'\n');
        }
        let written = open.file.write_all(&text);
        open.is_torn = written.is_err();
        written
            .map_err(Error::temporary)
            .doing("writing to the audit log")?;
        drop(open);
        self.is_dirty.store(true, Ordering::Release);
        Ok(())
    }

    /// Has what was added reach the disk.
    pub fn sync(&self) -> Result<()> {
        if !self.is_dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let file = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .file
            .try_clone()?;
        file.sync_data().doing("writing the audit log to its disk")
    }

    /// The last `len` bytes of the file, or all of it.
    pub fn tail(&self, len: u64) -> Result<Vec<u8>> {
        let read = || {
            let mut file = File::open(&self.path)?;
            let start = file.metadata()?.len().saturating_sub(len);
            file.seek(SeekFrom::Start(start))?;
            let mut tail = Vec::new();
            file.take(len).read_to_end(&mut tail)?;
            Ok::<_, std::io::Error>(tail)
        };
        match read() {
            // It was renamed, and nothing was written since.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            read => read.doing(format_args!(
                "reading the audit log {}",
                self.path.display()
            )),
        }
    }

    /// Goes on in a new file where the old one was renamed.
    pub fn reopen(&self) -> Result<()> {
        // A disk that is full may be why there is to be a new file.
        let synced = self.sync();
        let open = append(&self.path)?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        synced
    }
}

/// Opens the file, whose last line may be torn where the machine lost its power.
fn append(path: &Path) -> Result<Open> {
    let open = || {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let mut last = [b'\n'];
        if file.metadata()?.is_file() && file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok::<_, std::io::Error>(Open {
            is_torn: last != [b'\n'],
            file,
        })
    };
    open().doing(format_args!("opening the audit log {}", path.display()))
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_and_a_renamed_file_is_left() {
        let path = std::env::temp_dir().join(format!("nightlatch-audit-{}", std::process::id()));
        let old = path.with_extension("old");
        let audit = Audit::open(&path).unwrap();
        let line = |event| Line {
            event,
            time: time(1_795_594_338),
            ..Line::default()
        };
        audit.add(&line("release")).unwrap();
        std::fs::rename(&path, &old).unwrap();
        audit.add(&line("denial")).unwrap();
        audit.reopen().unwrap();
        audit.add(&line("admission")).unwrap();
        let events = |path: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(path).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            lines
                .map(|line: serde_json::Value| {
                    assert_eq!(line["time"], "2026-11-25T08:12:18Z");
                    line["event"].as_str().unwrap().to_owned()
                })
                .collect()
        };
        assert_eq!(events(&old), ["release", "denial"]);
        assert_eq!(events(&path), ["admission"]);
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&old).unwrap();
    }

    #[test]
    fn a_line_after_a_torn_one_stands_by_itself() {
        let name = format!("nightlatch-audit-torn-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, b"{\"event\":\"rel").unwrap();
        let line = Line {
            event: "denial",
            ..Line::default()
        };
        let add = |audit: &Audit| audit.add(&line).unwrap();
        let events = || -> Vec<Option<String>> {
            let text = std::fs::read_to_string(&path).unwrap();
            let event = |line: &str| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                Some(line["event"].as_str()?.to_owned())
            };
            text.lines().map(event).collect()
        };
        let audit = Audit::open(&path).unwrap();
        add(&audit);
        add(&audit);
        let whole = || Some("denial".to_owned());
        assert_eq!(events(), [None, whole(), whole()]);
        // As a write leaves it that came to nothing in the middle.
        audit.open.lock().unwrap().is_torn = true;
        audit.open.lock().unwrap().file.write_all(b"{").unwrap();
        add(&audit);
        add(&audit);
        assert_eq!(events()[3..], [None, whole(), whole()]);
        std::fs::remove_file(&path).unwrap();
    }
}
