// SPDX-License-Identifier: Apache-2.0
//! How the volumes' keys are got, with the TPM, what it remembers, and the key service.
//!
//! What the TPM remembers takes as long to read as a keyslot takes to open, so it is read beside that where nobody has to know
//! it before: in a volume that the TPM alone opens. Nothing is done with the volume's key before the anchor has had its say.
//!
//! [`Sources::key_of`] is where to start: it tries the configured sources in their order, judges, enrols, readmits.
//!
//! **Never:** a key that is used before the anchor had its say, or a source passed over without a word.

pub(crate) mod enroll;
mod pushed;
pub(crate) mod readmission;
pub(crate) mod recovery;
pub(crate) mod recovery_keys;
pub(crate) mod rotate;
pub(crate) mod service;
pub(crate) mod stale;
pub(crate) mod tpm;

use std::sync::{Mutex, MutexGuard};
use std::thread;

use log::warn;
use uuid::Uuid;

use crate::anchor::Allowed;
use crate::anchor::judge::DeviceState;
use crate::anchor::record::Accepted;
use crate::config::{Config, Source, Volume};
use crate::error::{Doing, Error, Result};
use crate::parallel::spawn;
use crate::protocol::recovery::{Need, Word};
use crate::sources::pushed::Memory;
use crate::sources::readmission::Asked;
use crate::sources::recovery::{OperatorSession, Refusal};
use crate::sources::service::ServiceSession;
use crate::sources::stale::StandIn;
use crate::sources::tpm::{NodeTpm, lock};
use crate::status::Recorder;
use crate::volume::{Existing, FirstSecret, Found, Keyed, New, ProvisionHooks, SecretProviders};

/// Where keys come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) config: &'a Config,
    pub(crate) node_tpm: &'a Mutex<NodeTpm>,
    pub(crate) service: &'a ServiceSession,
    pub(crate) operator: &'a OperatorSession,
    pub(crate) record: &'a Recorder,
}

impl Sources<'_> {
    /// Gets or makes the volume's key. Nothing is mapped with it yet.
    pub(crate) fn key_of(self, volume: &Volume, found: Found) -> Result<Keyed> {
        self.operator.note_reached();
        match found {
            Found::New(new) => self
                .key_of_new(volume, new)
                .map_err(|error| self.operator.note_hopeless(volume, error)),
            Found::Existing(existing) => {
                let waits = existing.waiting(volume)?;
                self.key_of_existing(volume, *existing, &waits.uuid)
                    .map_err(|refusal| {
                        self.withdraw(volume);
                        if !volume.required && self.is_called_for(volume) {
                            self.operator.call_for(volume);
                        }
                        self.operator.note(volume, waits, refusal)
                    })
            }
        }
    }

    fn permit(self, volume: &Volume, seen: DeviceState) -> Result<()> {
        lock(self.node_tpm)?
            .permit(volume, seen)
            .doing("comparing with the anchor")
    }

    /// Nothing of a volume that is refused here goes into what this boot remembers and measures.
    fn withdraw(self, volume: &Volume) {
        // An error is met by whoever needs the TPM.
        if let Ok(mut node_tpm) = lock(self.node_tpm) {
            node_tpm.withdraw(volume);
        }
    }

    /// Whether an operator has said on the node that an older state of it goes on, or whatever there is of one that is lost.
    fn is_called_for(self, volume: &Volume) -> bool {
        let of_record = |mut node_tpm: MutexGuard<'_, NodeTpm>| {
            let (_, anchor) = node_tpm.anchor()?;
            Ok(anchor.and_then(|anchor| anchor.acceptance(volume)) == Some(Accepted::Rollback))
        };
        // An error is met by whoever needs the anchor.
        lock(self.node_tpm).and_then(of_record).unwrap_or(false)
    }

    fn read_counter(self) -> Result<()> {
        lock(self.node_tpm)?
            .read_counter()
            .doing("comparing with the anchor")
    }

    fn key_of_new(self, volume: &Volume, new: New) -> Result<Keyed> {
        let node_tpm = self.node_tpm;
        let policy = lock(node_tpm)?.policy;
        self.permit(volume, new.device_state())?;
        self.read_counter()?;
        let first = self.first_secret(volume, new.uuid())?;
        let seal = |secret: &_| match policy.key {
            None => lock(node_tpm)?.tpm.seal(secret, policy),
            // Whether the signature opens what is sealed to its key is known once it has.
            Some(_) => self.seal(secret),
        };
        let hooks = ProvisionHooks {
            begin_provisioning: Box::new(|uuid, key_id| {
                lock(node_tpm)?.begin_provisioning(volume, uuid, key_id)
            }),
            attest: Box::new(|qualifying| lock(node_tpm)?.tpm.quote(qualifying, policy).map(Some)),
        };
        new.prepare(volume, policy, first, seal, hooks)
    }

    fn key_of_existing(
        self,
        volume: &Volume,
        existing: Existing,
        uuid: &str,
    ) -> std::result::Result<Keyed, Refusal> {
        let memory = self.memory(volume)?;
        let given = self.operator.given(uuid)?;
        if let Some(given) = given.as_ref().filter(|_| memory != Memory::Good) {
            return self.key_of_pushed(volume, existing, memory, given);
        }
        let by_operator = |error| Refusal::new(error, memory.needs(volume));
        let stand_in = self.stand_in(volume, uuid).map_err(by_operator)?;
        // A service that was not asked yet is not asked for another node's disk. The TPM has nobody to tell.
        let asks = volume.sources.contains(&Source::Service);
        if asks && stand_in.is_none() {
            self.permit(volume, DeviceState::Volume)
                .map_err(by_operator)?;
        }
        let without_tpm = matches!(stand_in, Some(StandIn::Service(..)));
        let keyed = match given.as_ref().and_then(|given| given.key.as_ref()) {
            Some(key) => existing.unlock_pushed(key),
            None => self.unlock(volume, existing, without_tpm),
        };
        if !asks {
            self.permit(volume, DeviceState::Volume)
                .map_err(by_operator)?;
        }
        let mut keyed = keyed.map_err(|error| Refusal::new(error, &[Need::Key]))?;
        self.read_counter()?;
        if let Some(stand_in) = stand_in {
            match stand_in {
                StandIn::Operator(word) => self.readmit(volume, &mut keyed, &word),
                StandIn::Service(record, word) => {
                    self.carry_over(volume, &mut keyed, &record, word.as_ref())
                }
            }
            .doing("comparing with the key service's record")?;
            return Ok(keyed);
        }
        if let Some(given) = given.filter(|given| given.says(Word::Rollback)) {
            self.roll_back(volume, &keyed, &given)
                .map_err(|error| Refusal::new(error, &[Need::Rollback]))?;
        }
        let is_said = self.roll_back_by_service(volume, &keyed, Asked::Already)?;
        if let Err(error) = self.verify(volume, &keyed) {
            let needs = self.needs_of(volume, &keyed)?;
            let is_old = !is_said && needs.contains(&Need::Rollback);
            if !is_old || !self.roll_back_by_service(volume, &keyed, Asked::Now)? {
                return Err(Refusal::new(error, &needs));
            }
            self.verify(volume, &keyed)
                .map_err(|error| Refusal::new(error, &needs))?;
        }
        if keyed.source == Source::Recovery {
            self.seal_anew(volume, &mut keyed).doing("sealing anew")?;
            return Ok(keyed);
        }
        self.enroll(volume, &mut keyed).doing("enrolling")?;
        self.refresh_seal(volume, &mut keyed)
            .doing("sealing anew")?;
        Ok(keyed)
    }

    /// Compares a volume whose key is known with what the TPM and the key service remember.
    fn verify(self, volume: &Volume, keyed: &Keyed) -> Result<()> {
        let accepted = {
            let mut node_tpm = lock(self.node_tpm)?;
            node_tpm
                .verify(volume, keyed)
                .doing("comparing with the anchor")?;
            node_tpm.accepted(volume).and_then(Allowed::on_node)
        };
        self.service
            .verify(keyed, accepted)
            .doing("comparing with the key service's record")
    }

    /// The key of a volume that exists. While the processor gets it out of the keyslot the TPM has nothing to do, and the
    /// anchor and its counter are read, which the volume is compared with then.
    /// Where the service stands in for what the TPM remembers it is done `without_tpm`, which gives no secret then.
    fn unlock(self, volume: &Volume, existing: Existing, without_tpm: bool) -> Result<Keyed> {
        let node_tpm = self.node_tpm;
        let policy = lock(node_tpm)?.policy;
        thread::scope(|scope| {
            let providers = SecretProviders {
                unseal: Box::new(|sealed| {
                    // Whoever knows the values of this boot can have sealed a disk of their own to them before it.
                    if without_tpm {
                        return Err(Error::refused(
                            "where the TPM's record of the volumes cannot be used it gives no secret, and the key service's does not \
                             open this volume: boot what was booted before until \"nightlatchctl enroll\" shows none",
                        ));
                    }
                    let secret = lock(node_tpm)?.tpm.unseal(sealed, policy)?;
                    // An error is met again by whoever needs the anchor.
                    spawn(scope, || lock(node_tpm)?.read_counter())?;
                    Ok(secret)
                }),
                ask: Box::new(|uuid| self.service.secret(node_tpm, uuid, self.record)),
            };
            existing.unlock(volume, policy, providers)
        })
    }

    /// The first secret a source gives a new volume.
    fn first_secret(self, volume: &Volume, uuid: Uuid) -> Result<FirstSecret> {
        let mut last = Error::refused("no source can make a secret for a new volume");
        for source in &volume.sources {
            match source {
                // The first keeps secrets and makes none; the other one waits for what exists.
                Source::Tpm | Source::Recovery => {}
                Source::Generate => return FirstSecret::generated(),
                Source::Service => {
                    match self
                        .service
                        .secret(self.node_tpm, &uuid.to_string(), self.record)
                    {
                        Ok(secret) => {
                            return Ok(FirstSecret {
                                secret,
                                source: *source,
                            });
                        }
                        Err(error) => {
                            warn!(volume = volume.name.as_str(); "source {}: {error}", source.as_str());
                            last = error;
                        }
                    }
                }
            }
        }
        Err(last)
    }
}
