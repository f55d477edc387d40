// SPDX-License-Identifier: Apache-2.0
//! A volume with what an operator has pushed, where the TPM's memory of it is no use: gone, or of other PCR values.
//!
//! The key proves that the header is the volume's own, since nobody else can have sealed one with it: so the header's key id and
//! epoch stand where a key service's record would. Its age is told by the counter where that is there, and by nothing where it is
//! not. A pushed key is the operator's word for a stale seal, and for nothing more.

use log::warn;

use crate::config::{Level, Volume};
use crate::error::{Doing, Error, Exit, Result};
use crate::protocol::recovery::{Need, Word};
use crate::sources::Sources;
use crate::sources::recovery::{Given, Refusal, record_of};
use crate::sources::stale::comparable;
use crate::sources::tpm::lock;
use crate::volume::{Existing, Keyed};

/// How what the TPM remembers of a volume stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Memory {
    /// It is there, or none is wanted.
    Good,
    /// It was made under other PCR values.
    Unreadable,
    /// It is gone, or this is another TPM.
    Gone,
}

impl Memory {
    /// What an operator can do about it.
    pub(super) fn needs(self, volume: &Volume) -> &'static [Need] {
        match (self, volume.level()) {
            (Self::Good, _) => &[],
            // The last checkpoint is in the record that cannot be read.
            (Self::Gone, _) | (Self::Unreadable, Level::Checkpoint) => &[Need::Key, Need::Readmit],
            (Self::Unreadable, Level::Off | Level::Identity | Level::Epoch) => &[Need::Key],
        }
    }
}

impl Sources<'_> {
    pub(super) fn memory(self, volume: &Volume) -> Result<Memory> {
        if volume.level() == Level::Off {
            return Ok(Memory::Good);
        }
        Ok(match lock(self.node_tpm)?.anchor()? {
            (_, Some(anchor)) if anchor.has_lost_counter() => Memory::Gone,
            (_, Some(anchor)) if anchor.is_stale() => Memory::Unreadable,
            (_, Some(anchor)) if anchor.is_unknown(volume) => Memory::Gone,
            _ => Memory::Good,
        })
    }

    /// The key of a volume, by what an operator gave for it.
    pub(super) fn key_of_pushed(
        self,
        volume: &Volume,
        existing: Existing,
        memory: Memory,
        given: &Given,
    ) -> std::result::Result<Keyed, Refusal> {
        let needs = memory.needs(volume);
        let keyed = match &given.key {
            Some(key) => existing.unlock_pushed(key),
            None => self.unlock(volume, existing, true),
        };
        let mut keyed = keyed.map_err(|error| Refusal::new(error, needs))?;
        if needs.contains(&Need::Readmit) && !given.says(Word::Readmit) {
            let why = "nothing but an operator's word lets it go on, as nothing that is there tells its age: recover it with \
                       \"--word readmit\"";
            return Err(Refusal::new(Error::refused(why), needs));
        }
        lock(self.node_tpm)?
            .read_counter()
            .doing("comparing with the anchor")?;
        let proven = comparable(&keyed)?;
        if given.says(Word::Readmit) || given.says(Word::Rollback) {
            given
                .names(&proven)
                .map_err(|error| Refusal::new(error, needs))?;
        }
        if memory == Memory::Gone {
            self.readmit(volume, &mut keyed, &given.readmission(&proven))?;
        } else {
            self.carry_over_pushed(volume, &mut keyed, given)?;
        }
        // Where the service was asked all the same, it may know better.
        let accepted = lock(self.node_tpm)?.accepted(volume);
        let accepted = accepted.and_then(crate::anchor::Allowed::on_node);
        let compared = self.service.verify(&keyed, accepted);
        compared
            .doing("comparing with the key service's record")
            .map_err(|error| Refusal::new(error, needs))?;
        Ok(keyed)
    }

    /// As where the key service stands in, with the header's own word in the place of its record.
    fn carry_over_pushed(
        self,
        volume: &Volume,
        keyed: &mut Keyed,
        given: &Given,
    ) -> std::result::Result<(), Refusal> {
        let proven = comparable(keyed)?;
        let record = record_of(&proven);
        let word = [Word::Rollback, Word::Readmit]
            .into_iter()
            .find(|word| given.says(*word));
        let sealed_under = keyed.sealed_under();
        if sealed_under.is_none() && !given.says(Word::Readmit) {
            let why = "it has no secret that is sealed to the TPM, so nothing shows that the TPM's record is the one that was made for \
                       it: recover it with \"--word readmit\"";
            return Err(Refusal::new(
                Error::refused(why),
                &[Need::Key, Need::Readmit],
            ));
        }
        let (carried, is_old) = {
            let mut node_tpm = lock(self.node_tpm)?;
            let (tpm, anchor) = node_tpm.anchor()?;
            let anchor = anchor.ok_or_else(|| Error::failure("there is no anchor"))?;
            let is_old = anchor.is_old(volume, &record, &proven);
            let rolled_back = (is_old && given.says(Word::Rollback))
                .then(|| anchor.roll_back(volume))
                .transpose()?;
            let of_header = (&proven, sealed_under);
            let carried = anchor.carry_over(tpm, volume, &record, of_header, word);
            let exceptions = rolled_back
                .into_iter()
                .chain(carried.as_ref().ok().cloned());
            let exceptions: Vec<_> = exceptions.collect();
            node_tpm.exceptions.extend(exceptions);
            (carried, is_old)
        };
        let is_too_old = is_old && !given.says(Word::Rollback);
        // Each word that is needed is named, as an operator's command gives only what is asked for, all of it at once.
        let needs_readmit = sealed_under.is_none() || volume.level() == Level::Checkpoint;
        let needs = |needs_readmit: bool| -> Vec<Need> {
            let readmit = needs_readmit.then_some(Need::Readmit);
            let rollback = is_old.then_some(Need::Rollback);
            let needs = [Some(Need::Key), readmit, rollback];
            needs.into_iter().flatten().collect()
        };
        match carried {
            Ok(_) => Ok(self.seal_anew(volume, keyed)?),
            Err(refusal) if is_too_old => Err(Refusal::new(refusal, &needs(needs_readmit))),
            Err(refusal) if refusal.exit() == Exit::Refused && given.says(Word::Readmit) => {
                warn!(volume = volume.name.as_str(); "{refusal}");
                Ok(self.readmit(volume, keyed, &given.readmission(&proven))?)
            }
            Err(refusal) => Err(Refusal::new(refusal, &needs(true))),
        }
    }

    /// An older state of a volume that the TPM remembers is gone on with.
    pub(super) fn roll_back(self, volume: &Volume, keyed: &Keyed, given: &Given) -> Result<()> {
        let Some(proven) = keyed.proof()? else {
            return Ok(());
        };
        given.names(&proven)?;
        let mut node_tpm = lock(self.node_tpm)?;
        let (_, anchor) = node_tpm.anchor()?;
        let Some(anchor) = anchor.filter(|anchor| !anchor.is_unknown(volume)) else {
            return Ok(());
        };
        let exception = anchor.roll_back(volume)?;
        node_tpm.exceptions.push(exception);
        Ok(())
    }

    /// What would let a volume go on that the TPM remembers and that was refused once its key was known.
    pub(super) fn needs_of(self, volume: &Volume, keyed: &Keyed) -> Result<Vec<Need>> {
        let Some(proven) = keyed.proof()? else {
            return Ok(Vec::new());
        };
        let is_old = match lock(self.node_tpm)?.anchor()? {
            (_, Some(anchor)) => anchor.is_old(volume, &record_of(&proven), &proven),
            (_, None) => false,
        };
        Ok(Vec::from_iter(is_old.then_some(Need::Rollback)))
    }
}
