// SPDX-License-Identifier: Apache-2.0
//! The TPM and what it remembers of this node, and how the volumes' keys are got with both.

use std::sync::{Mutex, MutexGuard};
use std::thread;

use log::warn;
use uuid::Uuid;

use super::desk::Desk;

use crate::anchor::{Allowed, Anchor, Exception};
use crate::config::{Config, Level, Source, Volume};
use crate::error::{Doing, Error, Result};
use crate::key::KEY_LEN;
use crate::status::Recorder;
use crate::tpm::{Policy, Tpm};
use crate::volume::{Existing, First, Found, Keepers, Keyed, Witness};

/// The TPM, and what it remembers of this node's volumes. One thread at a time uses it.
#[derive(Debug)]
pub(super) struct Chip {
    pub(super) tpm: Tpm,
    /// None where no volume wants one, and before it is recalled.
    pub(super) anchor: Option<Anchor>,
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
            anchor: None,
            exceptions: Vec::new(),
        })
    }

    /// Reads the anchor, all but its counter.
    pub(super) fn recall(&mut self, config: &Config) -> Result<()> {
        self.anchor = Anchor::read(config, &mut self.tpm)?;
        Ok(())
    }

    /// Reads the anchor's counter, once.
    fn count(&mut self) -> Result<()> {
        match &mut self.anchor {
            Some(anchor) => anchor.count(&mut self.tpm),
            None => Ok(()),
        }
    }

    /// What the operator allowed for this volume and this boot.
    pub(super) fn accepted(&self, volume: &Volume) -> Option<Allowed> {
        let exception = self
            .exceptions
            .iter()
            .find(|exception| exception.volume == volume.name);
        exception.map(|exception| exception.kind)
    }

    /// Whether what was found may be gone on with.
    fn permit(&mut self, volume: &Volume, found: &Found) -> Result<()> {
        if let Some(anchor) = anchor_of(&mut self.anchor, volume) {
            let exception = anchor.permit(volume, found.seen())?;
            self.exceptions.extend(exception);
        }
        Ok(())
    }

    /// Remembers a volume that is about to be made. Returns its header's epoch.
    fn announce(&mut self, volume: &Volume, uuid: Uuid, key_id: &[u8; KEY_LEN]) -> Result<u64> {
        match anchor_of(&mut self.anchor, volume) {
            Some(anchor) => anchor.announce(&mut self.tpm, volume, uuid, *key_id),
            None => Ok(0),
        }
    }

    /// Compares a volume whose key is known with what is remembered.
    fn verify(&mut self, volume: &Volume, keyed: &Keyed) -> Result<()> {
        if let (Some(anchor), Some(proven)) = (anchor_of(&mut self.anchor, volume), keyed.proven()?)
        {
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
        if readmission.is_none() {
            lock(chip)?
                .permit(volume, &found)
                .doing("comparing with the anchor")?;
        }
        match found {
            Found::New(new) => {
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
                let mut keyed = self.unlock(volume, *existing)?;
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

    /// The key of a volume that exists. While the processor gets it out of the keyslot the TPM has nothing to do, and reads
    /// the counter that the key's epoch is compared with.
    fn unlock(self, volume: &Volume, existing: Existing) -> Result<Keyed> {
        let policy = Policy::from(&self.config.tpm);
        let chip = self.chip;
        thread::scope(|scope| {
            let keepers = Keepers {
                unseal: Box::new(|sealed| {
                    let secret = lock(chip)?.tpm.unseal(sealed, policy)?;
                    // An error is met again by whoever needs the counter.
                    scope.spawn(|| lock(chip)?.count());
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

/// The anchor, if it is this volume's business.
fn anchor_of<'a>(anchor: &'a mut Option<Anchor>, volume: &Volume) -> Option<&'a mut Anchor> {
    anchor.as_mut().filter(|_| volume.level() != Level::Off)
}

pub(super) fn lock(chip: &Mutex<Chip>) -> Result<MutexGuard<'_, Chip>> {
    chip.lock()
        .map_err(|error| Error::failure(format_args!("TPM: {error}")))
}
