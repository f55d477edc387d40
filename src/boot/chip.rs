// SPDX-License-Identifier: Apache-2.0
//! The TPM and what it remembers of this node, and how the volumes' keys are got with both.
//!
//! What it remembers takes as long to read as a keyslot takes to open, so it is read beside that where nobody has to know it
//! before: in a volume that the TPM alone opens. Nothing is done with the volume's key before the anchor has had its say.

use std::sync::{Mutex, MutexGuard};
use std::thread;

use log::warn;
use uuid::Uuid;

use super::desk::Desk;

use crate::anchor::judge::Seen;
use crate::anchor::record::Checkpoint;
use crate::anchor::{Allowed, Anchor, Exception, Place};
use crate::config::{Config, Level, Source, Volume};
use crate::error::{Doing, Error, Result};
use crate::key::KEY_LEN;
use crate::parallel::beside;
use crate::status::Recorder;
use crate::tpm::{Policy, Tpm};
use crate::volume::{Existing, First, Found, Keepers, Keyed, Witness};

/// The TPM, and what it remembers of this node's volumes. One thread at a time uses it.
#[derive(Debug)]
pub(super) struct Chip {
    pub(super) tpm: Tpm,
    /// Where the anchor is, until it is read.
    place: Option<Place>,
    /// None where no volume wants one, and before it is read: see [`Chip::recall`].
    anchor: Option<Anchor>,
    /// What the operator allowed for this boot.
    pub(super) exceptions: Vec<Exception>,
}

impl Chip {
    /// The TPM, and proof that this boot has not been given an identity yet.
    pub(super) fn ready(config: &Config, record: &Recorder) -> Result<Self> {
        let mut tpm = Tpm::open(&config.tpm.tcti)?;
        let pcr = config.measure.cluster_pcr;
        // An attestation is certain where the service is the first to be asked.
        let attests = |volume: &Volume| volume.sources.first() == Some(&Source::Service);
        if config.volumes().any(attests) {
            tpm.prepare_to_attest()?;
        }
        let uses_policy =
            |volume: &Volume| volume.level() != Level::Off || volume.sources.contains(&Source::Tpm);
        if config.volumes().any(uses_policy) {
            tpm.require_zero_before(pcr, Policy::from(&config.tpm))?;
        } else {
            tpm.require_zero(pcr)?;
        }
        let zero = tpm
            .banks()?
            .into_iter()
            .map(|bank| (bank, bank.zero()))
            .collect();
        record.pcr_before(pcr, &zero);
        Ok(Self {
            tpm,
            place: None,
            anchor: None,
            exceptions: Vec::new(),
        })
    }

    /// Looks for the anchor.
    pub(super) fn find(&mut self, config: &Config) -> Result<()> {
        self.place = Place::find(config, &mut self.tpm)?;
        Ok(())
    }

    /// The TPM, and the anchor where a volume wants one, which is read first if it is not yet: all but its counter.
    pub(super) fn recall(&mut self) -> Result<(&mut Tpm, Option<&mut Anchor>)> {
        if let Some(place) = self.place {
            self.anchor = Some(place.read(&mut self.tpm)?);
            self.place = None;
        }
        Ok((&mut self.tpm, self.anchor.as_mut()))
    }

    /// The anchor, for whoever goes on with it. This boot has none from here on.
    pub(super) fn let_go(&mut self) -> Option<Anchor> {
        self.anchor.take()
    }

    /// Reads the anchor and its counter, once.
    fn count(&mut self) -> Result<()> {
        match self.recall()? {
            (tpm, Some(anchor)) => anchor.count(tpm),
            (_, None) => Ok(()),
        }
    }

    /// What the volume's file system must not be older than.
    pub(super) fn checkpoint(&mut self, volume: &Volume) -> Result<Option<Checkpoint>> {
        let (_, anchor) = self.recall()?;
        Ok(anchor.and_then(|anchor| anchor.checkpoint(volume)))
    }

    /// What the operator allowed for this volume and this boot.
    pub(super) fn accepted(&self, volume: &Volume) -> Option<Allowed> {
        let exception = self
            .exceptions
            .iter()
            .find(|exception| exception.volume == volume.name);
        exception.map(|exception| exception.kind)
    }

    /// The anchor, if it is this volume's business.
    fn anchor_of(&mut self, volume: &Volume) -> Result<(&mut Tpm, Option<&mut Anchor>)> {
        if volume.level() == Level::Off {
            return Ok((&mut self.tpm, None));
        }
        self.recall()
    }

    /// Whether what was found may be gone on with.
    fn permit(&mut self, volume: &Volume, seen: Seen) -> Result<()> {
        if let (_, Some(anchor)) = self.anchor_of(volume)? {
            let exception = anchor.permit(volume, seen)?;
            self.exceptions.extend(exception);
        }
        Ok(())
    }

    /// Remembers a volume that is about to be made. Returns its header's epoch.
    fn announce(&mut self, volume: &Volume, uuid: Uuid, key_id: &[u8; KEY_LEN]) -> Result<u64> {
        match self.anchor_of(volume)? {
            (tpm, Some(anchor)) => anchor.announce(tpm, volume, uuid, *key_id),
            (_, None) => Ok(0),
        }
    }

    /// Compares a volume whose key is known with what is remembered.
    fn verify(&mut self, volume: &Volume, keyed: &Keyed) -> Result<()> {
        let proven = keyed.proven()?;
        if let ((_, Some(anchor)), Some(proven)) = (self.anchor_of(volume)?, proven) {
            anchor.verify(volume, &proven)?;
        }
        Ok(())
    }
}

/// Where keys come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub(super) config: &'a Config,
    pub(super) chip: &'a Mutex<Chip>,
    pub(super) desk: &'a Desk,
    pub(super) record: &'a Recorder,
}

impl Sources<'_> {
    /// Gets or makes the volume's key. Nothing is mapped with it yet.
    pub(super) fn key_of(self, volume: &Volume, found: Found) -> Result<Keyed> {
        let policy = Policy::from(&self.config.tpm);
        let chip = self.chip;
        let readmission = self.readmission(volume, &found)?;
        let permit = |seen| {
            lock(chip)?
                .permit(volume, seen)
                .doing("comparing with the anchor")
        };
        match found {
            Found::New(new) => {
                permit(new.seen())?;
                lock(chip)?.count().doing("comparing with the anchor")?;
                let first = self.first_secret(volume, new.uuid())?;
                let seal = |secret: &_| lock(chip)?.tpm.seal(secret, policy);
                let witness = Witness {
                    announce: Box::new(|uuid, key_id| lock(chip)?.announce(volume, uuid, key_id)),
                    attest: Box::new(|qualifying| {
                        lock(chip)?.tpm.quote(qualifying, policy).map(Some)
                    }),
                };
                new.prepare(volume, &self.config.tpm, first, seal, witness)
            }
            Found::Existing(existing) => {
                // A service that was not asked yet is not asked for another node's disk. The TPM has nobody to tell.
                let asks = volume.sources.contains(&Source::Service);
                if asks && readmission.is_none() {
                    permit(Seen::Volume)?;
                }
                let keyed = self.unlock(volume, *existing);
                if !asks {
                    permit(Seen::Volume)?;
                }
                let mut keyed = keyed?;
                lock(chip)?.count().doing("comparing with the anchor")?;
                if let Some(record) = readmission {
                    self.readmit(volume, &mut keyed, &record)
                        .doing("comparing with the key service's record")?;
                    return Ok(keyed);
                }
                let accepted = {
                    let mut chip = lock(chip)?;
                    chip.verify(volume, &keyed)
                        .doing("comparing with the anchor")?;
                    chip.accepted(volume).and_then(Allowed::on_node)
                };
                self.desk
                    .verify(&keyed, accepted)
                    .doing("comparing with the key service's record")?;
                self.enroll(volume, &mut keyed).doing("enrolling")?;
                Ok(keyed)
            }
        }
    }

    /// The key of a volume that exists. While the processor gets it out of the keyslot the TPM has nothing to do, and the
    /// anchor and its counter are read, which the volume is compared with then.
    fn unlock(self, volume: &Volume, existing: Existing) -> Result<Keyed> {
        let policy = Policy::from(&self.config.tpm);
        let chip = self.chip;
        thread::scope(|scope| {
            let keepers = Keepers {
                unseal: Box::new(|sealed| {
                    let secret = lock(chip)?.tpm.unseal(sealed, policy)?;
                    // An error is met again by whoever needs the anchor.
                    beside(scope, || lock(chip)?.count())?;
                    Ok(secret)
                }),
                ask: Box::new(|uuid| self.desk.secret(chip, uuid, self.record)),
            };
            existing.unlock(volume, &self.config.tpm, keepers)
        })
    }

    /// The first secret a source gives a new volume.
    fn first_secret(self, volume: &Volume, uuid: Uuid) -> Result<First> {
        let mut last = Error::refused("no source can make a secret for a new volume");
        for source in &volume.sources {
            match source {
                // It keeps secrets and makes none.
                Source::Tpm => {}
                Source::Generate => return First::generated(),
                Source::Service => {
                    match self.desk.secret(self.chip, &uuid.to_string(), self.record) {
                        Ok(secret) => {
                            return Ok(First {
                                secret,
                                source: *source,
                            });
                        }
                        Err(error) => {
                            warn!(volume = volume.name.as_str(); "source {}: {error}", source.word());
                            last = error;
                        }
                    }
                }
            }
        }
        Err(last)
    }
}

pub(super) fn lock(chip: &Mutex<Chip>) -> Result<MutexGuard<'_, Chip>> {
    chip.lock()
        .map_err(|error| Error::failure(format_args!("TPM: {error}")))
}
