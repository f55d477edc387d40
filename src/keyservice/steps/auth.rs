// SPDX-License-Identifier: Apache-2.0
//! The first step: a nonce, and a credential that only the TPM with both keys can open.

use std::time::SystemTime;

use base64ct::{Base64, Encoding};
use serde_json::json;

use crate::error::Error;
use crate::evidence::{Ak, Ek, credential};
use crate::key::{KEY_LEN, fill_random};
use crate::keyservice::audit::now_s;
use crate::keyservice::reply::{Fault, Rejection, Reply};
use crate::keyservice::session::{self, Challenged, Session};
use crate::keyservice::state::{AuditTrail, Service, parse, text};
use crate::protocol::{AuthRequest, Bytes, Challenge, Credential, EXTENSION, TEE, VERSION};

pub(crate) fn answer(
    service: &Service,
    body: &[u8],
    trail: &mut AuditTrail,
) -> Result<Reply, Rejection> {
    let request: AuthRequest = parse(body)?;
    if request.version != VERSION {
        return Err(malformed(
            "protocol-version",
            format!("expected {VERSION}, found {:?}", request.version),
        ));
    }
    if request.tee != TEE {
        return Err(malformed(
            "tee",
            format!("expected {TEE}, found {:?}", request.tee),
        ));
    }
    let Some(introduction) = request.extra_params.nightlatch else {
        return Err(Rejection::denied(
            "extension",
            "the machine did not say which TPM it has: nothing would prove where its key lives",
        ));
    };
    if introduction.version != EXTENSION {
        return Err(malformed(
            "extension-version",
            format!("expected {EXTENSION}, found {}", introduction.version),
        ));
    }
    let ek = Ek::parse(&introduction.ek_public.0)?;
    let id = hex::encode(ek.id());
    trail.ek = Some(id.clone());
    let ak = Ak::parse(&introduction.ak_public.0)?;
    let certificate = introduction.ek_certificate.as_ref();
    service.policy().trusts(
        &ek,
        certificate.map(|bytes| bytes.0.as_slice()),
        &[],
        SystemTime::now(),
    )?;
    challenge(service, &ek, id, &ak, introduction.ak_public)
}

fn challenge(
    service: &Service,
    ek: &Ek,
    id: String,
    ak: &Ak,
    ak_public: Bytes,
) -> Result<Reply, Rejection> {
    let mut secret = zeroize::Zeroizing::new([0; KEY_LEN]);
    fill_random(secret.as_mut())?;
    let mut nonce = [0; KEY_LEN];
    fill_random(&mut nonce)?;
    let nonce = Base64::encode_string(&nonce);
    let made = credential::make(ek, &ak.name(), &secret)?;
    let lifetime_s = service.lifetimes.handshake_s.get();
    let session = Session::Challenged(Challenged {
        until_s: now_s().saturating_add(u64::from(lifetime_s)),
        nonce: nonce.clone(),
        ek: id,
        ak_public,
        credential_hash: session::credential_hash(secret.as_ref()),
    });
    let credential = Credential {
        version: EXTENSION,
        blob: body_of(&made.id_object)?,
        secret: body_of(&made.encrypted_secret)?,
    };
    let challenge = Challenge {
        nonce,
        extra_params: json!({ "nightlatch": credential }),
    };
    Ok(Reply {
        body: text(&challenge)?,
        session: Some((
            session::seal(service.keys.master()?.session_key(), &session)?,
            lifetime_s,
        )),
    })
}

/// What is in a `TPM2B`, without its length.
fn body_of(sized: &[u8]) -> Result<Bytes, Error> {
    sized
        .get(2..)
        .map(|body| Bytes(body.to_vec()))
        .ok_or_else(|| Error::failure("a credential without contents"))
}

fn malformed(check: &'static str, why: String) -> Rejection {
    Rejection::new(Fault::Malformed, check, why)
}
