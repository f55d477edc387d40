// SPDX-License-Identifier: Apache-2.0
//! `nightlatchctl header check`: the rules of [`crate::header`], outside a boot. Nothing is ever written.
//!
//! **Never:** a byte written to the device it looks at.

use std::fmt;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Serialize;

use crate::config::{Profile, Volume};
use crate::error::{Doing, Error, Result};
use crate::header::{
    AREA_LEN, Area, Candidate, Checked, Content, DATA_OFFSET, Expect, Probe, superblock,
};
use crate::pcr::{Bank, Pcr};

/// What an accepted header says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The file or device.
    pub path: String,
    /// The profile whose template the header equals.
    pub profile: &'static str,
    /// The volume's UUID.
    pub uuid: String,
    /// What the volume is for, where the header says so.
    pub role: Option<&'static str>,
    /// The header's sequence number.
    pub seqid: u64,
    /// Whether the node had joined its cluster, by the token of profile `constellation`, which anybody can have written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialized: Option<bool>,
    /// Every keyslot.
    pub keyslots: Vec<u8>,
    /// Whether something is left in the place of other keyslots, which the next boot clears.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leftover: bool,
    /// The secret sealed to a TPM.
    pub tpm: Option<Sealed>,
    /// Whether dm-integrity's superblock was there to be checked.
    pub integrity_superblock: Superblock,
}

/// What a secret is sealed to, by its token. Only unsealing proves it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sealed {
    /// The keyslot it opens.
    pub keyslot: u8,
    /// The PCRs.
    pub pcrs: Vec<Pcr>,
    /// Their bank.
    pub bank: Bank,
    /// The fingerprint of the key that has to have signed what PCR 11 holds, where it is sealed to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The digest of the policy, in hexadecimal.
    pub policy_hash: String,
}

/// Whether dm-integrity's superblock was looked at.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Superblock {
    /// It is what the kernel writes.
    Accepted,
    /// The file holds a header area and no more.
    Absent,
}

/// Checks the header on a device, in an image of one, or in a copy of the header area alone.
///
/// Without a profile the header is held to the one it was made for.
pub fn check(profile: Option<Profile>, path: &Path) -> Result<Report> {
    examine(profile, path).doing(format_args!("checking {}", path.display()))
}

/// The header that [`check`] accepts, all of it.
pub(super) fn accepted(path: &Path) -> Result<Checked> {
    read(None, path).map(|(candidate, _)| candidate.checked)
}

/// The header on a volume's device that is one of our own profile, each copy of it that passes.
pub(super) fn candidates(path: &Path) -> Result<Vec<Candidate>> {
    let device = Device::read(path)?;
    let Content::Luks(copies) = device.content else {
        return Err(Error::refused("there is no header on it"));
    };
    copies.check(&device.area, Profile::Nightlatch1, &Expect::default())
}

/// The header on a volume's device, held to what the configuration says of the volume; nothing where there is none yet.
pub(super) fn of_volume(volume: &Volume, path: &Path) -> Result<Option<Checked>> {
    let device = Device::read(path)?;
    if !matches!(device.content, Content::Luks(_)) {
        return Ok(None);
    }
    let expect = Expect {
        role: Some(volume.role),
        volume: Some(volume.name.clone()),
        device_len: None,
    };
    let (candidate, _) = device.first(Some(volume.profile), expect)?;
    Ok(Some(candidate.checked))
}

fn examine(profile: Option<Profile>, path: &Path) -> Result<Report> {
    let (candidate, integrity_superblock) = read(profile, path)?;
    Ok(Report::new(path, candidate, integrity_superblock))
}

/// The first copy that passes.
fn read(profile: Option<Profile>, path: &Path) -> Result<(Candidate, Superblock)> {
    Device::read(path)?.first(profile, Expect::default())
}

/// A device, an image of one, or a copy of its header area.
struct Device {
    file: File,
    len: u64,
    area: Area,
    content: Content,
}

impl Device {
    fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        let (area, probe) = if is_header_alone(len) {
            let mut bytes = vec![0; AREA_LEN];
            file.read_exact_at(&mut bytes, 0)?;
            (Area::from_vec(bytes)?, Probe::Skipped)
        } else {
            Area::read(&file, len)?
        };
        let content = area.classify(probe)?;
        Ok(Self {
            file,
            len,
            area,
            content,
        })
    }

    fn first(self, profile: Option<Profile>, expect: Expect) -> Result<(Candidate, Superblock)> {
        let copies = match self.content {
            Content::Luks(copies) => copies,
            Content::Blank => {
                return Err(Error::refused("it is blank, there is no header to check"));
            }
            Content::Interrupted(marker) => {
                return Err(Error::refused(format_args!(
                    "provisioning of {} volume {} did not finish; the next boot starts it over",
                    marker.role.as_str(),
                    marker.uuid
                )));
            }
        };
        let only_header = is_header_alone(self.len);
        let expect = Expect {
            device_len: (!only_header).then_some(self.len),
            ..expect
        };
        let profile = profile.unwrap_or_else(|| copies.claimed_profile());
        let candidates = copies.check(&self.area, profile, &expect)?;
        let first = candidates.into_iter().next();
        let first = first.ok_or_else(|| Error::failure("no copy of the header passed"))?;
        let integrity_superblock = if only_header {
            Superblock::Absent
        } else {
            let mut bytes = [0; superblock::SUPERBLOCK_LEN];
            self.file.read_exact_at(&mut bytes, DATA_OFFSET)?;
            superblock::check(&bytes, self.len)?;
            Superblock::Accepted
        };
        Ok((first, integrity_superblock))
    }
}

fn is_header_alone(len: u64) -> bool {
    len == AREA_LEN as u64
}

impl Report {
    fn new(path: &Path, candidate: Candidate, integrity_superblock: Superblock) -> Self {
        let (seqid, leftover) = (candidate.seqid, candidate.has_leftover());
        let checked = candidate.checked;
        Self {
            path: path.display().to_string(),
            profile: checked.profile_name(),
            uuid: checked.uuid,
            role: checked.nightlatch.map(|token| token.role.as_str()),
            seqid,
            initialized: checked.initialized,
            keyslots: checked.keyslots,
            leftover,
            tpm: checked.tpm.map(|token| Sealed {
                keyslot: token.keyslot,
                pcrs: token.pcrs,
                bank: token.bank,
                key: token.key.map(|key| key.to_string()),
                policy_hash: hex::encode(token.policy_hash),
            }),
            integrity_superblock,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: accepted as {}", self.path, self.profile)?;
        writeln!(f, "  uuid       {}", self.uuid)?;
        if let Some(role) = self.role {
            writeln!(f, "  role       {role}")?;
        }
        writeln!(f, "  seqid      {}", self.seqid)?;
        if let Some(initialized) = self.initialized {
            let word = if initialized { "yes" } else { "no" };
            writeln!(f, "  joined     {word}, says its token")?;
        }
        writeln!(f, "  keyslots   {}", list(&self.keyslots))?;
        if self.leftover {
            let what = "of other keyslots, which the next boot clears";
            writeln!(f, "  leftover   {what}")?;
        }
        if let Some(tpm) = &self.tpm {
            let pcrs = list(&tpm.pcrs);
            writeln!(
                f,
                "  tpm        keyslot {}, PCRs {pcrs} of {}",
                tpm.keyslot, tpm.bank
            )?;
            if let Some(key) = &tpm.key {
                writeln!(f, "  signed     PCR 11, by the key {key}")?;
            }
        }
        match self.integrity_superblock {
            Superblock::Accepted => write!(f, "  integrity  superblock accepted"),
            Superblock::Absent => write!(f, "  integrity  no superblock in a copy of the header"),
        }
    }
}

fn list(items: &[impl fmt::Display]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

#[cfg(test)]
mod tests;
