// SPDX-License-Identifier: Apache-2.0
//! What the answers of Key Vault and of a managed HSM mean: a row for each error that is documented (Key Vault, "REST API error
//! codes", "Authentication, requests and responses"), and for the inner codes that make a difference within one.
//!
//! What no row explains is [`Class::Away`]: it ends nothing at once, and is tried again. So is what has not the form of
//! theirs, which is a JSON object with `error`, and in it `code`.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::keyservice::kms::Class;
use crate::keyservice::kms::request::printable;
use crate::keyservice::kms::table::{self, Row, THROTTLED, TROUBLE, row};

/// Of two rows that fit, the first counts.
pub(super) const ROWS: [Row<&str>; 16] = [
    row(
        "Forbidden",
        "KeyDisabled",
        Class::Gone,
        "this version of the key is disabled",
    ),
    row(
        "Forbidden",
        "KeyNotYetValid",
        Class::Gone,
        "this version of the key is not valid yet",
    ),
    row(
        "Forbidden",
        "KeyExpired",
        Class::Gone,
        "this version of the key has ended",
    ),
    row(
        "Forbidden",
        "KeyOperationForbidden",
        Class::Denied,
        "the key is not for that: its key_ops lack it, or it was taken out of them",
    ),
    row(
        "Forbidden",
        "ForbiddenByFirewall",
        Class::Denied,
        "the vault lets nobody in from this address",
    ),
    row(
        "Forbidden",
        "ForbiddenByConnection",
        Class::Denied,
        "the vault lets nobody in on this way",
    ),
    row(
        "Forbidden",
        "",
        Class::Denied,
        "no role or access policy of the identity allows it",
    ),
    row(
        "Unauthorized",
        "",
        Class::Denied,
        "the token has ended, or is of another directory than the vault's",
    ),
    row(
        "KeyNotFound",
        "",
        Class::Gone,
        "there is no such key or version, or kms.key is misspelt",
    ),
    row(
        "Conflict",
        "ObjectIsDeletedButRecoverable",
        Class::Gone,
        "the key is deleted, and can be recovered yet",
    ),
    row("BadParameter", "", Class::Wrong, OTHER_KEY),
    row("Throttled", "", Class::Away, THROTTLED),
    row("TooManyRequests", "", Class::Away, THROTTLED),
    row("InternalServerError", "", Class::Away, TROUBLE),
    row("ServiceUnavailable", "", Class::Away, TROUBLE),
    row("BadGateway", "", Class::Away, TROUBLE),
];

const OTHER_KEY: &str = "another key has wrapped this, or it has changed";

#[derive(Deserialize)]
struct Whole {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default, alias = "innerError")]
    innererror: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    code: String,
}

impl Error {
    fn inner(&self) -> &str {
        self.innererror.as_ref().map_or("", |inner| &inner.code)
    }
}

fn error(answer: &[u8]) -> Option<Error> {
    let whole: Option<Whole> = serde_json::from_slice(answer).ok();
    whole.map(|whole| whole.error)
}

/// What it says, to be quoted.
pub(super) fn told(answer: &[u8]) -> String {
    error(answer).map_or_else(String::new, |error| {
        let text = printable(&error.message);
        let (code, inner) = (printable(&error.code), printable(error.inner()));
        [" ", &code, " ", &inner].concat().trim_end().to_owned() + &format!(" {text:?}")
    })
}

/// What an answer holds, or what it means that it does not.
pub(super) fn judge<T: DeserializeOwned>(
    status: u16,
    answer: &[u8],
) -> Result<T, (Class, &'static str)> {
    table::judge((status, answer), error, |error| {
        table::meaning(&ROWS, |row| {
            row.error == error.code && (row.says.is_empty() || row.says == error.inner())
        })
    })
}
