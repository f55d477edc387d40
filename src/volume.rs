// SPDX-License-Identifier: Apache-2.0
//! A volume's way from a block device to a mapping: examined, keyed, opened.
//!
//! Each stage is a type, so no stage can be skipped: what is [`Found`] on the device becomes [`Keyed`] once its volume key
//! is known, and [`Opened`] once it is mapped, compared with what was meant and, if it is new, committed to the disk.
//!
//! **Never:** libcryptsetup given the header on the disk: it sees the copy in memory that passed the rules.

mod activate;
mod device;
mod filesystem;
mod header_file;
mod luks;
mod provision;
mod recovery;
mod rekey;
mod rescue;
pub mod root;
mod snapshot;
pub mod table;
mod unlock;
mod verity;

use std::os::unix::fs::FileExt;
use std::path::Path;

use log::info;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use activate::Meant;
pub use device::Device;
use header_file::HeaderFile;
use luks::{Journal, Luks};
pub use provision::{Attest, BeginProvisioning, FirstSecret, New, ProvisionHooks};
pub use recovery::Added;
pub use rekey::Rekeyed;
pub use rescue::{Access, close_rescue, examine_rescue, open_rescue};
pub use snapshot::Usage;
pub use unlock::{Ask, Existing, SecretProviders, Unseal};

use crate::anchor::judge::{DeviceState, VolumeProof};
use crate::config::{self, Format, Source};
use crate::error::{Doing, Error, Result};
use crate::header::{self, Area, Candidate, Content, Expect, Stamp, Step, superblock};
use crate::key::{KEY_LEN, Secret};
use crate::parallel::join;
use crate::protocol::VolumeClaim;

/// What a volume's device holds.
#[derive(Debug)]
pub enum Found {
    /// Nothing, proven: it may be formatted.
    New(New),
    /// A volume whose header has been checked.
    Existing(Box<Existing>),
}

/// A volume whose key is known.
#[derive(Debug)]
pub struct Keyed {
    device: Device,
    header: HeaderFile,
    /// What `header` holds, as it was checked.
    candidate: Candidate,
    /// What was made of it: the header with another secret or with other recovery keyslots, not written yet.
    next: Option<Candidate>,
    /// What [`Keyed::rekey`] made it for, where recovery keyslots alone are not all.
    rekeyed: Option<Rekeyed>,
    volume_key: Secret,
    secret: Secret,
    /// The LUKS UUID, lower case.
    pub uuid: String,
    /// The measurement salt of the `nightlatch` token; foreign profiles have none.
    pub salt: Option<[u8; KEY_LEN]>,
    /// The boot that wrote the header; foreign profiles do not say.
    pub stamp: Option<Stamp>,
    /// What the volume key is recognised by.
    pub key_id: [u8; KEY_LEN],
    /// Whether the two copies of the header on the disk were not the same, or something was left of other keyslots.
    /// [`Opened::renew`] puts that right.
    pub needs_repair: bool,
    /// Whether it is new.
    pub how: How,
    /// Where the secret came from.
    pub source: Source,
    /// The keyslot that was opened or, on a new volume, the first one.
    pub keyslot: u8,
    /// What became of its secret in this boot, once that is on the disk.
    pub changed: Option<Rekeyed>,
}

/// How a volume came to be open.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It was blank, and was formatted.
    Formatted,
    /// It existed, and was unlocked.
    Unlocked,
}

impl How {
    /// The word the record uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Formatted => "formatted",
            Self::Unlocked => "unlocked",
        }
    }
}

/// A mapped volume with a file system.
#[derive(Debug)]
pub struct Opened {
    keyed: Keyed,
    /// Its header one change later, not written yet.
    renewed: Option<Candidate>,
}

impl Found {
    /// What the device holds, as the anchor sees it.
    #[must_use]
    pub fn device_state(&self) -> DeviceState {
        match self {
            Self::New(new) => new.device_state(),
            Self::Existing(_) => DeviceState::Volume,
        }
    }

    /// What a key service is told of it before its key is known. Nothing of that is proven.
    pub fn claim(&self, volume: &config::Volume) -> Result<VolumeClaim> {
        let (uuid, epoch) = match self {
            Self::New(new) => (new.uuid().to_string(), None),
            Self::Existing(existing) => existing.claim()?,
        };
        Ok(VolumeClaim {
            uuid,
            role: volume.role,
            epoch,
        })
    }
}

impl Keyed {
    /// What the anchor is compared with; foreign profiles have no epoch, and so nothing to compare.
    pub fn proof(&self) -> Result<Option<VolumeProof>> {
        let Some(stamp) = self.stamp else {
            return Ok(None);
        };
        Ok(Some(VolumeProof {
            uuid: Uuid::parse_str(&self.uuid).map_err(Error::failure)?,
            key_id: self.key_id,
            stamp,
        }))
    }

    /// The digest of the policy that a secret of it was sealed to the TPM under, as the header says, which is authentic.
    #[must_use]
    pub fn sealed_under(&self) -> Option<[u8; 32]> {
        let token = self.candidate.checked.tpm.as_ref();
        token.map(|token| token.policy_hash)
    }

    /// The epoch of the header; foreign profiles have none.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.stamp.map(|stamp| stamp.epoch)
    }

    /// Its header one change later, with this stamp and a new MAC; after a change of its keyslots the one with the others.
    /// Nothing is written.
    fn renewed(&self, stamp: Stamp) -> Result<Candidate> {
        if self.how == How::Formatted || self.stamp.is_none() {
            return Err(Error::failure("this header is not one to renew"));
        }
        let base = self.next.as_ref().unwrap_or(&self.candidate);
        base.renewed(stamp, &self.volume_key)
    }

    /// The 96-byte volume key, for the measurement of the volume's identity.
    #[must_use]
    pub fn volume_key(&self) -> &Secret {
        &self.volume_key
    }

    /// The volume's secret, for the derivation of the clusterID.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl Opened {
    /// What is known of the volume.
    #[must_use]
    pub fn keyed(&self) -> &Keyed {
        &self.keyed
    }

    /// Writes the header that [`open`] made for the next epoch; nothing where it made none.
    ///
    /// One copy is durable before the other is touched, and the first one written is never the only good one. So an
    /// interruption leaves at least one copy that is whole and has its MAC. Keyslots that it does not have any more are
    /// cleared as well.
    pub fn renew(&mut self) -> Result<()> {
        let Some(next) = self.renewed.take() else {
            return Ok(());
        };
        let keyed = &mut self.keyed;
        keyed.device.require_same()?;
        keyed.device.lock_for_writing()?;
        for step in next.steps() {
            take_step(&keyed.device, &step).doing("writing the renewed header")?;
        }
        keyed.candidate = next.written();
        keyed.next = None;
        keyed.changed = keyed.rekeyed.take();
        keyed.stamp = unlock::stamp(&keyed.candidate);
        keyed.needs_repair = false;
        Ok(())
    }
}

/// One step of writing a header, durable when this returns.
fn take_step(device: &Device, step: &Step<'_>) -> Result<()> {
    match step {
        Step::Write(offset, bytes) => device.write_durably(bytes, *offset),
        Step::Verify(offset, bytes) => device.require_written(bytes, *offset),
        Step::Clear(range) => device.write_durably(&vec![0; range.len()], range.start as u64),
    }
}

/// Reads the device once and decides what it holds. Nothing is written; all that is neither proven blank nor an intact
/// volume of the configured profile is refused.
pub fn examine(volume: &config::Volume) -> Result<Found> {
    let device = Device::open(volume.device.as_path())?;
    let (area, probe) = Area::read(&device.uncached()?, device.len_bytes())?;
    match area.classify(probe)? {
        Content::Blank => {
            may_format(volume, &device, "the device is blank")?;
            Ok(Found::New(New::on(device, None)?))
        }
        Content::Interrupted(marker) if marker.role == volume.role => {
            may_format(volume, &device, "an earlier first boot was interrupted")?;
            Ok(Found::New(New::on(device, Some(marker))?))
        }
        Content::Interrupted(marker) => Err(Error::refused(format_args!(
            "rule F23: an interrupted first boot of a volume of role {}, expected {}; is it the right disk?",
            marker.role.as_str(),
            volume.role.as_str()
        ))),
        Content::Luks(copies) => {
            let expect = Expect {
                role: Some(volume.role),
                volume: Some(volume.name.clone()),
                device_len: Some(device.len_bytes()),
            };
            let candidates = copies
                .check(&area, volume.profile, &expect)
                .doing("checking header")?;
            check_superblock(&device).doing("checking dm-integrity superblock")?;
            let existing = Existing::new(device, candidates);
            Ok(Found::Existing(Box::new(existing)))
        }
    }
}

/// The kernel reads this block from the disk again; what it then maps is compared with what was meant.
fn check_superblock(device: &Device) -> Result<()> {
    let mut block = [0; superblock::SUPERBLOCK_LEN];
    device
        .file()
        .read_exact_at(&mut block, header::DATA_OFFSET)
        .map_err(Error::refused)?;
    superblock::check(&block, device.len_bytes())
}

fn may_format(volume: &config::Volume, device: &Device, why: &str) -> Result<()> {
    let min_len = volume.file_system.min_device_len();
    if device.len_bytes() < min_len {
        return Err(Error::refused(format_args!(
            "the device has {} bytes, {} needs at least {min_len}",
            device.len_bytes(),
            volume.file_system.as_str()
        )));
    }
    match volume.format {
        Format::IfBlank => {
            info!(volume = volume.name.as_str(); "{why}: it will be formatted");
            Ok(())
        }
        Format::Never => Err(Error::refused(format_args!(
            "{why} and format = \"never\"; attach the right disk, or set format = \"if-blank\" in the image"
        ))),
    }
}

/// Maps the volume, compares the live tables with what was meant and, where the volume is new, makes its file system and
/// commits its header to the disk as the very last step.
///
/// `next` is of a volume of profile `nightlatch-1` that existed: meanwhile its header with that stamp is made, which
/// [`Opened::renew`] writes. The kernel keeps activation waiting for the disk, so that costs no time.
pub fn open(volume: &config::Volume, keyed: Keyed, next: Option<Stamp>) -> Result<Opened> {
    let renew = || next.map(|stamp| keyed.renewed(stamp)).transpose();
    let (renewed, mapped) = join(renew, || map(volume, &keyed));
    mapped?;
    let renewed = renewed?;
    Ok(Opened { keyed, renewed })
}

fn map(volume: &config::Volume, keyed: &Keyed) -> Result<()> {
    let name = volume.name.as_str();
    keyed.device.require_same()?;
    let mut luks = Luks::load(&keyed.header, keyed.device.path())?;
    Meant::on_disk(name, keyed, Journal::On).activate(&mut luks)?;
    if keyed.how == How::Formatted {
        provision::finish(volume, &mut luks, keyed)?;
    }
    Ok(())
}

/// Removes the mapping of a volume of a boot that failed.
pub fn close(volume: &config::Volume) -> Result<()> {
    let name = volume.name.as_str();
    if !Path::new(&volume.name.mapping()).exists() {
        return Ok(());
    }
    Luks::of_mapping(name)?.deactivate(name)
}
