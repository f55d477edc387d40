// SPDX-License-Identifier: Apache-2.0
//! The boot record `/run/nightlatch/status.json`: what happened to each volume, what was measured, how long it took.
//!
//! It outlives the initrd, anybody may read it, and it contains no secret.
//!
//! [`Recorder`] notes things as they happen, [`Status`] is the record, [`svg()`] its picture.
//!
//! **Never:** a secret, or a field that a newer program may not add: whoever reads leaves out what it does not know.

mod recorder;
mod svg;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use recorder::Recorder;
pub use svg::svg;

use crate::anchor::failure::FailurePlace;
use crate::anchor::requests::Rotation;
use crate::config::{
    Enroll, FileSystem, Level, Profile, RecoveryKeyRule, Role, SecureBoot, Source,
};
use crate::error::{Doing, Error, Result};
use crate::mounted::Mounted;
use crate::pcr::{Bank, Pcr};
use crate::volume::How;

/// Where the record lives, below the root.
pub const STATUS_PATH: &str = "run/nightlatch/status.json";

/// The version of the schema this program writes and reads. It grows when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// PCR values: bank, then register, then hexadecimal digits.
pub type PcrValues = BTreeMap<Bank, BTreeMap<Pcr, String>>;

/// The record of one boot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// The version of this schema, [`SCHEMA`].
    pub schema: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// When the program started, in microseconds of `CLOCK_BOOTTIME`.
    pub started_us: u64,
    /// `done`, or the verdict's word.
    pub result: String,
    /// The exit code.
    pub exit: u8,
    /// What went wrong, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How the machine was started, once that was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartStatus>,
    /// The volumes that were opened, in the order of the configuration.
    pub volumes: Vec<VolumeStatus>,
    /// The volumes that need not be there, and that the boot went on without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<AwayStatus>,
    /// What was mounted where, as it was found right before the hand-over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mounted>,
    /// What the PCRs held.
    pub pcrs: Pcrs,
    /// The clusterID, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The key service, where it gave keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceStatus>,
    /// The anchor's counter, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The PCR that was extended so that nothing can be unsealed any more, where that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence_pcr: Option<Pcr>,
    /// Where a boot that fails leaves its sentence in the TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<FailurePlace>,
    /// What was done when, in the order it was begun.
    pub steps: Vec<Step>,
}

/// How the machine was started.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StartStatus {
    /// Whether Secure Boot has to be on; it is then, and what ran was vouched for by the listed authorities alone.
    pub secure_boot: SecureBoot,
    /// What the configuration does without, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gives_up: Vec<String>,
    /// The programs that the firmware started: the Authenticode hash, and what the log says of it.
    pub programs: Vec<String>,
    /// Boot options that the firmware tried in vain before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried_in_vain: Vec<String>,
}

/// One volume that was opened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// What it is for: `state` or `root`.
    pub role: Role,
    /// The device as configured.
    pub device: String,
    /// The LUKS2 UUID, in lower case.
    pub uuid: String,
    /// The profile its header conforms to.
    pub profile: Profile,
    /// Whether it is new.
    pub how: How,
    /// Where its secret came from.
    pub source: Source,
    /// The keyslot the secret opened.
    pub keyslot: u8,
    /// The file system on it.
    pub file_system: FileSystem,
    /// The level of the anchor in force.
    pub anchor: Level,
    /// What the operator had allowed for this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// Whether the node made its secret itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_secret: bool,
    /// Whether its secret was changed to the key service's in this boot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enrolled: bool,
    /// What of its secret was made anew in this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Rotation>,
    /// The keyslots of its recovery keys.
    #[serde(default)]
    pub recovery_keyslots: Vec<u8>,
    /// Whether it is to have one.
    #[serde(default)]
    pub recovery_key: RecoveryKeyRule,
    /// On whose word a later boot does that, if the service gives another secret than it has; none where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enroll: Option<Enroll>,
    /// The mapping, `/dev/mapper/<name>`.
    pub mapping: String,
    /// Where the final system sees it, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
}

/// One volume that the boot went on without.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AwayStatus {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The device as configured.
    pub device: String,
    /// The verdict's word: what it would be of a boot that had to have the volume.
    pub result: String,
    /// The verdict's exit code.
    pub exit: u8,
    /// Why, in one line.
    pub error: String,
}

/// The key service's part in a boot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// The address that gave keys.
    pub url: String,
    /// How long it took, in microseconds, waiting included.
    pub took_us: u64,
}

/// What the PCRs held, before anything was measured and after everything was.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pcrs {
    /// Before the first extend.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: PcrValues,
    /// After the last one.
    #[serde(default)]
    pub after: PcrValues,
}

/// One step of the boot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Step {
    /// What was done, as in an error's sentence.
    pub name: String,
    /// The volume it was done to; none where it concerns all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// When it began, in microseconds since the program started.
    pub start_us: u64,
    /// When it ended.
    pub end_us: u64,
    /// Whether it ended in an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

impl VolumeStatus {
    /// Whether this boot has seen that its secret is the key service's.
    #[must_use]
    pub fn is_services(&self) -> bool {
        self.source == Source::Service || self.enrolled
    }

    /// Whose its secret is.
    #[must_use]
    pub fn whose_secret(&self) -> &'static str {
        match (self.is_services(), self.own_secret) {
            (true, _) => "service",
            (false, true) => "own",
            (false, false) => "unknown",
        }
    }
}

impl Step {
    /// How long it took, in microseconds.
    #[must_use]
    pub fn duration_us(&self) -> u64 {
        self.end_us.saturating_sub(self.start_us)
    }
}

impl Status {
    /// Reads the record below `root`, which is `/` outside of tests.
    pub fn load(root: &Path) -> Result<Self> {
        let path = root.join(STATUS_PATH);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::unavailable(
                "there is none: nightlatch opened nothing in this boot; \"journalctl -b -u nightlatch\" has what it said",
            )),
            other => other.map_err(Error::from),
        };
        text.and_then(|text| Self::parse(&text))
            .doing(format_args!("reading {}", path.display()))
    }

    /// Parses a record. Fields this program does not know are ignored; another schema is an error.
    pub fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_str(text).map_err(Error::failure)?;
        if schema != SCHEMA {
            return Err(Error::failure(format_args!(
                "expected schema {SCHEMA}, found {schema}: it was written by another version of nightlatch"
            )));
        }
        serde_json::from_str(text).map_err(Error::failure)
    }

    /// The record as JSON.
    pub fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).map_err(Error::failure)?;
        text.push('\n');
        Ok(text)
    }

    /// Writes the record below `root`. A reader sees the old one or the new one, never a part.
    pub fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(STATUS_PATH);
        self.publish(&path)
            .doing(format_args!("writing {}", path.display()))
    }

    fn publish(&self, path: &Path) -> Result<()> {
        // Modes are not left to the umask, which is 0077 for this service.
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        }
        let unfinished = path.with_extension("json.new");
        let mut file = File::create(&unfinished)?;
        file.write_all(self.to_json()?.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        fs::rename(&unfinished, path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
