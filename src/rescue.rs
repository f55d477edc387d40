// SPDX-License-Identifier: Apache-2.0
//! A volume opened on a machine that is not its node, by a key that a person has, to get at the data.
//!
//! [`Found::examine`] holds the header to the rules of a boot, [`Found::unlock`] lets the volume key say whether it is genuine, and
//! [`Unlocked`] maps it: read-only, which leaves the disk as it is byte for byte, or writable. The host that stored the disk is
//! the attacker here as well; what only the node's TPM knows, the age of the disk, nobody can tell here, and the report says so.
//!
//! **Never:** a TPM or a key service asked, an epoch counted, or a file system mounted.

mod journal;
mod report;

use std::path::Path;

use uuid::Uuid;

pub use self::journal::Journal;
pub use self::report::{Closed, Memory, Report};
use crate::config::Profile;
use crate::error::{Doing, Result};
use crate::key::Brought;
use crate::volume::{self, Access, Existing, Keyed};

/// What every mapping made here begins with: no volume of a node is called so, since names of volumes have no dash.
pub const PREFIX: &str = "rescue-";

/// How long a mapping's name may be, in bytes: device-mapper takes 127 (Linux, `include/uapi/linux/dm-ioctl.h`, `DM_NAME_LEN`), and
/// what is below has a suffix.
const NAME_LEN_MAX: usize = 100;

/// How much memory a volume that is read takes at most, unless said otherwise, in bytes: the journals of dm-integrity and of the
/// file system have 64 MiB each at most, and replaying one writes what it holds to its place and the journal anew.
pub const MEMORY_BYTES: u64 = 256 << 20;

/// The name of a mapping, where it is one that can have been made here.
pub fn mapping_name(text: &str) -> std::result::Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let rest = text.strip_prefix(PREFIX).unwrap_or_default();
    if rest.is_empty() || text.len() > NAME_LEN_MAX || !text.chars().all(is_plain) {
        return Err(format!(
            "expected the name of a mapping that nightlatchctl open has made: {PREFIX} and lower-case letters, digits and dashes"
        ));
    }
    Ok(text.to_owned())
}

/// A volume whose header has been checked.
#[derive(Debug)]
pub struct Found {
    device: String,
    existing: Existing,
}

impl Found {
    /// Reads the device once and checks the header. Without a profile it has to be one of nightlatch's own; `uuid` is that of
    /// the volume which is meant.
    pub fn examine(device: &Path, profile: Option<Profile>, uuid: Option<Uuid>) -> Result<Self> {
        let existing = volume::examine_rescue(device, profile, uuid)
            .doing(format_args!("examining {}", device.display()))?;
        Ok(Self {
            device: device.display().to_string(),
            existing,
        })
    }

    /// The volume key by what a person has; nothing is mapped.
    pub fn unlock(self, key: &Brought) -> Result<Unlocked> {
        let keyed = self
            .existing
            .unlock_by(key)
            .doing(format_args!("unlocking {}", self.device))?;
        Ok(Unlocked {
            device: self.device,
            keyed,
        })
    }
}

/// A volume whose key is known, and whose header that key has shown to be genuine where the profile has a MAC.
#[derive(Debug)]
pub struct Unlocked {
    device: String,
    keyed: Keyed,
}

impl Unlocked {
    /// What its mapping is called, if `wished` says nothing else: by the volume's name, or its UUID where it has none.
    #[must_use]
    pub fn mapping(&self, wished: Option<&str>) -> String {
        let own = self.keyed.volume_name();
        format!("{PREFIX}{}", wished.or(own).unwrap_or(&self.keyed.uuid))
    }

    /// What it is called where a person is asked about it.
    #[must_use]
    pub fn title(&self) -> String {
        match self.keyed.volume_name() {
            Some(name) => format!("volume {name} ({})", self.keyed.uuid),
            None => format!("volume {}", self.keyed.uuid),
        }
    }

    /// Maps it so that the disk stays as it is. What is written meanwhile goes to memory.
    pub fn open_read_only(&self, mapping: &str, memory_bytes: u64) -> Result<Report> {
        self.open(mapping, Access::ReadOnly { memory_bytes })
    }

    /// Maps it so that what is written goes to the disk.
    pub fn open_writable(&self, mapping: &str) -> Result<Report> {
        self.open(mapping, Access::Writable)
    }

    fn open(&self, mapping: &str, access: Access) -> Result<Report> {
        let usage = volume::open_rescue(mapping, &self.keyed, access)
            .doing(format_args!("opening {} as {mapping}", self.device))?;
        let path = format!("/dev/mapper/{mapping}");
        Ok(Report {
            device: self.device.clone(),
            uuid: self.keyed.uuid.clone(),
            volume: self.keyed.volume_name().map(str::to_owned),
            role: self.keyed.role(),
            profile: self.keyed.profile(),
            epoch: self.keyed.epoch(),
            keyslot: self.keyed.keyslot,
            memory: usage.map(Memory::of),
            journal: Journal::on(Path::new(&path)),
            needs_repair: self.keyed.needs_repair,
            mapping: path,
        })
    }
}

/// Removes a mapping made here. One that is in use stays.
pub fn close(mapping: &str) -> Result<Closed> {
    let usage = volume::close_rescue(mapping).doing(format_args!("closing {mapping}"))?;
    Ok(Closed {
        mapping: mapping.to_owned(),
        memory: usage.map(Memory::of),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mapping_of_a_node_has_a_name_that_is_closed_here() {
        for name in ["rescue-state", "rescue-0-1"] {
            assert_eq!(mapping_name(name).unwrap(), name);
        }
        let long = format!("{PREFIX}{}", "a".repeat(NAME_LEN_MAX));
        for name in [
            "state",
            "rescue-",
            "rescue",
            "rescue-../a",
            "rescue-A",
            "",
            &long,
        ] {
            assert!(mapping_name(name).is_err(), "{name}");
        }
        assert!(crate::config::VolumeName::try_from("rescue-state".to_owned()).is_err());
    }
}
