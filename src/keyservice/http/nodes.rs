// SPDX-License-Identifier: Apache-2.0
//! The paths for nodes, and for whoever runs the service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};

use crate::keyservice::http::body::BodyBudget;
use crate::keyservice::http::{ClientAddr, Proven, blocking, json, problem, with_kind};
use crate::keyservice::reply::{Fault, Rejection, Reply, Step};
use crate::keyservice::state::{AuditTrail, Operation, Request, Service};
use crate::protocol::{ATTEST_PATH, AUTH_PATH, COOKIE as SESSION, RECORD_PATH, RESOURCE_PATH};

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The service.
    pub service: Arc<Service>,
    /// For the bodies of requests.
    pub bodies: BodyBudget,
}

/// The paths for nodes.
pub fn nodes(shared: Shared) -> Router {
    let resource = format!("{RESOURCE_PATH}/{{repository}}/{{kind}}/{{tag}}");
    Router::new()
        .route(AUTH_PATH, post(auth))
        .route(ATTEST_PATH, post(attest))
        .route(&resource, get(release))
        .route(&format!("{RECORD_PATH}/{{uuid}}"), get(record).post(report))
        .merge(health().layer(from_fn_with_state(shared.clone(), counted)))
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .with_state(shared)
}

/// The paths for whoever runs the service.
pub fn operations(shared: Shared) -> Router {
    let router = health().route("/metrics", get(metrics));
    router.with_state(shared)
}

fn health() -> Router<Shared> {
    let alive: MethodRouter<Shared> = get(|| async { "ok\n" });
    Router::new()
        .route("/healthz", alive)
        .route("/readyz", get(ready))
}

async fn auth(
    State(shared): State<Shared>,
    Extension(from): Extension<ClientAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    shared.answer(from, Operation::Auth, &headers, body).await
}

async fn attest(
    State(shared): State<Shared>,
    Extension(from): Extension<ClientAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    shared.answer(from, Operation::Attest, &headers, body).await
}

async fn release(
    State(shared): State<Shared>,
    Extension(from): Extension<ClientAddr>,
    Path((repository, kind, tag)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let operation = Operation::Resource(repository, kind, tag);
    shared
        .answer(from, operation, &headers, Body::empty())
        .await
}

async fn record(
    State(shared): State<Shared>,
    Extension(from): Extension<ClientAddr>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let operation = Operation::Record(uuid);
    shared
        .answer(from, operation, &headers, Body::empty())
        .await
}

async fn report(
    State(shared): State<Shared>,
    Extension(from): Extension<ClientAddr>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    shared
        .answer(from, Operation::Report(uuid), &headers, body)
        .await
}

async fn nothing(
    State(shared): State<Shared>,
    Extension(from): Extension<ClientAddr>,
) -> Response<Body> {
    let rejection = match shared.service.count_peer(from.0) {
        Ok(()) => Rejection::new(Fault::NotFound, "path", "there is no such path"),
        Err(rejection) => rejection,
    };
    shared.turned_away(&rejection)
}

/// Counts what anybody may ask for as any other request.
async fn counted(
    State(shared): State<Shared>,
    Extension(from): Extension<ClientAddr>,
    request: axum::extract::Request,
    next: Next,
) -> Response<Body> {
    match shared.service.count_peer(from.0) {
        Ok(()) => next.run(request).await,
        Err(rejection) => shared.turned_away(&rejection),
    }
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    match shared.service.why_not_ready() {
        None => (StatusCode::OK, "ok\n"),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response<Body> {
    match shared.service.metrics.text() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            with_kind(kind, Response::new(Body::from(text)))
        }
        Err(error) => problem(&error.into()),
    }
}

impl Shared {
    /// Counts a refusal that belongs to no step.
    fn turned_away(&self, rejection: &Rejection) -> Response<Body> {
        let (outcome, _) = rejection.fault.words();
        let metrics = &self.service.metrics;
        metrics.request(Step::Unknown, outcome, rejection.check, Duration::ZERO);
        problem(rejection)
    }

    /// Reads a request, has it answered on a thread that may block, and writes the answer.
    async fn answer(
        self,
        from: ClientAddr,
        operation: Operation,
        headers: &HeaderMap,
        body: Body,
    ) -> Response<Body> {
        let session = self.service.open_session(session(headers));
        let mut request = Request {
            from: from.0,
            operation,
            session,
            body: Vec::new(),
        };
        let service = Arc::clone(&self.service);
        let start = Instant::now();
        let mut trail = AuditTrail::default();
        let proven = request.session.proven_ek().map(str::to_owned);
        let allowed = service
            .count_request(from.0, proven.as_deref())
            .and_then(|()| service.before_body(&request, &mut trail));
        let read = match allowed {
            Ok(len_max) => self.bodies.read(from.0, body, len_max).await,
            Err(rejection) => Err(rejection),
        };
        let answered = blocking(move || match read {
            Ok(mut held) => {
                request.body = std::mem::take(&mut held.bytes);
                let answered = service.answer(&request);
                drop((request, held));
                answered
            }
            Err(rejection) => {
                service.refused(&request, &trail, &rejection, start.elapsed());
                Err(rejection)
            }
        });
        let mut response = match answered.await {
            Ok(Ok(reply)) => granted(reply),
            Ok(Err(rejection)) => problem(&rejection),
            Err(error) => problem(&error.into()),
        };
        if let Some(ek) = proven {
            response.extensions_mut().insert(Proven(ek));
        }
        response
    }
}

/// The session a request belongs to: that of its token, else that of its cookie.
fn session(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';'));
    bearer.or_else(|| {
        pairs.find_map(|pair| match pair.trim().split_once('=') {
            Some((SESSION, value)) => Some(value),
            _ => None,
        })
    })
}

fn granted(reply: Reply) -> Response<Body> {
    let mut response = json(StatusCode::OK, reply.body);
    if let Some((text, lifetime_s)) = reply.session {
        let cookie = format!("{SESSION}={text}; Max-Age={lifetime_s}; Path=/; Secure; HttpOnly");
        // It is base64url, digits and words.
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
    }
    response
}
