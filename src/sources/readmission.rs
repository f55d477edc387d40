// SPDX-License-Identifier: Apache-2.0
//! A volume that the TPM does not remember, and an operator's word at the key service that its node has lost its TPM.
//!
//! Only the service can pass that word on, in the session in which it gives the volume's key to a machine that has shown
//! what it booted. Neither the disk nor the configuration nor the host has a way to say the same.

use log::warn;

use crate::anchor::judge::Readmission;
use crate::config::{Level, Volume};
use crate::error::{Error, Result};
use crate::sources::Sources;
use crate::sources::stale::comparable;
use crate::sources::tpm::lock;
use crate::volume::Keyed;

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
}
