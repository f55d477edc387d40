// SPDX-License-Identifier: Apache-2.0
//! Which volumes may be absent.

use super::DEVICE_TIMEOUT_S_MAX;
use crate::config::volume::WAIT_S;
use crate::config::{ClusterFrom, Config, Role, Volume};

/// A volume by itself.
pub(super) fn alone(volume: &Volume) -> Result<(), String> {
    match (volume.required, volume.role, volume.wait_s) {
        (true, _, wait_s) if wait_s != WAIT_S => Err(
            "wait-s: expected required = false beside it; for the others device-timeout-s says how long a device is waited for"
                .into(),
        ),
        (false, Role::Root, _) => Err(
            "required: expected true for the root: without it there is nothing to go on with".into(),
        ),
        (false, Role::State, found) if !(1..=DEVICE_TIMEOUT_S_MAX).contains(&found) => {
            Err(format!(
                "wait-s: expected 1 to {DEVICE_TIMEOUT_S_MAX}, found {found}; systemd waits for ever where it is 0"
            ))
        }
        (true, ..) | (false, Role::State, _) => Ok(()),
    }
}

/// The volume that the clusterID is derived from: a boot without it would have none, or another one.
pub(super) fn cluster(config: &Config) -> Result<(), String> {
    match (config.measure.cluster, config.cluster_volume()) {
        (ClusterFrom::Volume, Some(volume)) if !volume.required => Err(format!(
            "volume {}: required: expected true for the volume that the clusterID is derived from; have measure.cluster-volume name \
             another one, or set measure.cluster = \"service\"",
            volume.name
        )),
        _ => Ok(()),
    }
}

/// systemd mounts what is above a mount before it, and would wait for a volume that is away.
pub(super) fn below(config: &Config) -> Result<(), String> {
    for volume in config.volumes().filter(|volume| !volume.required) {
        let Some(above) = &volume.mount else {
            continue;
        };
        let prefix = format!("{above}/");
        let is_below = |other: &&Volume| {
            let mount = other.mount.as_ref();
            mount.is_some_and(|mount| mount.as_str().starts_with(&prefix))
        };
        if let Some(other) = config.volumes().find(is_below) {
            return Err(format!(
                "volume {}: mount: expected a directory that is not below that of volume {}, which need not be there",
                other.name, volume.name
            ));
        }
    }
    Ok(())
}
