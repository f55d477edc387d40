// SPDX-License-Identifier: Apache-2.0
//! What is said of a volume that was opened here: what it is, what was replayed, and what nobody has checked.
//!
//! **Never:** a claim about the age of a disk.

use std::fmt;

use serde::Serialize;

use super::journal::Journal;
use crate::config::{Profile, Role};
use crate::volume::Usage;

const MIB: u64 = 1 << 20;

/// The memory that stands for the disk.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Memory {
    /// What was written; of what there was no room for nothing is counted.
    pub used_bytes: Option<u64>,
    /// Whether there was no room left, so that what was read after that were errors.
    pub is_full: bool,
}

impl Memory {
    pub(super) fn of(usage: Usage) -> Self {
        match usage {
            Usage::Used(bytes) => Self {
                used_bytes: Some(bytes),
                is_full: false,
            },
            Usage::Full => Self {
                used_bytes: None,
                is_full: true,
            },
        }
    }
}

/// An opened volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The device, as it was named.
    pub device: String,
    /// The mapping's device node.
    pub mapping: String,
    /// The LUKS UUID.
    pub uuid: String,
    /// The volume's name, where its header has one.
    pub volume: Option<String>,
    /// What it is for, where its header says so.
    pub role: Option<Role>,
    /// The profile whose template the header equals.
    pub profile: Profile,
    /// The boot that wrote the header, where it has an epoch.
    pub epoch: Option<u64>,
    /// The keyslot that was opened.
    pub keyslot: u8,
    /// What dm-integrity wrote to memory for its journal; nothing where it wrote to the disk.
    pub memory: Option<Memory>,
    /// What the file system has to replay.
    pub journal: Journal,
    /// Whether the two copies of the header differ, or something is left of other keyslots.
    pub needs_repair: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.memory {
            Some(_) => "read-only",
            None => "writable",
        };
        writeln!(f, "{}: opened {access} as {}", self.device, self.mapping)?;
        if let Some(volume) = &self.volume {
            let role = self.role.map_or("unknown", Role::as_str);
            writeln!(f, "  volume       {volume}, role {role}")?;
        }
        writeln!(f, "  uuid         {}", self.uuid)?;
        writeln!(f, "  keyslot      {}", self.keyslot)?;
        match self.epoch {
            Some(epoch) => writeln!(f, "  header       genuine by its MAC, of epoch {epoch}")?,
            None => writeln!(
                f,
                "  header       {}, which has no MAC: who wrote it is not known",
                self.profile.as_str()
            )?,
        }
        if self.needs_repair {
            let what = "its copies differ, as an interrupted boot leaves them; the newest genuine one is opened";
            writeln!(f, "               {what}")?;
        }
        match self.memory.and_then(|memory| memory.used_bytes) {
            Some(0) => writeln!(f, "  dm-integrity nothing to replay")?,
            Some(bytes) => writeln!(f, "  dm-integrity {} replayed, in memory", amount(bytes))?,
            None => writeln!(f, "  dm-integrity its journal was replayed, on the disk")?,
        }
        writeln!(f, "  file system  {}", self.journal.as_str())?;
        let age = "how old the disk is: without its node's TPM an old copy of it opens as well";
        writeln!(f, "  not checked  {age}")?;
        match self.memory {
            Some(_) => writeln!(f, "mount -o ro {} /mnt", self.mapping),
            None => writeln!(f, "mount {} /mnt", self.mapping),
        }
    }
}

/// A mapping that was removed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closed {
    /// Its name.
    pub mapping: String,
    /// The memory that stood for the disk; nothing where what was written went to the disk.
    pub memory: Option<Memory>,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.mapping;
        match self.memory {
            None => writeln!(f, "{name}: closed"),
            Some(Memory { is_full: true, .. }) => writeln!(
                f,
                "{name}: closed; its memory had no room left, so what was read at the end were errors: open it with a larger --memory; \
                 the disk is as it was"
            ),
            Some(Memory { used_bytes, .. }) => writeln!(
                f,
                "{name}: closed; {} in memory are thrown away, the disk is as it was",
                amount(used_bytes.unwrap_or_default())
            ),
        }
    }
}

/// A number of bytes as people read it: whole MiB, or KiB below one.
fn amount(bytes: u64) -> String {
    if bytes < MIB {
        format!("{} KiB", bytes.div_ceil(1024))
    } else {
        format!("{} MiB", bytes.div_ceil(MIB))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(memory: Option<Memory>, epoch: Option<u64>) -> Report {
        Report {
            device: "/dev/vdb".into(),
            mapping: "/dev/mapper/rescue-state".into(),
            uuid: "01234567-89ab-4cde-8f01-23456789abcd".into(),
            volume: epoch.map(|_| "state".into()),
            role: epoch.map(|_| Role::State),
            profile: if epoch.is_some() {
                Profile::Nightlatch1
            } else {
                Profile::Luks2Strict
            },
            epoch,
            keyslot: 0,
            memory,
            journal: Journal::ToReplay,
            needs_repair: false,
        }
    }

    fn used(bytes: u64) -> Memory {
        Memory::of(Usage::Used(bytes))
    }

    #[test]
    fn a_report_says_what_was_replayed_where_and_what_was_not_checked() {
        let said = report(Some(used(MIB + 1)), Some(7)).to_string();
        for line in [
            "/dev/vdb: opened read-only as /dev/mapper/rescue-state",
            "  volume       state, role state",
            "  header       genuine by its MAC, of epoch 7",
            "  dm-integrity 2 MiB replayed, in memory",
            "  file system  a log, which its mount replays",
            "mount -o ro /dev/mapper/rescue-state /mnt",
        ] {
            assert!(said.lines().any(|found| found == line), "{line}: {said}");
        }
        assert!(said.contains("not checked  how old the disk is"));

        let said = report(None, None).to_string();
        assert!(said.contains("opened writable"), "{said}");
        assert!(said.contains("luks2-strict, which has no MAC"), "{said}");
        assert!(said.contains("replayed, on the disk"), "{said}");
        assert!(
            said.ends_with("\nmount /dev/mapper/rescue-state /mnt\n"),
            "{said}"
        );
    }

    #[test]
    fn closing_says_what_is_thrown_away_and_whether_there_was_room() {
        let closed = |memory| {
            let mapping = "rescue-state".into();
            Closed { mapping, memory }.to_string()
        };
        assert_eq!(closed(None), "rescue-state: closed\n");
        let said = closed(Some(used(4096)));
        assert!(said.contains("4 KiB in memory are thrown away"), "{said}");
        let said = closed(Some(Memory::of(Usage::Full)));
        assert!(said.contains("no room left") && said.contains("larger --memory"));
    }
}
