// SPDX-License-Identifier: Apache-2.0
//! What this boot measures, in which order.

use std::sync::Mutex;

use log::warn;

use crate::config::{ClusterFrom, Config, Profile, Volume};
use crate::error::{Error, Result};
use crate::key;
use crate::measure::{self, EventLog, VolumeIdentity};
use crate::pcr::Digests;
use crate::sources::service::ServiceSession;
use crate::sources::tpm::{NodeTpm, lock};
use crate::status::Recorder;
use crate::tpm::Tpm;
use crate::volume::Keyed;

/// Measures the clusterID and the volumes' identities, in the configuration's order, which is the same at every boot.
pub(super) fn measure_all(
    config: &Config,
    node_tpm: &Mutex<NodeTpm>,
    log: &EventLog,
    service: &ServiceSession,
    keyed: &[(&Volume, Keyed)],
    record: &Recorder,
) -> Result<()> {
    let id = match config.measure.cluster {
        ClusterFrom::Volume => cluster_id(config, keyed)?,
        ClusterFrom::Service => {
            service.with_cluster(|cluster| key::cluster_id(&cluster.secret, &cluster.salt))?
        }
    };
    let mut node_tpm = lock(node_tpm)?;
    let NodeTpm {
        tpm, exceptions, ..
    } = &mut *node_tpm;
    measure::cluster_id(log, config.measure.cluster_pcr, &id, |id| {
        tpm.event(config.measure.cluster_pcr, id)
    })?;
    record.cluster_id(&id);
    // Nothing is unsealed any more, so the fence's PCR can take what the operator had to allow.
    let exceptions = config
        .volumes()
        .flat_map(|volume| exceptions.iter().filter(|it| it.volume == volume.name));
    for exception in exceptions {
        measure::acceptance(log, config.tpm.fence_pcr, &exception.event(), |event| {
            tpm.event(config.tpm.fence_pcr, event)
        })?;
    }
    for (volume, keyed) in keyed {
        identity(config, tpm, log, volume, keyed)?;
    }
    Ok(())
}

/// Measures which volumes this boot went on without, so that whoever reads the fence's PCR is not told less by a disk that was
/// taken away. In the configuration's order, which is the same at every boot.
pub(super) fn measure_away(
    config: &Config,
    node_tpm: &Mutex<NodeTpm>,
    log: &EventLog,
    away: &[&Volume],
) -> Result<()> {
    let tpm = &mut lock(node_tpm)?.tpm;
    let is_away = |volume: &&Volume| away.iter().any(|other| other.name == volume.name);
    for volume in config.volumes().filter(is_away) {
        let event = format!("nightlatch:away:{}", volume.name);
        measure::acceptance(log, config.tpm.fence_pcr, &event, |event| {
            tpm.event(config.tpm.fence_pcr, event)
        })?;
    }
    Ok(())
}

/// Measures which volume this is: into the PCR that the configuration names or, of a volume that nothing else measured is
/// derived from, into the fence's.
fn identity(
    config: &Config,
    tpm: &mut Tpm,
    log: &EventLog,
    volume: &Volume,
    keyed: &Keyed,
) -> Result<()> {
    let identity = VolumeIdentity {
        name: volume.name.as_str(),
        uuid: &keyed.uuid,
        volume_key: keyed.volume_key(),
    };
    match (volume.identity_pcr, volume.profile) {
        (Some(pcr), _) => {
            let banks = tpm.banks()?;
            measure::volume_identity(log, pcr, &identity, &banks, |digests| {
                tpm.extend(pcr, digests)
            })
        }
        (None, Profile::Luks2Strict | Profile::Constellation) => {
            let pcr = config.tpm.fence_pcr;
            measure::foreign_volume(log, pcr, &identity, &keyed.key_id, |event| {
                tpm.event(pcr, event)
            })
        }
        (None, Profile::Nightlatch1) => Ok(()),
    }
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

/// From here on nothing that was sealed for the initrd can be unsealed, until the next reset, and a key service does not
/// take this for a machine that has yet to open its volumes.
pub(super) fn fence(
    config: &Config,
    tpm: &mut Tpm,
    log: &EventLog,
    record: &Recorder,
) -> Result<()> {
    let pcr = config.tpm.fence_pcr;
    let fenced = measure::fence(log, pcr, |event| tpm.event(pcr, event));
    if fenced.is_ok() {
        record.fence(pcr);
    }
    // One does not wait for the other, and the first error is the one to report.
    let closed = close_identity(config, tpm, log, record);
    fenced.and(closed)
}

/// Has no key service take this for a machine that has yet to open its volumes, and leaves on record what the PCRs hold.
/// Both are read in one command.
fn close_identity(config: &Config, tpm: &mut Tpm, log: &EventLog, record: &Recorder) -> Result<()> {
    let cluster_pcr = config.measure.cluster_pcr;
    let pcrs = [config.tpm.fence_pcr, cluster_pcr];
    let mut values = tpm.read_last(&pcrs)?;
    let is_open = |digests: &Digests| digests.iter().any(|(bank, value)| *value == bank.zero());
    if values.last().is_some_and(is_open) {
        measure::failed(log, cluster_pcr, |event| tpm.event(cluster_pcr, event))?;
        values = tpm.read_last(&pcrs)?;
    }
    for (pcr, values) in pcrs.into_iter().zip(values) {
        record.pcr_after(pcr, &values);
    }
    Ok(())
}

/// The same after a boot that ended before anything was measured, whose TPM may be what it ended with.
pub(super) fn fence_after_failure(config: &Config, log: &EventLog, record: &Recorder) {
    let raise = |vouches: bool| {
        let mut tpm = Tpm::open(&config.tpm.tcti)?;
        if vouches {
            tpm.vouch();
        }
        fence(config, &mut tpm, log, record)
    };
    let fenced = record.step("fencing", None, || {
        raise(true).or_else(|error| {
            // One that nothing vouches for is better than none.
            warn!("{error}");
            raise(false)
        })
    });
    if let Err(error) = fenced {
        warn!("{error}");
    }
}

#[cfg(test)]
mod tests;
