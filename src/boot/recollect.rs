// SPDX-License-Identifier: Apache-2.0
//! A volume that the TPM does not remember and the key service does: the TPM was cleared.

use log::warn;

use super::chip::{Sources, lock};
use crate::anchor::judge;
use crate::config::{Level, Source, Volume};
use crate::error::{Error, Result};
use crate::key::Secret;
use crate::volume::{Found, Keyed};

impl Sources<'_> {
    /// Whether nothing but the service's record can say that this volume is the node's.
    pub(super) fn is_for_the_service(self, volume: &Volume, found: &Found) -> Result<bool> {
        let chip = lock(self.chip)?;
        let unknown = chip.anchor.as_ref().is_some_and(|it| it.is_unknown(volume));
        let asks = volume.sources.contains(&Source::Service) && volume.level() != Level::Off;
        Ok(unknown && asks && matches!(found, Found::Existing(_)))
    }

    /// Takes the volume for the node's if the service gave the key that opened it and remembers it, and has the TPM remember
    /// it again. What was sealed is lost with the old memory, so the secret is sealed anew.
    pub(super) fn recollect(self, volume: &Volume, keyed: &mut Keyed) -> Result<()> {
        let Some(proven) = keyed.proven()? else {
            return Err(Error::failure("a volume without an epoch has no anchor"));
        };
        let record = match keyed.source {
            Source::Service => self.desk.record(&keyed.uuid)?,
            Source::Tpm | Source::Generate => None,
        };
        judge::recollected(record.as_ref(), &proven)?;
        {
            let mut chip = lock(self.chip)?;
            let chip = &mut *chip;
            let anchor = chip.anchor.as_mut();
            let anchor = anchor.ok_or_else(|| Error::failure("there is no anchor"))?;
            let exception = anchor.recollect(&mut chip.tpm, volume, &proven)?;
            chip.exceptions.push(exception);
        }
        let secret = Secret::new(keyed.secret().expose().to_vec());
        if volume.sources.contains(&Source::Tpm)
            && let Err(error) = keyed.rekey(volume, &self.config.tpm, &secret, |secret| {
                self.seal(secret)
            })
        {
            warn!(volume = volume.name.as_str(); "not sealed to the TPM again: {error}");
        }
        Ok(())
    }
}
