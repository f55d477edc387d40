// SPDX-License-Identifier: Apache-2.0
//! An operator lets a node go on with an older state of its volume, or takes that back: see [`rollback`].

use crate::error::Result;
use crate::keyservice::audit::now_s;
use crate::keyservice::fleet;
use crate::keyservice::fleet::Actor;
use crate::keyservice::registry::readmission::VALID_S;
use crate::keyservice::registry::rollback;
use crate::keyservice::state::Service;
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
    let (store, id) = (
        &service.store,
        fleet::told(service, by, uuid, "accept-rollback")?,
    );
    rollback::set(store, &id, epoch, until_s, now_s)?.ok_or_else(|| fleet::gone(uuid))?;
    fleet::volume(store, uuid)
}

/// No older state of it is gone on with.
pub(crate) fn cancel(service: &Service, by: &Actor, uuid: &str) -> Result<Volume> {
    let (store, id) = (
        &service.store,
        fleet::told(service, by, uuid, "cancel-rollback")?,
    );
    rollback::cancel(store, &id)?.ok_or_else(|| fleet::gone(uuid))?;
    fleet::volume(store, uuid)
}
