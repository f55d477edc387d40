// SPDX-License-Identifier: Apache-2.0
//! Requests to one address of the service, within limits of time and size.

use std::io;
use std::time::{Duration, Instant};

use log::warn;
use ureq::Agent;
use ureq::http::{Response, header};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};
use zeroize::Zeroizing;

use crate::client::{Failure, Timeouts, answer, certificate, date};
use crate::clock::now_s;
use crate::error::Error;
use crate::https::tls::TlsConnector;

/// The longest answer that is read, in bytes. Trustee's tokens with evidence of devices are the longest.
pub(super) const ANSWER_LEN_MAX: u64 = 256 * 1024;

/// The longest head of an answer, in bytes. The sealed session is a part of it.
const HEAD_LEN_MAX: usize = 16 * 1024;

type Answered<T> = Result<T, Failure>;

/// One address of the service, and the session with it.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
    base: String,
    cookie: Option<Zeroizing<String>>,
    until: Instant,
    timeouts: Timeouts,
    /// Whether its clock was looked at.
    knows_its_date: bool,
}

impl Http {
    pub(super) fn new(base: &str, tls: TlsConnector, timeouts: Timeouts, until: Instant) -> Self {
        let config = Agent::config_builder()
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_response_header_size(HEAD_LEN_MAX)
            .user_agent(concat!("nightlatch/", env!("CARGO_PKG_VERSION")))
            .build();
        let connector = TcpConnector::default().chain(tls);
        Self {
            agent: Agent::with_parts(config, connector, DefaultResolver::default()),
            base: base.to_owned(),
            cookie: None,
            until,
            timeouts,
            knows_its_date: false,
        }
    }

    /// Gives this session time until `until`.
    pub(super) fn prolong(&mut self, until: Instant) {
        self.until = until;
    }

    /// Whether a session was begun.
    pub(super) fn has_session(&self) -> bool {
        self.cookie.is_some()
    }

    pub(super) fn get(&mut self, path: &str) -> Answered<Zeroizing<Vec<u8>>> {
        let limits = self.limits()?;
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie.as_str());
        }
        let request = request
            .config()
            .timeout_global(Some(limits.0))
            .timeout_connect(Some(limits.1))
            .build();
        let response = request.call();
        self.take(response)
    }

    pub(super) fn post(
        &mut self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Answered<Zeroizing<Vec<u8>>> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Final(error.to_string()))?;
        let limits = self.limits()?;
        let mut request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie.as_str());
        }
        let request = request
            .config()
            .timeout_global(Some(limits.0))
            .timeout_connect(Some(limits.1))
            .build();
        let response = request.send(&body[..]);
        self.take(response)
    }

    /// How long the whole request may take, and how long its connection.
    fn limits(&self) -> Answered<(Duration, Duration)> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Later("there was no time left".into()));
        }
        Ok((
            left.min(self.timeouts.answer),
            left.min(self.timeouts.connect),
        ))
    }

    /// Once for each session.
    fn compare_clocks(&mut self, response: &Response<ureq::Body>) {
        if std::mem::replace(&mut self.knows_its_date, true) {
            return;
        }
        let date = response.headers().get(header::DATE);
        let date = date.and_then(|value| value.to_str().ok());
        if let Some(said) = date.and_then(|date| date::far_off(date, now_s())) {
            warn!("{}: {said}", self.base);
        }
    }

    fn take(
        &mut self,
        response: Result<Response<ureq::Body>, ureq::Error>,
    ) -> Answered<Zeroizing<Vec<u8>>> {
        let mut response = response.map_err(|error| trouble(&error))?;
        self.compare_clocks(&response);
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_LEN_MAX)
            .read_to_vec()
            .map(Zeroizing::new)
            .map_err(|error| trouble(&error))?;
        let status = response.status().as_u16();
        if status != 200 {
            let wait = response.headers().get(header::RETRY_AFTER);
            let wait = wait.and_then(|value| answer::retry_after(value.to_str().ok()?));
            return Err(answer::failure(status, &body, wait));
        }
        let cookies = response.headers().get_all(header::SET_COOKIE);
        if let Some(cookie) = cookies
            .iter()
            .filter_map(|header| answer::cookie(header.to_str().ok()?))
            .next_back()
        {
            self.cookie = Some(Zeroizing::new(cookie));
        }
        Ok(body)
    }
}

/// What an error on the way means. Most pass; what a server sent that has shown who it is does not.
fn trouble(error: &ureq::Error) -> Failure {
    if let ureq::Error::Io(error) = error
        && let Some(failure) = tls_error(error).and_then(certificate::failure)
    {
        return failure;
    }
    if matches!(error, ureq::Error::BodyExceedsLimit(_)) {
        return Failure::Final(format!("its answer is longer than {ANSWER_LEN_MAX} bytes"));
    }
    if matches!(error, ureq::Error::LargeResponseHeader(..)) {
        return Failure::Final(format!(
            "the head of its answer is longer than {HEAD_LEN_MAX} bytes"
        ));
    }
    Failure::Later(error.to_string())
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Local(error)
    }
}
