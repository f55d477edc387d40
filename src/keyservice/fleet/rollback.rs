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
use crate::protocol::admin::Volume;

/// The volume's node may go on with an older state of it: of `epoch`, or of the one that it shows first.
pub(crate) fn accept(
    service: &Service,
    by: &Actor,
    uuid: &str,
    epoch: Option<u64>,
) -> Result<Volume> {
    let now_s = now_s();
    let until_s = now_s.saturating_add(VALID_S);
    let (store, id) = (&service.store, told(service, by, uuid, "accept-rollback")?);
    rollback::set(store, &id, epoch, until_s, now_s)?.ok_or_else(|| gone(uuid))?;
    fleet::volume(store, uuid)
}

/// No older state of it is gone on with.
pub(crate) fn cancel(service: &Service, by: &Actor, uuid: &str) -> Result<Volume> {
    let (store, id) = (&service.store, told(service, by, uuid, "cancel-rollback")?);
    rollback::cancel(store, &id)?.ok_or_else(|| gone(uuid))?;
    fleet::volume(store, uuid)
}

/// The volume, once the audit log has what is done with it.
fn told(service: &Service, by: &Actor, uuid: &str, event: &'static str) -> Result<VolumeId> {
    let volume = fleet::volume(&service.store, uuid)?;
    let id = VolumeId::parse(&volume.uuid).ok_or_else(|| gone(uuid))?;
    fleet::record_audit(service, by, event, &volume.ek, &[volume.uuid])?;
    Ok(id)
}

fn gone(uuid: &str) -> Error {
    Error::refused(format_args!("no volume {uuid} is registered"))
}
