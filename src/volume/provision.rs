// SPDX-License-Identifier: Apache-2.0
//! A new volume on a device that was proven blank.
//!
//! The order of writes makes an interruption harmless at any instant. First the provisioning marker is written, one sector
//! in a corner of the header area that the finished header does not use. Then come dm-integrity's superblock, the file
//! system and, after they are durable, the header: its two binary copies, then the rest. Last the marker is cleared.
//! While it is there the volume does not exist and the next boot starts again; once it is gone the volume is complete.
//! [`Marker`] knows which leftovers that order explains.

use std::path::Path;

use log::info;
use uuid::Uuid;

use super::filesystem::{self, OVERLAY_DIRS};
use super::luks::{self, Journal, LuksLabels};
use super::unlock::Passphrase;
use super::{Device, HeaderFile, How, Keyed, Luks, Meant};
use crate::anchor::judge::DeviceState;
use crate::config::{self, Profile, RootMode, Source, Wipe};
use crate::error::{Doing, Error, Result};
use crate::header::{
    Area, Candidate, Evidence, Expect, Form, LABEL, MARKER_LEN, MARKER_OFFSET, Marker,
    NightlatchToken, SlotPair, Stamp, Tpm2Token,
};
use crate::key::{KEY_LEN, Secret, fill_random, volume_key_id};
use crate::logging;
use crate::tpm::{Policy, Quote, Sealed};

/// The keyslots of a new volume.
const PAIR: SlotPair = SlotPair::First;

/// Where a new file system is mounted for a moment.
const SCRATCH: &str = "/run/nightlatch/new";

/// A device that may be formatted.
#[derive(Debug)]
pub struct New {
    device: Device,
    /// What an interrupted first boot left. Its UUID is used again, so that whatever else is left belongs to it.
    marker: Option<Marker>,
    uuid: Uuid,
}

/// The secret of a new volume.
#[derive(Debug)]
pub struct FirstSecret {
    /// The secret.
    pub secret: Secret,
    /// Where it came from.
    pub source: Source,
}

impl FirstSecret {
    /// One that was drawn just now.
    pub fn generated() -> Result<Self> {
        Ok(Self {
            secret: Secret::random()?,
            source: Source::Generate,
        })
    }
}

/// Takes the UUID and the id of the volume key of a volume that is about to be made.
pub type BeginProvisioning<'a> = Box<dyn FnOnce(Uuid, &[u8; KEY_LEN]) -> Result<Stamp> + 'a>;

/// Takes what to qualify a quote with.
pub type Attest<'a> = Box<dyn FnOnce(&[u8; 32]) -> Result<Option<Quote>> + 'a>;

/// What outside of the disk takes part in making a volume. Both calls come, in this order, when the volume key is known
/// and before the disk is written to.
pub struct ProvisionHooks<'a> {
    /// Records that the volume with this UUID and this id of its volume key is being made, and says which stamp its header
    /// gets.
    pub begin_provisioning: BeginProvisioning<'a>,
    /// Quotes the creation, given what to qualify the quote with.
    pub attest: Attest<'a>,
}

impl std::fmt::Debug for ProvisionHooks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProvisionHooks(..)")
    }
}

impl ProvisionHooks<'_> {
    /// Nobody: the header gets an epoch, nothing records it, and there is no evidence.
    #[must_use]
    pub fn none(epoch: u64) -> Self {
        Self {
            begin_provisioning: Box::new(move |_, _| Ok(Stamp { epoch, nonce: None })),
            attest: Box::new(|_| Ok(None)),
        }
    }
}

impl New {
    /// The UUID is the one an interrupted first boot chose, or a new one.
    pub(super) fn on(device: Device, marker: Option<Marker>) -> Result<Self> {
        let uuid = match &marker {
            Some(marker) => Uuid::parse_str(&marker.uuid).map_err(Error::failure)?,
            None => new_uuid()?,
        };
        Ok(Self {
            device,
            marker,
            uuid,
        })
    }

    /// The UUID the volume will have.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// What the device holds, as the anchor sees it.
    #[must_use]
    pub fn device_state(&self) -> DeviceState {
        match &self.marker {
            Some(_) => DeviceState::Interrupted(self.uuid),
            None => DeviceState::Blank,
        }
    }

    /// Draws the volume key, marks the device, and formats a header in memory for the secret.
    ///
    /// `seal` is the only way to the TPM; it is called where `tpm` is among the volume's sources.
    pub fn prepare(
        self,
        volume: &config::Volume,
        policy: Policy,
        first: FirstSecret,
        seal: impl FnOnce(&Secret) -> Result<Sealed>,
        hooks: ProvisionHooks<'_>,
    ) -> Result<Keyed> {
        let sealed = if volume.sources.contains(&Source::Tpm) {
            Some(seal(&first.secret).doing("sealing")?)
        } else {
            None
        };
        let token = sealed.map(|sealed| token(sealed, policy, PAIR.tpm()));
        self.make(volume, first, token, hooks)
    }

    /// Formats a header in memory for a secret the caller has.
    pub fn format(
        self,
        volume: &config::Volume,
        secret: Secret,
        tpm: Option<Tpm2Token>,
        hooks: ProvisionHooks<'_>,
    ) -> Result<Keyed> {
        let source = Source::Generate;
        self.make(volume, FirstSecret { secret, source }, tpm, hooks)
    }

    fn make(
        mut self,
        volume: &config::Volume,
        FirstSecret { secret, source }: FirstSecret,
        tpm: Option<Tpm2Token>,
        hooks: ProvisionHooks<'_>,
    ) -> Result<Keyed> {
        let volume_key = luks::new_volume_key()?;
        let uuid = self.uuid;
        let mut mine = our_token(volume, uuid, &volume_key, hooks)?;
        mine.own_secret = source == Source::Generate;
        let values = tpm.as_ref().and_then(|token| token.values.as_ref());
        mine.form = Form::with(&[], values);
        self.mark(volume, uuid).doing("marking the device")?;
        let header = HeaderFile::blank()?;
        let labels = LuksLabels {
            label: LABEL,
            subsystem: volume.role.as_str(),
            uuid,
        };
        self.device.require_same()?;
        let mut luks = Luks::format(&header, self.device.path(), &labels, &volume_key)?;
        let passphrase = Passphrase::Raw.of(&secret);
        luks.add_keyslot(PAIR.secret(), volume.kdf, &passphrase, &volume_key)?;
        luks.add_token(&mine.to_json())?;
        if let Some(token) = tpm {
            let passphrase = Passphrase::Base64.of(&secret);
            luks.add_keyslot(PAIR.tpm(), config::Kdf::Pbkdf2, &passphrase, &volume_key)?;
            luks.add_token(&token.to_json())?;
        }
        drop(luks);
        let candidate = tidy(volume, &header, self.device.len_bytes(), &volume_key)?;
        Ok(Keyed {
            uuid: uuid.to_string(),
            salt: Some(mine.salt),
            stamp: Some(mine.stamp()),
            key_id: mine.key_id,
            needs_repair: false,
            how: How::Formatted,
            source,
            keyslot: PAIR.secret(),
            device: self.device,
            header: HeaderFile::sealed(&candidate)?,
            candidate,
            volume_key,
            secret,
            next: None,
            rekeyed: None,
            changed: None,
        })
    }

    /// From here on the device counts as an interrupted first boot until the header is committed.
    fn mark(&mut self, volume: &config::Volume, uuid: Uuid) -> Result<()> {
        self.device.lock_for_writing()?;
        if self.marker.is_some() {
            return Ok(());
        }
        let marker = Marker {
            uuid: uuid.to_string(),
            role: volume.role,
        };
        self.device
            .write_durably(&marker.encode(), MARKER_OFFSET as u64)
    }
}

/// Our token for a new volume, after the hooks have heard of it.
fn our_token(
    volume: &config::Volume,
    uuid: Uuid,
    volume_key: &Secret,
    hooks: ProvisionHooks<'_>,
) -> Result<NightlatchToken> {
    let mut salt = [0; KEY_LEN];
    fill_random(&mut salt)?;
    let profile = Profile::Nightlatch1;
    let text = uuid.to_string();
    let key_id = volume_key_id(volume_key, &text)?;
    let stamp = (hooks.begin_provisioning)(uuid, &key_id).doing("announcing the volume")?;
    let epoch = stamp.epoch;
    let qualifying = Evidence::qualifying(profile, &text, &key_id, epoch);
    let quote = (hooks.attest)(&qualifying).doing("attesting the volume")?;
    Ok(NightlatchToken {
        form: Form::First,
        role: volume.role,
        volume: volume.name.clone(),
        salt,
        epoch,
        nonce: stamp.nonce,
        key_id,
        evidence: quote.map(|quote| Evidence {
            epoch,
            ak: quote.ak,
            quote: quote.attest,
            signature: quote.signature,
        }),
        own_secret: false,
        mac: [0; 32],
    })
}

/// Clears what libcryptsetup filled with random bytes and no keyslot uses, checks the result as that of others is, and
/// gives it its MAC.
fn tidy(
    volume: &config::Volume,
    header: &HeaderFile,
    device_len: u64,
    volume_key: &Secret,
) -> Result<Candidate> {
    let area = header.tidied()?;
    let expect = Expect {
        role: Some(volume.role),
        volume: Some(volume.name.clone()),
        device_len: Some(device_len),
    };
    area.sign(&expect, volume_key)
        .doing("checking the new header")
}

/// Makes the file system on the mapped volume, and commits the header once everything below it is durable.
pub(super) fn finish(volume: &config::Volume, luks: &mut Luks, keyed: &Keyed) -> Result<()> {
    let name = volume.name.as_str();
    let mapping = volume.name.mapping();
    let mapping = Path::new(&mapping);
    match volume.wipe {
        Wipe::Edges => filesystem::wipe_edges(mapping).doing("wiping head and tail")?,
        Wipe::Full => wipe_full(name, mapping, luks, keyed).doing("wiping")?,
    }
    filesystem::make(mapping, volume.file_system, name).doing("making the file system")?;
    if volume.mode == Some(RootMode::Overlay) {
        let scratch = Path::new(SCRATCH).join(name);
        filesystem::populate(mapping, volume.file_system, &OVERLAY_DIRS, &scratch)
            .doing("preparing the overlay")?;
    }
    filesystem::flush(mapping).doing("flushing the file system")?;
    commit(keyed).doing("committing the header")?;
    info!(volume = name; "formatted {} with {}", keyed.device.path().display(), volume.file_system.as_str());
    Ok(())
}

/// Overwrites every sector through a mapping without a journal, which would write everything twice.
fn wipe_full(name: &str, mapping: &Path, luks: &mut Luks, keyed: &Keyed) -> Result<()> {
    luks.deactivate(name)?;
    Meant::on_disk(name, keyed, Journal::Off).activate(luks)?;
    filesystem::wipe_full(mapping, &mut |percent| tell_progress(name, percent))?;
    luks.deactivate(name)?;
    Meant::on_disk(name, keyed, Journal::On).activate(luks)
}

/// Tells journal and service manager how far a full wipe has come.
fn tell_progress(name: &str, percent: u64) {
    logging::progress(&format!("volume {name}: wiping: {percent} %"));
    if percent.is_multiple_of(5) {
        info!(volume = name; "wiping: {percent} %");
    }
}

/// Writes the header, and only when it is durable clears the marker.
fn commit(keyed: &Keyed) -> Result<()> {
    let area = Area::from_vec(keyed.header.read()?)?;
    let device = &keyed.device;
    for (offset, binary) in area.binary_headers() {
        device.write_durably(binary, offset)?;
    }
    device.write_durably(&area.before_marker(), 0)?;
    device.write_durably(&[0; MARKER_LEN], MARKER_OFFSET as u64)
}

/// The token for what was sealed, whose keyslot is `keyslot`.
pub(super) fn token(sealed: Sealed, policy: Policy, keyslot: u8) -> Tpm2Token {
    Tpm2Token {
        keyslot,
        private: sealed.private,
        public: sealed.public,
        pcrs: policy.pcrs.into(),
        bank: policy.bank,
        policy_hash: sealed.policy_hash,
        key: sealed.key,
        values: sealed.values,
        srk: sealed.srk,
    }
}

/// A random UUID (RFC 9562, version 4). libcryptsetup would draw one too late: the marker names it first.
fn new_uuid() -> Result<Uuid> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
