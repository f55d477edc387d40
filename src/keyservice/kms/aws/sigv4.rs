// SPDX-License-Identifier: Apache-2.0
//! The signature of a request (AWS IAM User Guide, "Create a signed AWS API request", Signature Version 4). Pure: the time is
//! an argument.
//!
//! All that is asked here is a POST of `/` without a query, so nothing of a path or query is put in canonical form.

use ring::hmac;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::login::Credentials;
use crate::clock;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What ends a scope, and the last key that is derived.
const TERMINATOR: &str = "aws4_request";

/// The headers that a signature adds.
const DATE: &str = "x-amz-date";
const CONTENT: &str = "x-amz-content-sha256";
pub(super) const TOKEN: &str = "x-amz-security-token";

/// How long the date is at the beginning of a time: `20150830` of `20150830T123600Z`.
const DATE_LEN: usize = 8;

/// What is signed. All of it but the key pair is sent as it is.
pub(super) struct Post<'a> {
    pub(super) host: &'a str,
    pub(super) content_type: &'a str,
    pub(super) target: &'a str,
    pub(super) body: &'a [u8],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// When, as [`time`] writes it.
    pub(super) at: &'a str,
    pub(super) credentials: &'a Credentials,
}

/// What is sent beside.
pub(super) struct Signed {
    pub(super) headers: [(&'static str, String); 2],
    pub(super) authorization: String,
}

impl Signed {
    pub(super) fn new(post: &Post<'_>) -> Self {
        let digest = hex::encode(Sha256::digest(post.body));
        let mut headers = vec![
            ("content-type", post.content_type),
            ("host", post.host),
            (CONTENT, &digest),
            (DATE, post.at),
        ];
        if let Some(token) = &post.credentials.token {
            headers.push((TOKEN, token));
        }
        headers.push(("x-amz-target", post.target));
        Self {
            authorization: authorization(post, &headers, &digest),
            headers: [(CONTENT, digest.clone()), (DATE, post.at.to_owned())],
        }
    }
}

/// The value of the header, for a POST of `/` with these headers, which are in the order of their names.
fn authorization(post: &Post<'_>, headers: &[(&str, &str)], digest: &str) -> String {
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    // The token is a secret, and the text may grow, so what is wiped is made at once.
    let lines: Vec<[&str; 4]> = headers
        .iter()
        .map(|(name, value)| [*name, ":", value.trim(), "\n"])
        .collect();
    let lines = Zeroizing::new(lines.concat().concat());
    let canonical = ["POST\n/\n\n", &lines, "\n", &names, "\n", digest].concat();
    let canonical = Zeroizing::new(canonical);
    let (date, scope) = (date(post.at), scope(post));
    let hashed = hex::encode(Sha256::digest(canonical.as_bytes()));
    let to_sign = [ALGORITHM, post.at, &scope, &hashed].join("\n");
    let key = key(&post.credentials.secret, [date, post.region, post.service]);
    let signature = hex::encode(hmac::sign(&key, to_sign.as_bytes()));
    format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        post.credentials.id
    )
}

fn scope(post: &Post<'_>) -> String {
    [date(post.at), post.region, post.service, TERMINATOR].join("/")
}

fn date(at: &str) -> &str {
    at.get(..DATE_LEN).unwrap_or_default()
}

/// The key of a day, a region and a service.
fn key(secret: &str, parts: [&str; 3]) -> hmac::Key {
    let first = Zeroizing::new(["AWS4", secret].concat());
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
    for part in parts.into_iter().chain([TERMINATOR]) {
        key = hmac::Key::new(
            hmac::HMAC_SHA256,
            hmac::sign(&key, part.as_bytes()).as_ref(),
        );
    }
    key
}

/// A time in seconds since 1970 as a signature has it: `20150830T123600Z`.
pub(super) fn time(at_s: u64) -> String {
    let written = clock::utc(at_s);
    written
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .collect()
}

#[cfg(test)]
#[path = "../tests/sigv4.rs"]
mod tests;
