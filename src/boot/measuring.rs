// SPDX-License-Identifier: Apache-2.0
//! What this boot measures, in which order.

use std::sync::Mutex;

use super::chip::{Chip, lock};
use super::desk::Desk;
use crate::config::{ClusterFrom, Config, Volume};
use crate::error::{Error, Result};
use crate::key;
use crate::measure::{self, EventLog, Identity};
use crate::status::Recorder;
use crate::volume::Keyed;

/// Measures the clusterID and the volumes' identities, in the configuration's order, which is the same at every boot.
pub(super) fn measure_all(
    config: &Config,
    chip: &Mutex<Chip>,
    log: &EventLog,
    desk: &Desk,
    keyed: &[(&Volume, Keyed)],
    record: &Recorder,
) -> Result<()> {
    let id = match config.measure.cluster {
        ClusterFrom::Volume => cluster_id(config, keyed)?,
        ClusterFrom::Service => {
            desk.with_cluster(|cluster| key::cluster_id(&cluster.secret, &cluster.salt))?
        }
    };
    let mut chip = lock(chip)?;
    let Chip {
        tpm, exceptions, ..
    } = &mut *chip;
    measure::cluster_id(log, config.measure.cluster_pcr, &id, |id| {
        tpm.event(config.measure.cluster_pcr, id)
    })?;
    record.cluster_id(&id);
    // Nothing is unsealed any more, so the fence's PCR can take what the operator had to allow.
    for exception in exceptions {
        measure::acceptance(log, config.tpm.fence_pcr, &exception.event(), |event| {
            tpm.event(config.tpm.fence_pcr, event)
        })?;
    }
    let banks = tpm.banks()?;
    for (volume, keyed) in keyed {
        if let Some(pcr) = volume.identity_pcr {
            let identity = Identity {
                name: volume.name.as_str(),
                uuid: &keyed.uuid,
                volume_key: keyed.volume_key(),
            };
            measure::volume_identity(log, pcr, &identity, &banks, |digests| {
                tpm.extend(pcr, digests)
            })?;
        }
    }
    Ok(())
}

/// The clusterID, from the secret and the salt of the volume that the configuration names.
fn cluster_id(config: &Config, keyed: &[(&Volume, Keyed)]) -> Result<Vec<u8>> {
    let name = config.cluster_volume().map(|volume| &volume.name);
    let (_, keyed) = keyed
        .iter()
        .find(|(volume, _)| Some(&volume.name) == name)
        .ok_or_else(|| Error::config("no volume to derive the clusterID from"))?;
    let salt = keyed
        .salt
        .ok_or_else(|| Error::refused("the clusterID's volume has no measurement salt"))?;
    key::stand_alone_cluster_id(keyed.secret(), &salt)
}

/// From here on nothing that was sealed for the initrd can be unsealed, until the next reset.
pub(super) fn fence(
    config: &Config,
    chip: &Mutex<Chip>,
    log: &EventLog,
    record: &Recorder,
) -> Result<()> {
    let tpm = &mut lock(chip)?.tpm;
    let pcr = config.tpm.fence_pcr;
    measure::fence(log, pcr, |event| tpm.event(pcr, event))?;
    record.fence(pcr);
    record.pcr_after(pcr, &tpm.read(pcr)?);
    let pcr = config.measure.cluster_pcr;
    record.pcr_after(pcr, &tpm.read(pcr)?);
    Ok(())
}
