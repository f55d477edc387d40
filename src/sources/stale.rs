// SPDX-License-Identifier: Apache-2.0
//! What the TPM cannot say of a volume, asked of the key service: the TPM remembers nothing of it, or its record was made under
//! other PCR values; and a secret that is sealed to other values than those of now is sealed anew.

use log::warn;

use crate::anchor::judge::{Readmission, VolumeProof, stale};
use crate::config::{Level, Source, Stale, Volume};
use crate::error::{Doing, Error, Exit, Result};
use crate::key::Secret;
use crate::protocol::VolumeRecord;
use crate::protocol::recovery::Word;
use crate::sources::Sources;
use crate::sources::tpm::lock;
use crate::volume::{Keyed, Rekeyed};

/// What stands in for the TPM's memory of a volume.
#[derive(Debug)]
pub(crate) enum StandIn {
    /// The word of an operator, who said at the key service that the node has lost its TPM.
    Operator(Readmission),
    /// What the key service remembers, where the TPM's record was made under other PCR values; and an operator's word, if there
    /// is one: with it goes on what the record of before does not vouch for.
    Service(VolumeRecord, Option<Readmission>),
}

impl Sources<'_> {
    /// What stands in for what the TPM does not say of a volume that exists. The service is asked even where the volume has another
    /// source before it.
    pub(crate) fn stand_in(self, volume: &Volume, uuid: &str) -> Result<Option<StandIn>> {
        let asks = volume.sources.contains(&Source::Service) && volume.level() != Level::Off;
        if !asks {
            return Ok(None);
        }
        let (is_unreadable, asking) = match lock(self.node_tpm)?.anchor()? {
            (_, Some(anchor)) if anchor.has_lost_counter() => (
                false,
                "the TPM's counter of boots is gone; asking the key service whether this volume was readmitted",
            ),
            (_, Some(anchor)) if anchor.is_stale() => (
                true,
                "the TPM's record was made under other PCR values; asking the key service what it remembers",
            ),
            (_, Some(anchor)) if anchor.is_unknown(volume) => (
                false,
                "the TPM does not remember this volume; asking the key service whether it was readmitted",
            ),
            _ => return Ok(None),
        };
        let stand_in = if is_unreadable {
            self.of_unreadable(volume, uuid).map(Some)
        } else {
            let word = self.readmission(uuid);
            word.map(|word| word.map(StandIn::Operator))
        };
        stand_in.doing(asking)
    }

    /// An operator's word. A denial is none; an error is what may pass.
    fn readmission(self, uuid: &str) -> Result<Option<Readmission>> {
        match self.service.ask_about(self.node_tpm, uuid, self.record) {
            Ok(remembered) => Ok(remembered.as_ref().and_then(Readmission::of)),
            Err(error) if error.exit() == Exit::Temporary => Err(error),
            Err(error) => {
                warn!("{error}");
                Ok(None)
            }
        }
    }

    fn of_unreadable(self, volume: &Volume, uuid: &str) -> Result<StandIn> {
        let remembered = self
            .service
            .ask_about(self.node_tpm, uuid, self.record)?
            .ok_or_else(|| {
                Error::refused(
                    "it keeps no records of volumes, so it cannot stand in for the TPM's",
                )
            })?;
        if let Some(word) = Readmission::of(&remembered) {
            return Ok(StandIn::Service(remembered.record, Some(word)));
        }
        let why = match (self.config.tpm.stale, volume.level()) {
            (Stale::Operator, _) => "tpm.stale is \"operator\"",
            (_, Level::Checkpoint) => {
                "the volume's level is \"checkpoint\", and the last checkpoint is in the record that cannot be read"
            }
            (Stale::Service, Level::Off | Level::Identity | Level::Epoch) => {
                return Ok(StandIn::Service(remembered.record, None));
            }
        };
        let uuid = uuid.parse().map_err(Error::failure)?;
        Err(Error::refused(format_args!(
            "{why}, so it takes an operator's word: {}",
            stale::readmit(&uuid)
        )))
    }

    /// Compares a volume with what the key service remembers of it, and has the TPM remember it in a record of this boot. What was
    /// sealed under the values of before is sealed anew.
    pub(crate) fn carry_over(
        self,
        volume: &Volume,
        keyed: &mut Keyed,
        record: &VolumeRecord,
        word: Option<&Readmission>,
    ) -> Result<()> {
        let proven = comparable(keyed)?;
        let sealed_under = keyed.sealed_under();
        let carried = {
            let mut node_tpm = lock(self.node_tpm)?;
            let (tpm, anchor) = node_tpm.anchor()?;
            let anchor = anchor.ok_or_else(|| Error::failure("there is no anchor"))?;
            let of_header = (&proven, sealed_under);
            let carried =
                anchor.carry_over(tpm, volume, record, of_header, word.map(|_| Word::Readmit));
            node_tpm.exceptions.extend(carried.as_ref().ok().cloned());
            carried
        };
        match (carried, word) {
            (Ok(_), _) => self.seal_anew(volume, keyed),
            // A record that is gone and a counter that was raised are what an operator's word is for.
            (Err(refusal), Some(word)) if refusal.exit() == Exit::Refused => {
                warn!(volume = volume.name.as_str(); "{refusal}");
                self.readmit(volume, keyed, word)
            }
            (Err(refusal), _) => Err(refusal),
        }
    }

    /// Seals the secret to the PCR values of now where it is sealed to others: a boot that was cut off, or another image, has left
    /// it so.
    pub(crate) fn refresh_seal(self, volume: &Volume, keyed: &mut Keyed) -> Result<()> {
        let Some(sealed_under) = keyed.sealed_under() else {
            return Ok(());
        };
        let now = {
            let mut node_tpm = lock(self.node_tpm)?;
            let policy = node_tpm.policy;
            node_tpm.tpm.anchor_policy(policy)?
        };
        if sealed_under == now || keyed.next_change().is_some() {
            return Ok(());
        }
        self.seal_anew(volume, keyed)
    }

    /// Makes ready to seal the secret that the key service gave to the TPM as it is now.
    ///
    /// Where that fails the volume is open all the same, and opens without. But no record may be removed that a header still names.
    pub(super) fn seal_anew(self, volume: &Volume, keyed: &mut Keyed) -> Result<()> {
        let is_sealed = volume.sources.contains(&Source::Tpm) && keyed.stamp.is_some();
        let is_given = matches!(keyed.source, Source::Service | Source::Recovery);
        if !is_given || !is_sealed {
            return Ok(());
        }
        let secret = Secret::new(keyed.secret().expose().to_vec());
        let seal = |secret: &Secret| self.seal(secret);
        let policy = lock(self.node_tpm)?.policy;
        let sealed = keyed.rekey(volume, policy, (Rekeyed::Sealed, &secret), seal);
        let names_one = volume.level() != Level::Off && keyed.sealed_under().is_some();
        let has_others = match lock(self.node_tpm)?.anchor()? {
            (_, Some(anchor)) => anchor.has_others() && names_one,
            (_, None) => false,
        };
        match sealed {
            Err(error) if !has_others => {
                warn!(volume = volume.name.as_str(); "not sealed to this TPM, the key service goes on opening it: {error}");
                Ok(())
            }
            sealed => sealed.doing("sealing to this TPM"),
        }
    }
}

/// What of a volume is compared with the key service's record.
pub(super) fn comparable(keyed: &Keyed) -> Result<VolumeProof> {
    keyed.proof()?.ok_or_else(|| {
        Error::refused("a volume without an epoch cannot be compared with the key service's record")
    })
}
