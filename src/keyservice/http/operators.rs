// SPDX-License-Identifier: Apache-2.0
//! What operators see and change: [`crate::protocol::admin`], and a page for people.
//!
//! Whoever gets here has shown a certificate that the operators' authority vouches for. The page changes nothing, so
//! no other site can make a browser with such a certificate do harm: what is not `GET` or `HEAD` needs a preflight.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::{get, put};
use axum::{Router, response::IntoResponse as _};
use log::error;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::error::{Error, Exit};
use crate::keyservice::fleet::{self, readmit, recent, rollback};
use crate::keyservice::http::{ClientAddr, blocking, page, with_kind};
use crate::keyservice::state::Service;
use crate::protocol::admin::{
    ErrorBody, NODES_PATH, PAGE_MAX, READMISSION, ROLLBACK, VOLUMES_PATH,
};

/// Requests of operators that are answered at once. Some read the whole fleet, on threads that nodes wait for.
const TURNS: usize = 2;

/// The paths.
pub fn router(service: Arc<Service>) -> Router {
    let turns = Arc::new(Semaphore::new(TURNS));
    let state = AdminState {
        service,
        summary: Arc::default(),
    };
    Router::new()
        .route("/", get(status))
        .route(NODES_PATH, get(nodes))
        .route(
            &format!("{NODES_PATH}/{{ek}}"),
            get(node).delete(forget_node),
        )
        .route(VOLUMES_PATH, get(volumes))
        .route(
            &format!("{VOLUMES_PATH}/{{uuid}}"),
            get(volume).delete(forget_volume),
        )
        .route(
            &format!("{VOLUMES_PATH}/{{uuid}}/{READMISSION}"),
            put(readmit).delete(do_not_readmit),
        )
        .route(
            &format!("{VOLUMES_PATH}/{{uuid}}/{ROLLBACK}"),
            put(accept_rollback).delete(cancel_rollback),
        )
        .fallback(|| async { error_body(StatusCode::NOT_FOUND, "there is no such path") })
        .layer(from_fn_with_state(turns, in_turn))
        .with_state(state)
}

/// Answers a request when it is its turn.
async fn in_turn(
    State(turns): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    // Nobody closes it.
    let turn = turns.acquire().await;
    let response = next.run(request).await;
    drop(turn);
    response
}

/// Who asks: the name in the certificate and the start of the certificate's digest.
#[derive(Clone, Debug)]
pub struct Operator(Arc<str>);

impl Operator {
    /// From the certificates that were shown, the operator's own first.
    #[must_use]
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let own = chain.first()?;
        let digest = hex::encode(Sha256::digest(own));
        let name = Certificate::from_der(own)
            .map(|certificate| certificate.tbs_certificate().subject().to_string())
            .unwrap_or_default();
        let short: String = digest.chars().take(16).collect();
        Some(Self(format!("{name} ({short})").trim().into()))
    }
}

#[derive(Clone, Debug)]
struct AdminState {
    service: Arc<Service>,
    summary: Arc<fleet::Cached>,
}

/// Which part of a list: after what, and how many. What a query says beside that means nothing.
fn page_of(query: Option<&str>) -> (String, u32) {
    let pairs = query.unwrap_or_default().split('&');
    let mut part = (String::new(), PAGE_MAX);
    for (name, value) in pairs.filter_map(|pair| pair.split_once('=')) {
        match name {
            // Ids need no escapes.
            "after" => value.clone_into(&mut part.0),
            "limit" => part.1 = value.parse().unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX),
            _ => {}
        }
    }
    part
}

async fn status(State(state): State<AdminState>) -> Response<Body> {
    let done = blocking(move || {
        let summary = state.summary.get(&state.service.store)?;
        let events = recent::events(&state.service.audit)?;
        Ok(page::draw(&page::View {
            now_s: crate::keyservice::audit::now_s(),
            summary: &summary,
            events: &events,
        }))
    });
    match done.await.and_then(|done| done) {
        Ok(html) => {
            let response = Response::new(Body::from(html));
            let mut response = with_kind("text/html; charset=utf-8", response);
            let headers = response.headers_mut();
            if let Ok(policy) = HeaderValue::from_str(&page::content_security_policy()) {
                headers.insert(CONTENT_SECURITY_POLICY, policy);
            }
            headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            response
        }
        Err(error) => failed(&error),
    }
}

async fn nodes(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response<Body> {
    let (after, limit) = page_of(query.as_deref());
    respond(move || fleet::nodes(&state.service.store, &after, limit)).await
}

async fn volumes(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response<Body> {
    let (after, limit) = page_of(query.as_deref());
    respond(move || fleet::volumes(&state.service.store, &after, limit)).await
}

async fn node(State(state): State<AdminState>, Path(ek): Path<String>) -> Response<Body> {
    respond(move || fleet::node(&state.service.store, &ek)).await
}

async fn volume(State(state): State<AdminState>, Path(uuid): Path<String>) -> Response<Body> {
    respond(move || fleet::volume(&state.service.store, &uuid)).await
}

async fn forget_node(
    State(state): State<AdminState>,
    Extension(operator): Extension<Operator>,
    Extension(from): Extension<ClientAddr>,
    Path(ek): Path<String>,
) -> Response<Body> {
    respond(move || fleet::forget_node(&state.service, &by(&operator, from), &ek)).await
}

async fn forget_volume(
    State(state): State<AdminState>,
    Extension(operator): Extension<Operator>,
    Extension(from): Extension<ClientAddr>,
    Path(uuid): Path<String>,
) -> Response<Body> {
    respond(move || fleet::forget_volume(&state.service, &by(&operator, from), &uuid)).await
}

async fn readmit(
    State(state): State<AdminState>,
    Extension(operator): Extension<Operator>,
    Extension(from): Extension<ClientAddr>,
    Path(uuid): Path<String>,
) -> Response<Body> {
    respond(move || readmit::allow(&state.service, &by(&operator, from), &uuid)).await
}

async fn do_not_readmit(
    State(state): State<AdminState>,
    Extension(operator): Extension<Operator>,
    Extension(from): Extension<ClientAddr>,
    Path(uuid): Path<String>,
) -> Response<Body> {
    respond(move || readmit::cancel(&state.service, &by(&operator, from), &uuid)).await
}

async fn accept_rollback(
    State(state): State<AdminState>,
    Extension(operator): Extension<Operator>,
    Extension(from): Extension<ClientAddr>,
    Path(uuid): Path<String>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    respond(move || {
        let epoch = epoch_of(query.as_deref())?;
        rollback::accept(&state.service, &by(&operator, from), &uuid, epoch)
    })
    .await
}

async fn cancel_rollback(
    State(state): State<AdminState>,
    Extension(operator): Extension<Operator>,
    Extension(from): Extension<ClientAddr>,
    Path(uuid): Path<String>,
) -> Response<Body> {
    respond(move || rollback::cancel(&state.service, &by(&operator, from), &uuid)).await
}

/// The epoch of a query. What it says beside that is refused: a word for any epoch is not given by a slip.
fn epoch_of(query: Option<&str>) -> crate::error::Result<Option<u64>> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(None);
    };
    let epoch = query.strip_prefix("epoch=").and_then(|it| it.parse().ok());
    let expected = || Error::refused(format_args!("expected epoch=N, found {query:?}"));
    epoch.map(Some).ok_or_else(expected)
}

fn by(operator: &Operator, from: ClientAddr) -> fleet::Actor {
    fleet::Actor {
        operator: operator.0.to_string(),
        peer: from.0.to_canonical().to_string(),
    }
}

/// Runs `work` where it may block and writes its answer.
async fn respond<T: Serialize + Send + 'static>(
    work: impl FnOnce() -> crate::error::Result<T> + Send + 'static,
) -> Response<Body> {
    let done = blocking(work).await.and_then(|done| done);
    let text = done.and_then(|value| serde_json::to_vec(&value).map_err(Error::failure));
    match text {
        Ok(text) => with_kind("application/json", Response::new(Body::from(text))),
        Err(error) => failed(&error),
    }
}

/// An operator may know why. What was asked for and is not there, or is no name at all, is refused.
fn failed(error: &Error) -> Response<Body> {
    match error.exit() {
        Exit::Refused => error_body(StatusCode::NOT_FOUND, &error.to_string()),
        Exit::Temporary => {
            error!("admin: {error}");
            error_body(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
        Exit::Failure | Exit::Usage | Exit::Unavailable | Exit::Config => {
            error!("admin: {error}");
            error_body(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}

fn error_body(status: StatusCode, error: &str) -> Response<Body> {
    let body = ErrorBody {
        error: error.to_owned(),
    };
    let text = serde_json::to_vec(&body).unwrap_or_default();
    let response = with_kind("application/json", Response::new(Body::from(text)));
    (status, response).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_no_epoch_is_no_word_for_any() {
        assert_eq!(epoch_of(None).unwrap(), None);
        assert_eq!(epoch_of(Some("epoch=7")).unwrap(), Some(7));
        for bad in [
            "epoch=",
            "epoch=x",
            "epoch=-1",
            "Epoch=7",
            "epoch=7&epoch=8",
        ] {
            assert!(epoch_of(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_is_a_part_of_a_list() {
        let at = |query: &str| page_of(Some(query));
        assert_eq!(page_of(None), (String::new(), PAGE_MAX));
        assert_eq!(at("after=ab&limit=7"), ("ab".into(), 7));
        for (limit, expected) in [("0", 1), ("999999", PAGE_MAX), ("x", PAGE_MAX)] {
            assert_eq!(at(&format!("limit={limit}")), (String::new(), expected));
        }
    }
}
