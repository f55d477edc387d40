// SPDX-License-Identifier: Apache-2.0
//! A volume that the TPM does not remember, and an operator's word at the key service that its node has lost its TPM; and one that
//! is older than the TPM counts, and an operator's word there to go on with it.
//!
//! Only the service can pass such a word on, in the session in which it gives the volume's key to a machine that has shown
//! what it booted. Neither the disk nor the configuration nor the host has a way to say the same.

use log::warn;

use crate::anchor::judge::Readmission;
use crate::config::{Level, Source, Volume};
use crate::error::{Error, Result};
use crate::sources::Sources;
use crate::sources::stale::comparable;
use crate::sources::tpm::lock;
use crate::volume::Keyed;

/// Whether the service is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// What it answered in this boot counts, if it was asked.
    Already,
    /// It is, unless it was.
    Now,
}

impl Sources<'_> {
    /// Compares a volume that was readmitted with the service's record, and has the TPM remember it once this boot has
    /// succeeded. What the lost TPM had sealed is sealed anew.
    pub(crate) fn readmit(
        self,
        volume: &Volume,
        keyed: &mut Keyed,
        readmission: &Readmission,
    ) -> Result<()> {
        let proven = comparable(keyed)?;
        {
            let mut node_tpm = lock(self.node_tpm)?;
            let (_, anchor) = node_tpm.anchor()?;
            let anchor = anchor.ok_or_else(|| Error::failure("there is no anchor"))?;
            let exception = anchor.readmit(volume, readmission, &proven)?;
            node_tpm.exceptions.push(exception);
        }
        if volume.level() == Level::Checkpoint {
            warn!(
                volume = volume.name.as_str();
                "nobody knows the last checkpoint of its file system: in this boot its age is told by the epoch alone"
            );
        }
        self.seal_anew(volume, keyed)
    }

    /// Goes on with an older state of a volume where an operator said so at the service of this very epoch, and says whether it does.
    /// What the service was shown is what nobody had proven; and its answer may be of another disk, from a try before. A service that
    /// does not answer has said nothing.
    pub(super) fn roll_back_by_service(
        self,
        volume: &Volume,
        keyed: &Keyed,
        asked: Asked,
    ) -> Result<bool> {
        if !volume.sources.contains(&Source::Service) {
            return Ok(false);
        }
        let remembered = match asked {
            Asked::Already => self.service.remembered(&keyed.uuid)?,
            Asked::Now => {
                let answer = self
                    .service
                    .ask_about(self.node_tpm, &keyed.uuid, self.record);
                answer.unwrap_or_else(|error| {
                    let name = volume.name.as_str();
                    warn!(volume = name; "whether an operator goes on with an older state of it is not known: {error}");
                    None
                })
            }
        };
        let said = remembered.and_then(|remembered| remembered.rollback);
        if said.is_none() || said != keyed.epoch() {
            return Ok(false);
        }
        let mut node_tpm = lock(self.node_tpm)?;
        let (_, anchor) = node_tpm.anchor()?;
        let Some(anchor) = anchor.filter(|anchor| !anchor.is_unknown(volume)) else {
            return Ok(false);
        };
        let exception = anchor.roll_back(volume)?;
        node_tpm.exceptions.push(exception);
        Ok(true)
    }
}
