// SPDX-License-Identifier: Apache-2.0
//! An operator says that the node of a volume has lost its TPM, or takes that back: see [`readmission`].

use crate::error::Result;
use crate::keyservice::audit::now_s;
use crate::keyservice::fleet;
use crate::keyservice::fleet::Actor;
use crate::keyservice::registry::readmission;
use crate::keyservice::registry::readmission::VALID_S;
use crate::keyservice::state::Service;
use crate::protocol::admin::{Readmission, Volume};

/// The next machine that is admitted with the volume has it.
pub(crate) fn allow(service: &Service, by: &Actor, uuid: &str) -> Result<Volume> {
    let grant = Readmission {
        until_s: now_s().saturating_add(VALID_S),
        ek: None,
    };
    set(service, by, uuid, "readmit", Some(&grant))
}

/// No machine gets the volume that does not have it already.
pub(crate) fn cancel(service: &Service, by: &Actor, uuid: &str) -> Result<Volume> {
    set(service, by, uuid, "cancel-readmit", None)
}

fn set(
    service: &Service,
    by: &Actor,
    uuid: &str,
    event: &'static str,
    grant: Option<&Readmission>,
) -> Result<Volume> {
    let id = fleet::told(service, by, uuid, event)?;
    readmission::set(&service.store, &id, grant)?.ok_or_else(|| fleet::gone(uuid))?;
    fleet::volume(&service.store, uuid)
}
