// SPDX-License-Identifier: Apache-2.0
//! The TPM and what it remembers of this node.

use std::sync::{Mutex, MutexGuard};

use uuid::Uuid;

use crate::anchor::judge::DeviceState;
use crate::anchor::record::{Accepted, Checkpoint};
use crate::anchor::{Allowed, Anchor, Exception, Located};
use crate::config::{Config, Level, Source, Volume};
use crate::error::{Doing, Error, Result};
use crate::evidence::registers::Values;
use crate::header::Stamp;
use crate::key::KEY_LEN;
use crate::key::pcr::PcrPublicKey;
use crate::pcr::PcrSet;
use crate::sealed::signature::{PcrSignatures, SIGNED_PCR};
use crate::status::Recorder;
use crate::tpm::{Policy, Tpm};
use crate::volume::Keyed;

/// The TPM, and what it remembers of this node's volumes. One thread at a time uses it.
#[derive(Debug)]
pub(crate) struct NodeTpm {
    pub(crate) tpm: Tpm,
    /// What secrets and the anchor's record are sealed to.
    pub(crate) policy: Policy,
    /// What the PCRs of the policy's bank held before this boot measured anything, those that say how it was started among
    /// them.
    pub(crate) before: Values,
    /// Where the anchor is, until it is read.
    located: Option<Located>,
    /// None where no volume wants one, and before it is read: see [`NodeTpm::anchor`].
    anchor: Option<Anchor>,
    /// What the operator allowed for this boot.
    pub(crate) exceptions: Vec<Exception>,
}

/// What an image says of its own PCR 11: signatures, and the key in its configuration that they have to be by.
#[derive(Debug)]
pub(crate) struct SignedPcr {
    pub(crate) key: PcrPublicKey,
    pub(crate) signatures: PcrSignatures,
}

impl NodeTpm {
    /// The TPM, and proof that this boot has not been given an identity yet; where values of PCR 11 are to be `signed`, that they
    /// are.
    pub(crate) fn open(
        config: &Config,
        signed: Option<&SignedPcr>,
        record: &Recorder,
    ) -> Result<Self> {
        let mut tpm = Tpm::open(&config.tpm.tcti)?;
        tpm.vouch();
        let pcr = config.measure.cluster_pcr;
        // An attestation is certain where the service is the first to be asked.
        let attests = |volume: &Volume| volume.sources.first() == Some(&Source::Service);
        if config.volumes().any(attests) {
            tpm.prepare_to_attest()?;
        }
        let policy = Policy::of(&config.tpm, signed.map(|signed| &signed.key));
        let before = tpm.require_zero_before(pcr, policy, PcrSet::STARTED)?;
        if let Some(SignedPcr { key, signatures }) = signed {
            let value = before.get(&SIGNED_PCR.index());
            let value = value.ok_or_else(|| Error::failure("PCR 11 was not read"))?;
            tpm.approve(key, signatures, policy.bank, value)
                .doing("tpm.signed")?;
        }
        let zero = tpm
            .banks()?
            .into_iter()
            .map(|bank| (bank, bank.zero()))
            .collect();
        record.pcr_before(pcr, &zero);
        Ok(Self {
            tpm,
            policy,
            before,
            located: None,
            anchor: None,
            exceptions: Vec::new(),
        })
    }

    /// Looks for the anchor.
    pub(crate) fn locate_anchor(&mut self, config: &Config) -> Result<()> {
        self.located = Located::find(config, self.policy, &mut self.tpm)?;
        Ok(())
    }

    /// The TPM, and the anchor where a volume wants one, which is read first if it is not yet: all but its counter.
    pub(crate) fn anchor(&mut self) -> Result<(&mut Tpm, Option<&mut Anchor>)> {
        if let Some(located) = &self.located {
            // It stays located where reading fails: an error is met again by whoever needs the anchor.
            self.anchor = Some(located.read(&mut self.tpm)?);
            self.located = None;
        }
        Ok((&mut self.tpm, self.anchor.as_mut()))
    }

    /// Makes the anchor's record anew, where volumes were found that go on in another one, while others are `away`. That one can be removed later is found
    /// out before anything is written.
    pub(crate) fn move_record(&mut self, away: &[&Volume]) -> Result<()> {
        let (tpm, Some(anchor)) = self.anchor()? else {
            return Ok(());
        };
        tpm.require_owner()?;
        if anchor.is_to_be_renewed() {
            anchor.renew_record(tpm, away)?;
        }
        Ok(())
    }

    /// Whether [`NodeTpm::move_record`] has something to do.
    pub(crate) fn is_to_move(&self) -> bool {
        let anchor = self.anchor.as_ref();
        anchor.is_some_and(|anchor| anchor.is_to_be_renewed() || anchor.has_others())
    }

    /// The anchor, for whoever goes on with it. This boot has none from here on.
    pub(crate) fn take_anchor(&mut self) -> Option<Anchor> {
        self.anchor.take()
    }

    /// Reads the anchor and its counter, once.
    pub(crate) fn read_counter(&mut self) -> Result<()> {
        match self.anchor()? {
            (tpm, Some(anchor)) => anchor.count(tpm),
            (_, None) => Ok(()),
        }
    }

    /// What the volume's file system must not be older than.
    pub(crate) fn checkpoint(&mut self, volume: &Volume) -> Result<Option<Checkpoint>> {
        let (_, anchor) = self.anchor()?;
        Ok(anchor.and_then(|anchor| anchor.checkpoint(volume)))
    }

    /// What the operator allowed for this volume and this boot.
    pub(crate) fn accepted(&self, volume: &Volume) -> Option<Allowed> {
        allowed(&self.exceptions, volume)
    }

    /// Takes back what was taken up in this try of a volume that the boot goes on without. What was accepted on the node stays, which
    /// is an exception of each boot.
    pub(crate) fn withdraw(&mut self, volume: &Volume) {
        let anchor = self.anchor.as_mut().map(|anchor| {
            anchor.withdraw(volume);
            anchor.acceptance(volume)
        });
        let accepted = anchor.flatten().map(Allowed::Accepted);
        self.exceptions
            .retain(|it| it.volume != volume.name || Some(it.kind) == accepted);
    }

    /// The anchor, if it is this volume's business.
    fn anchor_of(&mut self, volume: &Volume) -> Result<(&mut Tpm, Option<&mut Anchor>)> {
        if volume.level() == Level::Off {
            return Ok((&mut self.tpm, None));
        }
        self.anchor()
    }

    /// Whether what was found may be gone on with.
    pub(crate) fn permit(&mut self, volume: &Volume, seen: DeviceState) -> Result<()> {
        if volume.level() == Level::Off
            && let (_, Some(anchor)) = self.anchor()?
        {
            anchor.permit_unanchored(volume)?;
        }
        let (tpm, anchor) = self.anchor_of(volume)?;
        let permitted = match anchor {
            Some(anchor) if anchor.is_stale() => anchor
                .permit(volume, seen)
                .map_err(|refusal| tpm.sealed_to_others(refusal)),
            Some(anchor) => anchor.permit(volume, seen),
            None => Ok(None),
        };
        self.exceptions.extend(permitted?);
        Ok(())
    }

    /// Whether a volume may be made on such a device, as far as the record says so. That it cannot be read is met by [`NodeTpm::permit`].
    pub(crate) fn may_be_made(&mut self, volume: &Volume, seen: DeviceState) -> bool {
        match self.anchor_of(volume) {
            Ok((_, Some(anchor))) => anchor.may_be_made(volume, seen),
            Ok((_, None)) | Err(_) => true,
        }
    }

    /// Remembers a volume that is about to be made. Returns its header's stamp.
    pub(crate) fn begin_provisioning(
        &mut self,
        volume: &Volume,
        uuid: Uuid,
        key_id: &[u8; KEY_LEN],
    ) -> Result<Stamp> {
        match self.anchor_of(volume)? {
            (tpm, Some(anchor)) => anchor.begin_provisioning(tpm, volume, uuid, *key_id),
            (_, None) => Ok(Stamp {
                epoch: 0,
                nonce: None,
            }),
        }
    }

    /// Compares a volume whose key is known with what is remembered.
    pub(crate) fn verify(&mut self, volume: &Volume, keyed: &Keyed) -> Result<()> {
        let proven = keyed.proof()?;
        if let ((_, Some(anchor)), Some(proven)) = (self.anchor_of(volume)?, proven) {
            anchor.verify(volume, &proven)?;
        }
        Ok(())
    }
}

pub(crate) fn lock(node_tpm: &Mutex<NodeTpm>) -> Result<MutexGuard<'_, NodeTpm>> {
    node_tpm
        .lock()
        .map_err(|error| Error::failure(format_args!("TPM: {error}")))
}

/// What was allowed for a volume. That it may be older says more than the other things that may be true as well.
fn allowed(exceptions: &[Exception], volume: &Volume) -> Option<Allowed> {
    let rollback = Allowed::Accepted(Accepted::Rollback);
    let its = exceptions.iter().filter(|it| it.volume == volume.name);
    let mut kinds = its.map(|it| it.kind);
    let is_older = kinds.clone().any(|kind| kind == rollback);
    is_older.then_some(rollback).or_else(|| kinds.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_state_that_was_allowed_is_seen_beside_a_record_of_another_image() {
        let text = "boot.authorities = [\"/authority.pem\"]\n[[volume]]\nname = \"state\"\ndevice = \"/dev/vdb\"\nrole = \"state\"\n\
                    mount = \"/srv\"\nsources = [\"tpm\"]\n";
        let config = Config::parse(text).unwrap();
        let volume = config.volumes().next().unwrap();
        let rollback = Allowed::Accepted(Accepted::Rollback);
        let of = |kinds: &[Allowed]| {
            let exceptions = kinds.iter().map(|kind| Exception {
                volume: volume.name.clone(),
                kind: *kind,
            });
            allowed(&exceptions.collect::<Vec<_>>(), volume)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Allowed::Stale]), Some(Allowed::Stale));
        for kinds in [[Allowed::Stale, rollback], [rollback, Allowed::Stale]] {
            assert_eq!(of(&kinds), Some(rollback));
        }
    }
}
