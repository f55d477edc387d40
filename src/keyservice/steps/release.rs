// SPDX-License-Identifier: Apache-2.0
//! The third step and those after it: keys go out, and what nodes report of their volumes comes in.

use crate::key::{KEY_LEN, Secret};
use crate::keyservice::audit::now_s;
use crate::keyservice::registry::{self, Reported, VolumeEntry, readmission};
use crate::keyservice::reply::{Fault, Rejection, Reply};
use crate::keyservice::session::{Admitted, PresentedSession, Session};
use crate::keyservice::state::{AuditTrail, Service, text};
use crate::keyservice::volume_id::VolumeId;
use crate::protocol::{
    CLUSTER_TAG, Jwe, MEASUREMENT_TYPE, REPOSITORY, Remembered, VOLUME_TYPE, VolumeReport,
};

/// A secret, encrypted to the machine's key of this boot.
pub(crate) fn resource(
    service: &Service,
    session: &PresentedSession,
    path: [&String; 3],
    trail: &mut AuditTrail,
) -> Result<Reply, Rejection> {
    let session = admitted(session, trail)?;
    let [repository, kind, tag] = path.map(String::as_str);
    let secret = match (repository, kind, tag) {
        (REPOSITORY, VOLUME_TYPE, uuid) => {
            trail.volumes.push(uuid.to_owned());
            let id = VolumeId::parse(uuid).ok_or_else(|| not_a_volume(uuid))?;
            owned(service, session, &id)?;
            service.keys.master()?.volume_secret(&id)?
        }
        (REPOSITORY, MEASUREMENT_TYPE, CLUSTER_TAG) => {
            trail.resource = Some(format!("{REPOSITORY}/{MEASUREMENT_TYPE}/{CLUSTER_TAG}"));
            service.keys.master()?.measurement()?
        }
        _ => {
            trail.resource = Some(format!("{repository}/{kind}/{tag}"));
            return Err(Rejection::new(
                Fault::NotFound,
                "resource",
                "there is no such resource",
            ));
        }
    };
    seal(&secret, session)
}

/// What is remembered of a volume, and whether an operator said that the node's TPM does not remember it any more.
pub(crate) fn record(
    service: &Service,
    session: &PresentedSession,
    uuid: &str,
    trail: &mut AuditTrail,
) -> Result<Reply, Rejection> {
    let session = admitted(session, trail)?;
    trail.volumes.push(uuid.to_owned());
    let id = VolumeId::parse(uuid).ok_or_else(|| not_a_volume(uuid))?;
    let entry = owned(service, session, &id)?;
    let now_s = now_s();
    if !entry.is_readmitted(&session.ek, now_s) {
        let (record, rollback) = entry.told_to(session, now_s);
        return reply(&Remembered {
            record,
            readmitted_s: None,
            void_s: None,
            rollback,
        });
    }
    let remembered = readmission::answer(&service.store, &id, session, now_s)?;
    reply(&remembered.ok_or_else(|| not_theirs(&id))?)
}

/// Remembers what a node says of a volume it has opened.
pub(crate) fn report(
    service: &Service,
    session: &PresentedSession,
    uuid: &str,
    body: &[u8],
    trail: &mut AuditTrail,
) -> Result<Reply, Rejection> {
    let session = admitted(session, trail)?;
    trail.volumes.push(uuid.to_owned());
    let id = VolumeId::parse(uuid).ok_or_else(|| not_a_volume(uuid))?;
    owned(service, session, &id)?;
    let told = VolumeReport::parse(body)
        .map_err(|error| Rejection::new(Fault::Malformed, "body", error))?;
    trail.accepted = told.accepted;
    let key_id = told.record.key_id.as_deref();
    if key_id.is_some_and(|key| !is_key_id(key)) {
        return Err(Rejection::new(
            Fault::Malformed,
            "key-id",
            "expected 64 hexadecimal digits in lower case",
        ));
    }
    match registry::report(&service.store, session, &id, &told, now_s())? {
        Reported::Kept(record) => {
            if let Some(what) = told.accepted {
                service.metrics.acceptance(what);
            }
            reply(&record)
        }
        Reported::Contradicts(why) => Err(Rejection::denied(
            "record",
            format_args!("volume {id}: {why}"),
        )),
        Reported::NotOurs => Err(not_theirs(&id)),
    }
}

/// The session of a machine that was admitted a short while ago.
pub(crate) fn admitted<'a>(
    presented: &'a PresentedSession,
    trail: &mut AuditTrail,
) -> Result<&'a Admitted, Rejection> {
    let session = match presented.session()? {
        Session::Admitted(session) => session,
        Session::Challenged(session) => {
            return Err(Rejection::new(
                Fault::Session,
                "session",
                format_args!("endorsement key {} was not admitted yet", session.ek),
            ));
        }
    };
    trail.ek = Some(session.ek.clone());
    trail.image = Some(session.image.clone());
    if session.until_s < now_s() {
        return Err(Rejection::new(
            Fault::Session,
            "session-expired",
            "the session has ended",
        ));
    }
    // Not before: whoever was admitted once could write line after line for ever.
    trail.is_proven = true;
    Ok(session)
}

/// What is remembered of a volume that the session was admitted to and that still belongs to its machine.
fn owned(service: &Service, session: &Admitted, id: &VolumeId) -> Result<VolumeEntry, Rejection> {
    if !session.volumes.contains(id) {
        return Err(Rejection::denied(
            "volume-claim",
            format_args!("the machine did not say that it would open volume {id}"),
        ));
    }
    match registry::volume(&service.store, id)? {
        Some(entry) if entry.ek == session.ek => Ok(entry),
        Some(_) | None => Err(not_theirs(id)),
    }
}

fn not_theirs(id: &VolumeId) -> Rejection {
    Rejection::denied(
        "owner",
        format_args!("volume {id} is not the machine's any more"),
    )
}

fn not_a_volume(uuid: &str) -> Rejection {
    Rejection::new(
        Fault::NotFound,
        "volume-id",
        format_args!("expected a UUID in lower case, found {uuid:?}"),
    )
}

fn is_key_id(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == KEY_LEN.saturating_mul(2) && text.bytes().all(is_digit)
}

fn seal(secret: &Secret, session: &Admitted) -> Result<Reply, Rejection> {
    reply(&Jwe::seal(secret, &session.tee_pubkey)?)
}

fn reply(value: &impl serde::Serialize) -> Result<Reply, Rejection> {
    Ok(Reply {
        body: text(value)?,
        session: None,
    })
}
