// SPDX-License-Identifier: Apache-2.0
//! An operator lets a node go on with an older state of its volume, or takes that back: see [`rollback`].

use crate::error::{Error, Result};
use crate::keyservice::audit::now_s;
use crate::keyservice::fleet;
use crate::keyservice::fleet::Actor;
use crate::keyservice::registry::readmission::VALID_S;
use crate::keyservice::registry::rollback;
use crate::keyservice::state::Service;
use crate::keyservice::volume_id::VolumeId;
use crate::protocol::admin::{Rollback, Volume};

/// The volume's node may go on with an older state of it: of `epoch`, or of the one that it shows first.
pub(crate) fn accept(
    service: &Service,
    by: &Actor,
    uuid: &str,
    epoch: Option<u64>,
) -> Result<Volume> {
    let until_s = now_s().saturating_add(VALID_S);
    set(
        service,
        by,
        uuid,
        "accept-rollback",
        Some(&Rollback { until_s, epoch }),
    )
}

/// No older state of it is gone on with.
pub(crate) fn cancel(service: &Service, by: &Actor, uuid: &str) -> Result<Volume> {
    set(service, by, uuid, "cancel-rollback", None)
}

fn set(
    service: &Service,
    by: &Actor,
    uuid: &str,
    event: &'static str,
    word: Option<&Rollback>,
) -> Result<Volume> {
    let volume = fleet::volume(&service.store, uuid)?;
    let gone = || Error::refused(format_args!("no volume {uuid} is registered"));
    let id = VolumeId::parse(&volume.uuid).ok_or_else(gone)?;
    let volumes = std::slice::from_ref(&volume.uuid);
    fleet::record_audit(service, by, event, &volume.ek, volumes)?;
    rollback::set(&service.store, &id, word)?.ok_or_else(gone)?;
    fleet::volume(&service.store, uuid)
}
