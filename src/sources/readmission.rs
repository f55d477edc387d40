// SPDX-License-Identifier: Apache-2.0
//! A volume that the TPM does not remember, and an operator's word at the key service that its node has lost its TPM.
//!
//! Only the service can pass that word on, in the session in which it gives the volume's key to a machine that has shown
//! what it booted. Neither the disk nor the configuration nor the host has a way to say the same.

use log::warn;

use crate::anchor::judge::Readmission;
use crate::config::{Level, Source, Volume};
use crate::error::{Doing, Error, Result};
use crate::key::Secret;
use crate::sources::Sources;
use crate::sources::tpm::lock;
use crate::volume::{Found, Keyed};

impl Sources<'_> {
    /// The service's answer about a volume that the TPM does not remember, if the volume was readmitted. The service is asked
    /// even where the volume has another source before it.
    pub(crate) fn readmission(self, volume: &Volume, found: &Found) -> Result<Option<Readmission>> {
        let asks = volume.sources.contains(&Source::Service) && volume.level() != Level::Off;
        if !(asks && matches!(found, Found::Existing(_))) {
            return Ok(None);
        }
        let is_unknown = match lock(self.node_tpm)?.anchor()? {
            (_, Some(anchor)) => anchor.is_unknown(volume),
            (_, None) => false,
        };
        if !is_unknown {
            return Ok(None);
        }
        let uuid = found.claim(volume)?.uuid;
        self.service
            .readmission(self.node_tpm, &uuid, self.record)
            .doing("the TPM does not remember this volume; asking the key service whether it was readmitted")
    }

    /// Compares a volume that was readmitted with the service's record, and has the TPM remember it once this boot has
    /// succeeded. What the lost TPM had sealed is sealed anew.
    pub(crate) fn readmit(
        self,
        volume: &Volume,
        keyed: &mut Keyed,
        readmission: &Readmission,
    ) -> Result<()> {
        let Some(proven) = keyed.proof()? else {
            return Err(Error::refused(
                "a volume without an epoch cannot be compared with the key service's record",
            ));
        };
        {
            let mut node_tpm = lock(self.node_tpm)?;
            let (tpm, anchor) = node_tpm.anchor()?;
            let anchor = anchor.ok_or_else(|| Error::failure("there is no anchor"))?;
            let exception = anchor.readmit(tpm, volume, readmission, &proven)?;
            node_tpm.exceptions.push(exception);
        }
        if volume.level() == Level::Checkpoint {
            warn!(
                volume = volume.name.as_str();
                "nobody knows the last checkpoint of its file system: in this boot its age is told by the epoch alone"
            );
        }
        if keyed.source == Source::Service && volume.sources.contains(&Source::Tpm) {
            let secret = Secret::new(keyed.secret().expose().to_vec());
            let seal = |secret: &Secret| self.seal(secret);
            if let Err(error) = keyed.rekey(volume, &self.config.tpm, &secret, seal) {
                warn!(volume = volume.name.as_str(); "not sealed to this TPM, the key service goes on opening it: {error}");
            }
        }
        Ok(())
    }
}
