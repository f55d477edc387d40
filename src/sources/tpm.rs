// SPDX-License-Identifier: Apache-2.0
//! The TPM and what it remembers of this node.

use std::sync::{Mutex, MutexGuard};

use uuid::Uuid;

use crate::anchor::judge::Seen;
use crate::anchor::record::Checkpoint;
use crate::anchor::{Allowed, Anchor, Exception, Place};
use crate::config::{Config, Level, Source, Volume};
use crate::error::{Error, Result};
use crate::key::KEY_LEN;
use crate::status::Recorder;
use crate::tpm::{Policy, Tpm};
use crate::volume::Keyed;

/// The TPM, and what it remembers of this node's volumes. One thread at a time uses it.
#[derive(Debug)]
pub(crate) struct Chip {
    pub(crate) tpm: Tpm,
    /// Where the anchor is, until it is read.
    place: Option<Place>,
    /// None where no volume wants one, and before it is read: see [`Chip::recall`].
    anchor: Option<Anchor>,
    /// What the operator allowed for this boot.
    pub(crate) exceptions: Vec<Exception>,
}

impl Chip {
    /// The TPM, and proof that this boot has not been given an identity yet.
    pub(crate) fn ready(config: &Config, record: &Recorder) -> Result<Self> {
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
    pub(crate) fn find(&mut self, config: &Config) -> Result<()> {
        self.place = Place::find(config, &mut self.tpm)?;
        Ok(())
    }

    /// The TPM, and the anchor where a volume wants one, which is read first if it is not yet: all but its counter.
    pub(crate) fn recall(&mut self) -> Result<(&mut Tpm, Option<&mut Anchor>)> {
        if let Some(place) = self.place {
            self.anchor = Some(place.read(&mut self.tpm)?);
            self.place = None;
        }
        Ok((&mut self.tpm, self.anchor.as_mut()))
    }

    /// The anchor, for whoever goes on with it. This boot has none from here on.
    pub(crate) fn let_go(&mut self) -> Option<Anchor> {
        self.anchor.take()
    }

    /// Reads the anchor and its counter, once.
    pub(crate) fn count(&mut self) -> Result<()> {
        match self.recall()? {
            (tpm, Some(anchor)) => anchor.count(tpm),
            (_, None) => Ok(()),
        }
    }

    /// What the volume's file system must not be older than.
    pub(crate) fn checkpoint(&mut self, volume: &Volume) -> Result<Option<Checkpoint>> {
        let (_, anchor) = self.recall()?;
        Ok(anchor.and_then(|anchor| anchor.checkpoint(volume)))
    }

    /// What the operator allowed for this volume and this boot.
    pub(crate) fn accepted(&self, volume: &Volume) -> Option<Allowed> {
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
    pub(crate) fn permit(&mut self, volume: &Volume, seen: Seen) -> Result<()> {
        if let (_, Some(anchor)) = self.anchor_of(volume)? {
            let exception = anchor.permit(volume, seen)?;
            self.exceptions.extend(exception);
        }
        Ok(())
    }

    /// Remembers a volume that is about to be made. Returns its header's epoch.
    pub(crate) fn announce(
        &mut self,
        volume: &Volume,
        uuid: Uuid,
        key_id: &[u8; KEY_LEN],
    ) -> Result<u64> {
        match self.anchor_of(volume)? {
            (tpm, Some(anchor)) => anchor.announce(tpm, volume, uuid, *key_id),
            (_, None) => Ok(0),
        }
    }

    /// Compares a volume whose key is known with what is remembered.
    pub(crate) fn verify(&mut self, volume: &Volume, keyed: &Keyed) -> Result<()> {
        let proven = keyed.proven()?;
        if let ((_, Some(anchor)), Some(proven)) = (self.anchor_of(volume)?, proven) {
            anchor.verify(volume, &proven)?;
        }
        Ok(())
    }
}

pub(crate) fn lock(chip: &Mutex<Chip>) -> Result<MutexGuard<'_, Chip>> {
    chip.lock()
        .map_err(|error| Error::failure(format_args!("TPM: {error}")))
}
