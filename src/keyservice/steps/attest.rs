// SPDX-License-Identifier: Apache-2.0
//! The second step: evidence is verified, compared with the policy and with what is remembered, and the machine is
//! admitted to its volumes.

use crate::config::Role;
use crate::evidence::{
    Ak, Check, Expected, Policy, Presented, Refusal, Registers, Values, Verified, verify,
};
use crate::keyservice::audit::now_s;
use crate::keyservice::registry::NodeEntry;
use crate::keyservice::reply::{Fault, Rejection, Reply};
use crate::keyservice::session::{self, Admitted, Challenged, PresentedSession, Session};
use crate::keyservice::state::{AuditTrail, Request, Service, parse, text};
use crate::keyservice::steps::ownership;
use crate::keyservice::volume_id::VolumeId;
use crate::pcr::{Bank, PCR_COUNT};
use crate::protocol::admin::ToldFailure;
use crate::protocol::{
    Additional, Admission, AttestRequest, Claims, EXTENSION, TeeEvidence, VolumeClaim,
};

/// How many volumes a machine may have.
const VOLUMES_MAX: usize = 16;

/// How many characters a UUID has.
const UUID_LEN: usize = 36;

pub(crate) fn answer(
    service: &Service,
    request: &Request,
    trail: &mut AuditTrail,
) -> Result<Reply, Rejection> {
    let session = challenged(&request.session)?;
    trail.ek = Some(session.ek.clone());
    let body: AttestRequest = parse(&request.body)?;
    let evidence = &body.tee_evidence;
    let claims = claims(&evidence.additional_evidence)?;
    if session::credential_hash(&claims.credential.0) != session.credential_hash {
        return Err(Rejection::denied(
            "credential",
            "the machine did not open the credential: its attestation key is not in the TPM of that \
             endorsement key",
        ));
    }
    trail.is_proven = true;
    // What goes into the audit log has a limit, and who has proven nothing writes nothing of his own there.
    trail.volumes = claims
        .volumes
        .iter()
        .take(VOLUMES_MAX)
        .map(|claim| claim.uuid.chars().take(UUID_LEN).collect())
        .collect();
    service.count_ek(&session.ek)?;
    if body.runtime_data.nonce != session.nonce {
        return Err(Rejection::denied("nonce", "the nonce is another session's"));
    }
    body.runtime_data
        .tee_pubkey
        .check()
        .map_err(|error| Rejection::denied("tee-pubkey", error))?;
    let volumes = volumes(&claims.volumes)?;
    let qualifying = body
        .runtime_data
        .qualifying(&evidence.additional_evidence)?;
    let verified = verified(session, evidence, &claims, &qualifying)?;
    let policy = service.policy();
    policy.early(&verified)?;
    let image = admit(&policy, &verified, &volumes)?;
    trail.image = Some(image.clone());
    let node = NodeEntry {
        first_seen_s: now_s(),
        last_seen_s: now_s(),
        image: image.clone(),
        address: request.from.to_canonical().to_string(),
        denial: None,
        failure: claims.last_failure.as_ref().map(|told| ToldFailure {
            told_s: now_s(),
            failure: told.shown(),
        }),
    };
    let taker = (session.ek.as_str(), &body.runtime_data.tee_pubkey);
    ownership::settle(service, taker, &node, &volumes, &claims.volumes)?;
    service.sightings.seen(&session.ek, node);
    let lifetime_s = service.lifetimes.admission_s.get();
    let admitted = Session::Admitted(Admitted {
        until_s: now_s().saturating_add(u64::from(lifetime_s)),
        ek: session.ek.clone(),
        tee_pubkey: body.runtime_data.tee_pubkey,
        volumes: volumes.into_iter().map(|(id, _)| id).collect(),
        image,
    });
    let token = session::seal(service.keys.master()?.session_key(), &admitted)?;
    Ok(Reply {
        body: text(&Admission {
            token: token.clone(),
        })?,
        session: Some((token, lifetime_s)),
    })
}

/// The session of a machine that was given a nonce a short while ago.
pub(crate) fn challenged(presented: &PresentedSession) -> Result<&Challenged, Rejection> {
    match presented.session()? {
        Session::Challenged(session) if session.until_s >= now_s() => Ok(session),
        Session::Challenged(session) => Err(Rejection::new(
            Fault::Session,
            "session-expired",
            format_args!("the session of endorsement key {} has ended", session.ek),
        )),
        Session::Admitted(session) => Err(Rejection::new(
            Fault::Session,
            "session",
            format_args!("endorsement key {} was admitted already", session.ek),
        )),
    }
}

fn claims(additional: &str) -> Result<Claims, Rejection> {
    let additional: Additional = parse(additional.as_bytes())?;
    let claims = additional.nightlatch;
    if claims.version != EXTENSION {
        return Err(Rejection::new(
            Fault::Malformed,
            "extension-version",
            format_args!("expected {EXTENSION}, found {}", claims.version),
        ));
    }
    Ok(claims)
}

fn volumes(claimed: &[VolumeClaim]) -> Result<Vec<(VolumeId, Role)>, Rejection> {
    // A node may want what the clusterID is derived from and keep the keys of its volumes elsewhere.
    if claimed.len() > VOLUMES_MAX {
        return Err(Rejection::denied(
            "volume-count",
            format_args!(
                "expected at most {VOLUMES_MAX} volumes, found {}",
                claimed.len()
            ),
        ));
    }
    let mut volumes: Vec<(VolumeId, Role)> = Vec::with_capacity(claimed.len());
    for claim in claimed {
        let id = VolumeId::try_from(claim.uuid.clone())
            .map_err(|why| Rejection::denied("volume-id", why))?;
        if volumes.iter().any(|(other, _)| *other == id) {
            return Err(Rejection::denied(
                "volume-id",
                format_args!("volume {id} is there twice"),
            ));
        }
        volumes.push((id, claim.role));
    }
    Ok(volumes)
}

/// All that the bytes can say by themselves.
fn verified(
    session: &Challenged,
    evidence: &TeeEvidence,
    claims: &Claims,
    qualifying: &[u8],
) -> Result<Verified, Rejection> {
    let primary = &evidence.primary_evidence;
    let values = values(&primary.tpm_quote.pcrs)?;
    // The session has the key that the credential was made for.
    let ak = Ak::parse(&session.ak_public.0)?;
    if ak.spki_der() != primary.ak_public.0 {
        return Err(Rejection::denied(
            "ak-key",
            "the attestation key is another one than the session's",
        ));
    }
    let expected = Expected {
        qualifying,
        bank: Bank::Sha256,
        pcrs: Registers::ALL,
    };
    let presented = Presented {
        ak: &session.ak_public.0,
        attest: &primary.tpm_quote.message.0,
        signature: &primary.tpm_quote.signature.0,
        values: &values,
        firmware_log: claims.firmware_log.as_ref().map(|log| log.0.as_slice()),
        userspace_log: claims.userspace_log.as_ref().map(|log| log.0.as_slice()),
    };
    Ok(verify(&expected, &presented)?)
}

fn values(pcrs: &[String]) -> Result<Values, Rejection> {
    if pcrs.len() != PCR_COUNT {
        return Err(Refusal::new(
            Check::Digest,
            format_args!(
                "expected the values of {PCR_COUNT} PCRs, found {}",
                pcrs.len()
            ),
        )
        .into());
    }
    (0_u8..)
        .zip(pcrs)
        .map(|(pcr, value)| {
            let value = hex::decode(value).map_err(|error| {
                Refusal::new(Check::Encoding, format_args!("PCR {pcr}: {error}"))
            })?;
            Ok((pcr, value))
        })
        .collect()
}

/// The image, where the policy has a role that may boot it, and for each of these volumes one that may have it as well.
fn admit(
    policy: &Policy,
    verified: &Verified,
    volumes: &[(VolumeId, Role)],
) -> Result<String, Rejection> {
    let image = policy.image(verified).map_err(Refusal::from)?;
    if policy.roles_of(image).next().is_none() {
        let why = format!("no role of the policy may boot image {image}");
        return Err(Refusal::new(Check::Role, why).into());
    }
    for (id, kind) in volumes {
        let is_allowed = policy
            .roles()
            .any(|role| policy.decide(verified, role, *kind).is_ok());
        if !is_allowed {
            return Err(Refusal::new(
                Check::Role,
                format_args!(
                    "volume {id}: no role of the policy lets image {image} have a {} volume",
                    kind.as_str()
                ),
            )
            .into());
        }
    }
    Ok(image.to_owned())
}
