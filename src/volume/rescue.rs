// SPDX-License-Identifier: Apache-2.0
//! A volume on a machine that is not its node: examined and mapped without a configuration, and without a change of its disk
//! unless that is asked for.
//!
//! **Never:** a header renewed: the node finds the epoch that it left.

use std::fs;
use std::path::Path;

use uuid::Uuid;

use super::snapshot::{self, Snapshot, Usage};
use super::{Device, Existing, Journal, Keyed, Luks, Meant, check_superblock};
use crate::config::{Profile, Role, VolumeName};
use crate::error::{Doing, Error, Result};
use crate::header::{Area, Content, Copies, Expect};

/// What becomes of what is written to a mapping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// It goes to memory, of so many bytes, and is thrown away.
    ReadOnly {
        /// How much there is at most.
        memory_bytes: u64,
    },
    /// It goes to the disk.
    Writable,
}

impl Keyed {
    /// The volume's name, where its header has one, which is authentic.
    #[must_use]
    pub fn volume_name(&self) -> Option<&str> {
        let token = self.candidate.checked.nightlatch.as_ref();
        token.map(|token| VolumeName::as_str(&token.volume))
    }

    /// What it is for, where its header says so, which is authentic.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        let token = self.candidate.checked.nightlatch.as_ref();
        token.map(|token| token.role)
    }

    /// The profile whose template its header equals.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.candidate.checked.profile
    }
}

/// Reads the device once and checks the header on it, as a boot does. Nothing is written.
///
/// Without a profile it has to be one of ours: the MAC proves what it says. `uuid` is that of the volume which is meant, where
/// that is known.
pub fn examine_rescue(
    path: &Path,
    profile: Option<Profile>,
    uuid: Option<Uuid>,
) -> Result<Existing> {
    require_device(path)?;
    let device = Device::open(path)?;
    let (area, probe) = Area::read(&device.uncached()?, device.len_bytes())?;
    let copies = match area.classify(probe)? {
        Content::Luks(copies) => copies,
        Content::Blank => return Err(Error::refused("it is blank: there is nothing to open")),
        Content::Interrupted(_) => {
            return Err(Error::refused(
                "its first boot was interrupted: there is nothing to open yet",
            ));
        }
    };
    let profile = profile.map_or_else(|| own_profile(&copies), Ok)?;
    let expect = Expect {
        device_len: Some(device.len_bytes()),
        ..Expect::default()
    };
    let candidates = copies
        .check(&area, profile, &expect)
        .doing("checking header")?;
    check_superblock(&device).doing("checking dm-integrity superblock")?;
    let existing = Existing::new(device, candidates);
    let (found, _) = existing.claim()?;
    match uuid {
        Some(meant) if meant.hyphenated().to_string() != found => Err(Error::refused(
            format_args!("it is volume {found}, expected {meant}; attach the right disk"),
        )),
        _ => Ok(existing),
    }
}

/// What a boot says of a device that is not there does not fit here: no configuration names it.
fn require_device(path: &Path) -> Result<()> {
    let found = fs::metadata(path).map_err(Error::unavailable)?;
    if found.is_file() {
        return Err(Error::refused(
            "it is a file: make it a device first, with losetup --find --show --read-only",
        ));
    }
    Ok(())
}

fn own_profile(copies: &Copies) -> Result<Profile> {
    match copies.claimed_profile() {
        Profile::Nightlatch1 => Ok(Profile::Nightlatch1),
        other @ (Profile::Luks2Strict | Profile::Constellation) => {
            Err(Error::refused(format_args!(
                "its header is not one of nightlatch's own, so no MAC shows who wrote it; if the volume was made like that, \
                 say --profile {}",
                other.as_str()
            )))
        }
    }
}

/// Maps the volume as `name`, and compares the live tables with what was meant. What dm-integrity had to write for that is
/// told where it went to memory.
pub fn open_rescue(name: &str, keyed: &Keyed, access: Access) -> Result<Option<Usage>> {
    keyed.device.require_same()?;
    match access {
        Access::ReadOnly { memory_bytes } => open_in_memory(name, keyed, memory_bytes).map(Some),
        Access::Writable => {
            let mut luks = Luks::load(&keyed.header, keyed.device.path())?;
            Meant::on_disk(name, keyed, Journal::On).activate(&mut luks)?;
            Ok(None)
        }
    }
}

fn open_in_memory(name: &str, keyed: &Keyed, memory_bytes: u64) -> Result<Usage> {
    let below = below(name);
    let snapshot = Snapshot::over(&keyed.device, &below, &keyed.uuid, memory_bytes)?;
    let mut luks = Luks::load(&keyed.header, snapshot.path())?;
    let meant = Meant {
        name,
        keyed,
        below: snapshot.number(),
        journal: Journal::On,
    };
    let activated = meant.activate(&mut luks);
    let usage = snapshot::usage(&below)?;
    let usage = usage.ok_or_else(|| Error::failure("the snapshot is gone"))?;
    if usage == Usage::Full {
        if activated.is_ok() {
            luks.deactivate(name)?;
        }
        return Err(Error::refused(
            "what dm-integrity's journal has to have replayed needs more memory than there may be; the disk is as it was: \
             say --memory with more",
        ));
    }
    activated?;
    snapshot.keep();
    Ok(usage)
}

/// Removes the mapping `name` and what is below it, and says how much of the memory was used, where it was in memory.
pub fn close_rescue(name: &str) -> Result<Option<Usage>> {
    let below = below(name);
    let usage = snapshot::usage(&below)?;
    let is_mapped = Path::new("/dev/mapper").join(name).exists();
    if !is_mapped && usage.is_none() {
        return Err(Error::unavailable(format_args!(
            "there is no mapping {name}"
        )));
    }
    if is_mapped {
        Luks::of_mapping(name)?.deactivate_unused(name)?;
    }
    if usage.is_some() {
        snapshot::remove(&below)?;
    }
    Ok(usage)
}

/// What the snapshot is called.
fn below(name: &str) -> String {
    format!("{name}_snapshot")
}
