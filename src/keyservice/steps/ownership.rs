// SPDX-License-Identifier: Apache-2.0
//! Whose the volumes are that an admitted machine claims, how old they may be, and the operators' words about both.

use crate::config::Role;
use crate::keyservice::audit::{self, Line, now_s};
use crate::keyservice::registry::{
    self, NodeEntry, Registered, VolumeEntry, readmission, rollback,
};
use crate::keyservice::reply::{Rejection, Step};
use crate::keyservice::state::Service;
use crate::keyservice::volume_id::VolumeId;
use crate::protocol::{EphemeralKey, VolumeClaim};

/// The volumes are this machine's, none older than what is remembered, or it is denied. `taker` is its endorsement key's id and
/// the key that it drew for this session.
pub(super) fn settle(
    service: &Service,
    taker: (&str, &EphemeralKey),
    node: &NodeEntry,
    volumes: &[(VolumeId, Role)],
    claims: &[VolumeClaim],
) -> Result<(), Rejection> {
    let words = register(service, taker.0, node, volumes, claims)?;
    for volume in &words.free {
        readmit(service, taker.0, node, volume)?;
    }
    for older in &words.older {
        roll_back(service, taker, node, older)?;
    }
    Ok(())
}

/// What operators' words let this machine have.
#[derive(Debug, Default)]
struct Words {
    /// Volumes that are free for it, and whose they were.
    free: Vec<(VolumeId, String)>,
    /// Volumes that may be in an older state.
    older: Vec<Older>,
}

/// A volume with the epoch that was shown and the one that is remembered.
#[derive(Debug)]
struct Older {
    id: VolumeId,
    claimed: u64,
    recorded: u64,
}

/// Registers what is new, and compares the rest with what is remembered. Returns what takes an operator's word that is there.
fn register(
    service: &Service,
    ek: &str,
    node: &NodeEntry,
    volumes: &[(VolumeId, Role)],
    claims: &[VolumeClaim],
) -> Result<Words, Rejection> {
    let registered = registry::register(&service.store, ek, node, volumes)?;
    let mut words = Words::default();
    let now_s = node.last_seen_s;
    for ((claim, (id, _)), registered) in claims.iter().zip(volumes).zip(registered) {
        match registered {
            Registered::Ours(entry) => words.older.extend(compare((id, claim), &entry, ek, now_s)?),
            Registered::Free(entry) => {
                words.older.extend(compare((id, claim), &entry, ek, now_s)?);
                words.free.push((id.clone(), entry.ek));
            }
            Registered::Theirs(owner) => return Err(not_the_owner(&claim.uuid, &owner)),
        }
    }
    Ok(words)
}

fn not_the_owner(uuid: &str, owner: &str) -> Rejection {
    Rejection::denied(
        "owner",
        format_args!("volume {uuid} belongs to endorsement key {owner}"),
    )
}

/// The machine has passed every check, and has this volume by the word of an operator: it is this machine's from now on. That
/// is written down before it happens.
fn readmit(
    service: &Service,
    ek: &str,
    node: &NodeEntry,
    (id, owner): &(VolumeId, String),
) -> Result<(), Rejection> {
    let why = format!("it belonged to endorsement key {owner}");
    service.audit.add(&Line {
        time: audit::time(now_s()),
        event: "readmission",
        step: Step::Attest.as_str(),
        peer: node.address.clone(),
        ek: Some(ek),
        volumes: &[id.to_string()],
        image: Some(&node.image),
        why: Some(&why),
        ..Line::default()
    })?;
    if readmission::take(&service.store, id, ek, node.last_seen_s)? {
        return Ok(());
    }
    // Another machine was quicker, or the operator took the word back.
    let entry = registry::volume(&service.store, id)?;
    let owner = entry.map_or_else(|| "nobody any more".to_owned(), |entry| entry.ek);
    Err(not_the_owner(id.as_str(), &owner))
}

/// An operator lets this machine go on with an older state of its volume. That is written down before it happens.
fn roll_back(
    service: &Service,
    taker: (&str, &EphemeralKey),
    node: &NodeEntry,
    older: &Older,
) -> Result<(), Rejection> {
    let Older {
        id,
        claimed,
        recorded,
    } = older;
    let why = format!("it claims epoch {claimed}, and {recorded} is recorded");
    service.audit.add(&Line {
        time: audit::time(now_s()),
        event: "rollback",
        step: Step::Attest.as_str(),
        peer: node.address.clone(),
        ek: Some(taker.0),
        volumes: &[id.to_string()],
        image: Some(&node.image),
        why: Some(&why),
        ..Line::default()
    })?;
    let is_taken = rollback::take(&service.store, id, taker, *claimed, node.last_seen_s)?;
    // Otherwise another session was quicker, with another disk, or the operator took the word back.
    if is_taken || claimed >= recorded {
        return Ok(());
    }
    Err(rolled_back(older))
}

fn rolled_back(older: &Older) -> Rejection {
    let Older {
        id,
        claimed,
        recorded,
    } = older;
    Rejection::denied(
        "rollback",
        format_args!(
            "volume {id} has epoch {claimed}, and {recorded} is recorded: it was rolled back; if that is meant, \
             \"nightlatchctl nodes accept rollback {id}\" lets its node go on with it"
        ),
    )
}

/// Compares a volume with what is remembered of it. It is returned where there is an operator's word for older ones.
fn compare(
    (id, claim): (&VolumeId, &VolumeClaim),
    entry: &VolumeEntry,
    ek: &str,
    now_s: u64,
) -> Result<Option<Older>, Rejection> {
    if claim.role != entry.role {
        return Err(Rejection::denied(
            "volume-role",
            format_args!(
                "volume {id} is a {} volume, and was asked for as a {} volume",
                entry.role.as_str(),
                claim.role.as_str()
            ),
        ));
    }
    let older = Older {
        id: id.clone(),
        claimed: claim.epoch.unwrap_or_default(),
        recorded: entry.record.epoch,
    };
    // Also where it is not older than what is remembered: the node's TPM may know better.
    if entry.may_roll_back(ek, older.claimed, now_s) {
        return Ok(Some(older));
    }
    if older.claimed < older.recorded {
        return Err(rolled_back(&older));
    }
    Ok(None)
}
