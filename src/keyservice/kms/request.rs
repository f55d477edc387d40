// SPDX-License-Identifier: Apache-2.0
//! One request to a KMS, or to who gives credentials for it: over a new connection, within what is left of a deadline.
//! Redirects are not followed, no proxy is asked, and answers are bounded.
#![cfg_attr(
    not(feature = "kms-all"),
    allow(dead_code, reason = "each back end asks in its own way")
)]

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use ureq::http::{HeaderMap, Method};
use zeroize::Zeroizing;

use super::{Answered, Class, Failure};
use crate::error::Error;
use crate::https;
use crate::keyservice::config::FilePath;
use crate::keyservice::config::etcd::Endpoint;

/// The longest answer that is read, in bytes. The longest of those there are lists the versions of a key.
pub(super) const ANSWER_LEN_MAX: u64 = 256 << 10;

/// The longest of a server's words that is quoted, in characters.
const WORD_LEN_MAX: usize = 200;

/// How much of a token may stand in a text before that is not quoted, in characters.
#[cfg(any(feature = "kms-gcp", feature = "kms-azure"))]
const QUOTED_LEN_MAX: usize = 16;

/// How far a clock may be off before that explains the refusal of a token that is signed here.
#[cfg(feature = "kms-gcp")]
const CLOCK_OFF_MAX: Duration = Duration::from_secs(300);

/// The metadata service of a machine in a cloud, each cloud's (its pages; RFC 3927), by its address: a name would be asked of the
/// network.
const METADATA: &str = "http://169.254.169.254";

/// When the answer has to be there, with that of whoever gives credentials for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub(super) fn after(time: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(time).unwrap_or(now))
    }

    fn left(self) -> Duration {
        // Zero would be no limit.
        let left = self.0.saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(1))
    }
}

/// A server, and who vouches for it.
#[derive(Clone, Debug)]
pub(super) struct Server {
    url: String,
    ca: Option<FilePath>,
}

/// What is asked. It holds keys and tokens, so nothing prints it.
pub(super) struct Request<'a> {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<&'a [u8]>,
}

/// What is answered. It holds keys and tokens, so nothing prints it.
pub(super) struct Answer {
    /// Where it came from.
    pub(super) from: String,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Server {
    pub(super) fn new(url: &Endpoint, ca: Option<&FilePath>) -> Self {
        Self {
            url: url.to_string(),
            ca: ca.cloned(),
        }
    }

    /// The metadata service of this machine.
    pub(super) fn metadata() -> Self {
        Self::on_link(METADATA)
    }

    /// A service at an address of this machine's own link, which is spoken with as it is.
    pub(super) fn on_link(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ca: None,
        }
    }

    /// Its name, with the port where that is not the usual one: what a signature binds.
    pub(super) fn host(&self) -> &str {
        match self.url.split_once("://") {
            Some(("https", host)) => host.strip_suffix(":443").unwrap_or(host),
            Some((_, host)) => host,
            None => &self.url,
        }
    }

    /// Asks once.
    pub(super) fn ask(&self, request: Request<'_>, until: Deadline) -> Answered<Answer> {
        let tls = match &self.ca {
            Some(ca) => Some(https::tls(ca.as_path(), None).map_err(Failure::unusable)?),
            None => None,
        };
        // No connection is kept: two answers of one may come from one server that is out of step.
        let agent = https::agent(tls, until.left(), 0);
        let url = format!("{}{}", self.url, request.path);
        let away =
            |error: &dyn std::fmt::Display| Failure::new(Class::Away, format!("{url}: {error}"));
        let mut head = ureq::http::Request::builder()
            .method(request.method)
            .uri(&url)
            .header(HOST, self.host());
        for (name, value) in request.headers {
            head = head.header(name, value);
        }
        let response = match request.body {
            Some(body) => agent.run(head.body(body).map_err(|error| away(&error))?),
            None => agent.run(head.body(()).map_err(|error| away(&error))?),
        };
        let mut response = response.map_err(|error| away(&error))?;
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_LEN_MAX)
            .read_to_vec()
            .map(Zeroizing::new)
            .map_err(|error| away(&error))?;
        Ok(Answer {
            from: url,
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body,
        })
    }
}

impl<'a> Request<'a> {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(super) fn put(path: impl Into<String>) -> Self {
        Self {
            method: Method::PUT,
            body: Some(&[]),
            ..Self::get(path)
        }
    }

    pub(super) fn post(path: impl Into<String>, kind: &'static str, body: &'a [u8]) -> Self {
        let request = Self {
            method: Method::POST,
            body: Some(body),
            ..Self::get(path)
        };
        request.with(CONTENT_TYPE, HeaderValue::from_static(kind))
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Answer {
    /// Whether our clock and theirs are so far apart that they refuse us for that.
    #[cfg(feature = "kms-gcp")]
    pub(super) fn is_clock_off(&self) -> bool {
        let date = self
            .headers
            .get(ureq::http::header::DATE)
            .and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
            return false;
        };
        let ours = std::time::SystemTime::now();
        let apart = ours
            .duration_since(theirs)
            .unwrap_or_else(|error| error.duration());
        apart > CLOCK_OFF_MAX
    }

    /// A failure that this is: `what` it means, and of a denial what was refused.
    pub(super) fn failure(&self, class: Class, told: &str, what: &str, right: &str) -> Failure {
        let right = match class {
            Class::Denied if !right.is_empty() => format!(": {right} was refused"),
            Class::Denied | Class::Away | Class::Gone | Class::Wrong | Class::Unusable => {
                String::new()
            }
        };
        let why = format!("{}: {}{told}: {what}{right}", self.from, self.status);
        Failure::new(class, why)
    }

    /// The token in an answer of whoever gives tokens (RFC 6749, section 5.1); none where that is not one.
    #[cfg(any(feature = "kms-gcp", feature = "kms-azure"))]
    pub(super) fn token(&self) -> Option<Zeroizing<String>> {
        let given = (self.status == 200).then(|| self.json::<Given>());
        let mut given = given.flatten()?;
        Some(Zeroizing::new(std::mem::take(&mut given.access_token)))
    }

    /// What it holds, as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }
}

#[cfg(any(feature = "kms-gcp", feature = "kms-azure"))]
#[derive(serde::Deserialize)]
struct Given {
    access_token: String,
}

#[cfg(any(feature = "kms-gcp", feature = "kms-azure"))]
impl Drop for Given {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.access_token);
    }
}

/// Asks, and a second time with the credentials fetched anew where that is denied: credentials that have ended and those
/// without the right are answered alike, and whoever renews them may just have done so.
pub(super) fn twice_where_denied<T>(mut ask: impl FnMut() -> Answered<T>) -> Answered<T> {
    match ask() {
        Err(failure) if failure.class == Class::Denied => ask(),
        answered => answered,
    }
}

/// A body in JSON, which is wiped.
pub(super) fn body(value: &impl Serialize) -> Answered<Zeroizing<Vec<u8>>> {
    serde_json::to_vec(value)
        .map(Zeroizing::new)
        .map_err(|error| Failure::unusable(Error::failure(error)))
}

/// A header that holds a secret; nothing where it cannot be one.
pub(super) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The header of a token (RFC 6750, section 2.1).
pub(super) fn bearer(token: &str) -> Answered<HeaderValue> {
    let text = Zeroizing::new(["Bearer ", token].concat());
    secret_header(&text).ok_or_else(|| {
        let why =
            "what gives tokens has given none: expected letters, digits and signs on one line";
        Failure::new(Class::Away, why)
    })
}

/// A server's word, short and on one line.
pub(super) fn printable(text: &str) -> String {
    let printed = text.chars().take(WORD_LEN_MAX);
    printed
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .collect()
}

/// What a server has told, or nothing where it begins to repeat the token that it was shown.
#[cfg(any(feature = "kms-gcp", feature = "kms-azure"))]
pub(super) fn without(token: &str, told: String) -> String {
    let start: String = token.chars().take(QUOTED_LEN_MAX).collect();
    if told.contains(&start) {
        return String::new();
    }
    told
}

/// The fields of a form, of which one may be a secret (URL Standard, "application/x-www-form-urlencoded serializing").
pub(super) fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let len = fields
        .iter()
        .map(|(name, value)| name.len().saturating_add(value.len()));
    // Three digits for each byte at most, so that it never grows and leaves a copy.
    let len = len
        .fold(0_usize, usize::saturating_add)
        .saturating_add(fields.len());
    let mut form = Zeroizing::new(String::with_capacity(len.saturating_mul(4)));
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        push_escaped(&mut form, name);
        form.push('=');
        push_escaped(&mut form, value);
    }
    form
}

fn push_escaped(form: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            form.push(char::from(byte));
        } else {
            let digit = |half: u8| {
                DIGITS
                    .get(usize::from(half))
                    .copied()
                    .map_or('0', char::from)
            };
            form.push('%');
            form.push(digit(byte >> 4));
            form.push(digit(byte & 15));
        }
    }
}
