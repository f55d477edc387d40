// SPDX-License-Identifier: Apache-2.0
//! The paths of the service.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, RETRY_AFTER,
    SET_COOKIE,
};
use axum::http::{Response, StatusCode};
use axum::routing::{MethodRouter, get, post};
use axum::{BoxError, Router};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use log::error;

use super::answer::{Fault, Refused, Reply, Step};
use super::config::Limits;
use super::service::{Ask, Request, Service, Trail};
use crate::error::Error;
use crate::protocol::{
    ATTEST_PATH, AUTH_PATH, COOKIE as SESSION, PROBLEM_PREFIX, Problem, RECORD_PATH, RESOURCE_PATH,
};

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct From(pub IpAddr);

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The service.
    pub service: Arc<Service>,
    /// The longest body, and how long it may take.
    pub limits: Limits,
}

/// The paths for nodes.
pub fn nodes(shared: Shared) -> Router {
    let resource = format!("{RESOURCE_PATH}/{{repository}}/{{kind}}/{{tag}}");
    Router::new()
        .route(AUTH_PATH, post(auth))
        .route(ATTEST_PATH, post(attest))
        .route(&resource, get(release))
        .route(&format!("{RECORD_PATH}/{{uuid}}"), get(record).post(report))
        .merge(health())
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
    Extension(from): Extension<From>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    shared.answer(from, Ask::Auth, &headers, body).await
}

async fn attest(
    State(shared): State<Shared>,
    Extension(from): Extension<From>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    shared.answer(from, Ask::Attest, &headers, body).await
}

async fn release(
    State(shared): State<Shared>,
    Extension(from): Extension<From>,
    Path((repository, kind, tag)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let ask = Ask::Resource(repository, kind, tag);
    shared.answer(from, ask, &headers, Body::empty()).await
}

async fn record(
    State(shared): State<Shared>,
    Extension(from): Extension<From>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let ask = Ask::Record(uuid);
    shared.answer(from, ask, &headers, Body::empty()).await
}

async fn report(
    State(shared): State<Shared>,
    Extension(from): Extension<From>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    shared.answer(from, Ask::Report(uuid), &headers, body).await
}

async fn nothing(State(shared): State<Shared>, Extension(from): Extension<From>) -> Response<Body> {
    let refused = match shared.service.count_peer(from.0) {
        Ok(()) => Refused::new(Fault::NotFound, "path", "there is no such path"),
        Err(refused) => refused,
    };
    let (outcome, _) = refused.fault.words();
    let metrics = &shared.service.metrics;
    metrics.request(Step::Unknown, outcome, refused.check, Duration::ZERO);
    problem(&refused)
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    let service = Arc::clone(&shared.service);
    match blocking(move || service.ready()).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n"),
        Ok(Err(error)) | Err(error) => {
            error!("not ready: {error}");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the store does not answer\n",
            )
        }
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
    /// Reads a request, has it answered on a thread that may block, and writes the answer.
    async fn answer(self, from: From, ask: Ask, headers: &HeaderMap, body: Body) -> Response<Body> {
        let session = session(headers);
        let mut request = Request {
            from: from.0,
            ask,
            session,
            body: Vec::new(),
        };
        let service = Arc::clone(&self.service);
        let start = Instant::now();
        let read = match service.count_peer(from.0) {
            Ok(()) => self.read(body).await,
            Err(refused) => Err(refused),
        };
        let answered = blocking(move || match read {
            Ok(body) => {
                request.body = body;
                service.answer(&request)
            }
            Err(refused) => {
                let trail = Trail::default();
                service.refused(&request, &trail, &refused, start.elapsed());
                Err(refused)
            }
        });
        match answered.await {
            Ok(Ok(reply)) => granted(reply),
            Ok(Err(refused)) => problem(&refused),
            Err(error) => problem(&error.into()),
        }
    }

    async fn read(&self, body: Body) -> Result<Vec<u8>, Refused> {
        let len_max = usize::try_from(self.limits.body_bytes.get()).unwrap_or(usize::MAX);
        let time_max = Duration::from_secs(self.limits.request_s.get().into());
        let collect = Limited::new(body, len_max).collect();
        match tokio::time::timeout(time_max, collect).await {
            Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
            Ok(Err(error)) => Err(unread(&error, len_max)),
            Err(_elapsed) => Err(Refused::new(
                Fault::TooSlow,
                "body-time",
                format_args!("the body took more than {} s", time_max.as_secs()),
            )),
        }
    }
}

fn unread(error: &BoxError, len_max: usize) -> Refused {
    if error.is::<LengthLimitError>() {
        return Refused::new(
            Fault::TooLong,
            "body-length",
            format_args!("the body has more than {len_max} bytes"),
        );
    }
    Refused::new(Fault::Malformed, "body", error)
}

/// Runs what blocks where that harms nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::failure)
}

/// The session a request belongs to: that of its token, else that of its cookie.
fn session(headers: &HeaderMap) -> Option<String> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';'));
    bearer
        .or_else(|| {
            pairs.find_map(|pair| match pair.trim().split_once('=') {
                Some((SESSION, value)) => Some(value),
                _ => None,
            })
        })
        .map(str::to_owned)
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

/// What a caller learns of a refusal.
pub(super) fn problem(refused: &Refused) -> Response<Body> {
    let (status, kind, detail) = refused.fault.told();
    let problem = Problem {
        kind: format!("{PROBLEM_PREFIX}{kind}"),
        detail: detail.to_owned(),
    };
    let mut response = json(status, serde_json::to_vec(&problem).unwrap_or_default());
    if let Some(wait_s) = refused.retry_after_s {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(wait_s));
    }
    response
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = with_kind("application/json", Response::new(Body::from(body)));
    *response.status_mut() = status;
    response
}

pub(super) fn with_kind(kind: &'static str, mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
