// SPDX-License-Identifier: Apache-2.0
//! What the answers of Cloud KMS mean: a row for each status of Google's errors (Cloud API design guide, "Errors") that the
//! KMS gives, and for the texts that make a difference within one.
//!
//! What no row explains is [`Class::Away`]: it ends nothing at once, and is tried again. So is what has not the form of
//! theirs, which is a JSON object with `error`, and in it `status`.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::keyservice::kms::Class;
use crate::keyservice::kms::request::printable;
use crate::keyservice::kms::table::{self, Row, THROTTLED, TROUBLE, row};

/// Of two rows that fit, the first counts.
pub(super) const ROWS: [Row<&str>; 17] = [
    row(
        "INVALID_ARGUMENT",
        "Decryption failed",
        Class::Wrong,
        OTHER_KEY,
    ),
    row(
        "INVALID_ARGUMENT",
        "ciphertext is invalid",
        Class::Wrong,
        OTHER_KEY,
    ),
    row(
        "FAILED_PRECONDITION",
        "current state is: PENDING_GENERATION",
        Class::Away,
        NOT_MADE,
    ),
    row(
        "FAILED_PRECONDITION",
        "current state is: PENDING_IMPORT",
        Class::Away,
        NOT_MADE,
    ),
    row(
        "FAILED_PRECONDITION",
        "EXTERNAL_DESTRUCTION",
        Class::Gone,
        "the version of the key is being destroyed in the external key manager",
    ),
    row(
        "FAILED_PRECONDITION",
        "is not enabled",
        Class::Gone,
        "the version of the key is disabled, destroyed or waiting for it",
    ),
    row(
        "UNAUTHENTICATED",
        "",
        Class::Denied,
        "the token has ended, or the key of its account was taken away",
    ),
    row(
        "PERMISSION_DENIED",
        "",
        Class::Denied,
        "no role of the account on the key allows it, or the project has no Cloud KMS or no billing",
    ),
    row(
        "NOT_FOUND",
        "",
        Class::Gone,
        "there is no such key, or kms.key is misspelt",
    ),
    row("RESOURCE_EXHAUSTED", "", Class::Away, THROTTLED),
    row("ABORTED", "", Class::Away, TROUBLE),
    row("CANCELLED", "", Class::Away, TROUBLE),
    row("DEADLINE_EXCEEDED", "", Class::Away, TROUBLE),
    row("INTERNAL", "", Class::Away, TROUBLE),
    row("UNKNOWN", "", Class::Away, TROUBLE),
    row("UNAVAILABLE", "", Class::Away, TROUBLE),
    row(
        "UNIMPLEMENTED",
        "",
        Class::Unusable,
        "what answers there does not know this: is kms.url that of Cloud KMS?",
    ),
];

/// What a refused token is where our clock explains it.
pub(super) const CLOCK: &str = "the clock of this machine is off by more than five minutes";

const NOT_MADE: &str = "the version of the key is not made yet";
const OTHER_KEY: &str = "another key has wrapped this, or with another id, or it has changed";

#[derive(Deserialize)]
struct Whole {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    status: String,
    #[serde(default)]
    message: String,
}

fn error(answer: &[u8]) -> Option<Error> {
    let whole: Option<Whole> = serde_json::from_slice(answer).ok();
    whole.map(|whole| whole.error)
}

/// What it says, to be quoted.
pub(super) fn told(answer: &[u8]) -> String {
    error(answer).map_or_else(String::new, |error| {
        let text = printable(&error.message);
        format!(" {} {text:?}", printable(&error.status))
    })
}

/// What an answer holds, or what it means that it does not.
pub(super) fn judge<T: DeserializeOwned>(
    status: u16,
    answer: &[u8],
) -> Result<T, (Class, &'static str)> {
    table::judge((status, answer), error, |error| {
        table::meaning(&ROWS, |row| {
            row.error == error.status && error.message.contains(row.says)
        })
    })
}

/// What the state of a version means (`CryptoKeyVersionState`).
pub(super) fn judge_state(state: &str) -> Result<(), Class> {
    match state {
        "ENABLED" => Ok(()),
        "DISABLED"
        | "DESTROYED"
        | "DESTROY_SCHEDULED"
        | "PENDING_EXTERNAL_DESTRUCTION"
        | "EXTERNAL_DESTRUCTION_FAILED" => Err(Class::Gone),
        _ => Err(Class::Away),
    }
}
