// SPDX-License-Identifier: Apache-2.0
//! systemd's userspace event log, `/run/log/systemd/tpm2-measure.log` (tpm2-util.c, `tpm2_userspace_log*`).
//!
//! JSON text sequences (RFC 7464). Writers lock the file before they extend and hold it until the record is on disk, so
//! that the order of records is the order of extends. While one is at it, the file's sticky bit is set; one found set
//! means that somebody died in between and a record is missing, which must stay visible.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use log::warn;
use nix::libc;
use serde::Serialize;

use crate::clock::boottime_us;
use crate::error::{Doing, Error, Result};
use crate::pcr::{Digests, Pcr};

/// Where systemd keeps the log, below the root.
pub const LOG_PATH: &str = "run/log/systemd/tpm2-measure.log";

/// What starts a record (RFC 7464, section 2.2).
const RECORD_SEPARATOR: u8 = 0x1e;

/// The mode of the log at rest.
const CLEAN: u32 = 0o600;

/// The mode of a log that may lack a record.
const DIRTY: u32 = 0o1600;

/// systemd's event log, opened anew for each record.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    boot_id: Option<String>,
}

/// What a record says about an extend, apart from the digests.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    #[serde(skip_serializing_if = "Option::is_none")]
    string: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
    timestamp: u64,
    #[serde(rename = "eventType")]
    kind: &'static str,
}

impl Event {
    /// The extend of a digest, or an HMAC, of `string`.
    #[must_use]
    pub fn string(kind: &'static str, string: &str) -> Self {
        Self {
            string: Some(string.into()),
            ..Self::empty(kind)
        }
    }

    /// The extend of the clusterID's digest.
    ///
    /// The digest is that of the raw bytes. As a `string` of hexadecimal digits the id would not match it, and pcrlock
    /// would call the record invalid; without a `string` it does not check (pcrlock.c,
    /// `event_log_record_validate_hash_userspace`). Of an event type it does not know it says so at debug level only.
    #[must_use]
    pub fn cluster_id(id: &[u8]) -> Self {
        Self {
            cluster_id: Some(hex::encode(id)),
            ..Self::empty("nightlatch-cluster-id")
        }
    }

    fn empty(kind: &'static str) -> Self {
        Self {
            string: None,
            cluster_id: None,
            boot_id: None,
            timestamp: boottime_us(),
            kind,
        }
    }
}

/// One record, its fields in systemd's order.
#[derive(Serialize)]
struct Record {
    pcr: Pcr,
    digests: Vec<Digest>,
    content_type: &'static str,
    content: Event,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Digest {
    hash_alg: &'static str,
    digest: String,
}

/// The locked log, marked dirty.
struct Writer {
    file: File,
    /// Somebody else left it dirty, so it is not ours to call clean.
    incomplete: bool,
}

impl EventLog {
    /// The log below `root`, which is `/` outside of tests. Nothing is opened yet.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        let boot_id = fs::read_to_string(root.join("proc/sys/kernel/random/boot_id"));
        Self {
            path: root.join(LOG_PATH),
            boot_id: boot_id.ok().map(|id| id.trim().replace('-', "")),
        }
    }

    /// Extends, and writes down what was extended. Only the extend can fail.
    pub fn record(
        &self,
        pcr: Pcr,
        event: Event,
        extend: impl FnOnce() -> Result<Digests>,
    ) -> Result<()> {
        let writer = self.lock().doing("locking it");
        // Where this fails the log stays dirty: nobody can tell whether the TPM extended.
        let digests = extend()?;
        let record = Record {
            pcr,
            digests: digests
                .iter()
                .map(|(bank, digest)| Digest {
                    hash_alg: bank.as_str(),
                    digest: hex::encode(digest),
                })
                .collect(),
            content_type: "systemd",
            content: Event {
                boot_id: self.boot_id.clone(),
                ..event
            },
        };
        if let Err(error) = writer.and_then(|writer| writer.append(&record)) {
            warn!("event log {}: {error}", self.path.display());
        }
        Ok(())
    }

    fn lock(&self) -> Result<Writer> {
        if let Some(directory) = self.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(CLEAN)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY)
            .open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(Error::failure("it is not a regular file"));
        }
        file.lock()?;
        let incomplete = file.metadata()?.mode() & libc::S_ISVTX != 0;
        file.set_permissions(Permissions::from_mode(DIRTY))?;
        Ok(Writer { file, incomplete })
    }
}

impl Writer {
    /// Writes the record; the lock goes with the file.
    fn append(mut self, record: &Record) -> Result<()> {
        let mut line = vec![RECORD_SEPARATOR];
        serde_json::to_writer(&mut line, record).map_err(Error::failure)?;
        line.push(b'\n');
        self.file.write_all(&line).doing("appending")?;
        self.file.sync_all().doing("flushing it")?;
        if !self.incomplete {
            self.file.set_permissions(Permissions::from_mode(CLEAN))?;
        }
        Ok(())
    }
}
