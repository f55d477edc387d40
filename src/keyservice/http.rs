// SPDX-License-Identifier: Apache-2.0
//! The service on the network: connections, bodies, and the paths of nodes and of operators.
//!
//! HTTP's statuses, headers and cookies are known here. [`listener`] is where a connection comes in, [`nodes`] and
//! [`operators`] where a request does.
//!
//! **Never:** a rule of who may have what: a request is read, counted and handed on, and its reply written.

pub mod body;
pub mod listener;
pub mod nodes;
pub mod operators;
mod page;
mod peers;

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{Response, StatusCode};

use crate::error::Error;
use crate::keyservice::reply::{Fault, Rejection};
use crate::protocol::{PROBLEM_PREFIX, Problem};

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddr(pub IpAddr);

/// What a reply carries that went to a machine which has shown the endorsement key with this id.
#[derive(Clone, Debug)]
pub(crate) struct Proven(pub(crate) String);

/// Runs what blocks where that harms nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::failure)
}

/// What a caller learns of a refusal.
pub(crate) fn problem(rejection: &Rejection) -> Response<Body> {
    let (status, kind, detail) = told(rejection.fault);
    let problem = Problem {
        kind: format!("{PROBLEM_PREFIX}{kind}"),
        detail: detail.to_owned(),
    };
    let mut response = json(status, serde_json::to_vec(&problem).unwrap_or_default());
    if let Some(wait_s) = rejection.retry_after_s {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(wait_s));
    }
    response
}

/// The status, the word of the problem's type and the sentence a caller gets. The words are those of Trustee's key broker
/// service (kbs/src/error.rs) where it has one.
fn told(fault: Fault) -> (StatusCode, &'static str, &'static str) {
    match fault {
        Fault::Malformed => (
            StatusCode::BAD_REQUEST,
            "SerdeError",
            "the request could not be read",
        ),
        Fault::TooLong => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "SerdeError",
            "the request is too long",
        ),
        Fault::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "HTTPFailed",
            "the request did not arrive in time",
        ),
        Fault::Session => (
            StatusCode::UNAUTHORIZED,
            "TokenNotFound",
            "there is no such session",
        ),
        Fault::Denied => (
            StatusCode::UNAUTHORIZED,
            "PolicyDeny",
            "this machine may not have it",
        ),
        Fault::NotFound => (
            StatusCode::NOT_FOUND,
            "InvalidRequestPath",
            "there is no such resource",
        ),
        Fault::TooOften => (
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            "too many requests",
        ),
        Fault::Busy | Fault::Local => (
            StatusCode::SERVICE_UNAVAILABLE,
            "PluginInternalError",
            "the service cannot answer now",
        ),
    }
}

pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = with_kind("application/json", Response::new(Body::from(body)));
    *response.status_mut() = status;
    response
}

pub(crate) fn with_kind(kind: &'static str, mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
