// SPDX-License-Identifier: Apache-2.0
//! What the answers of a transit engine mean: a row for each that is documented (API documentation, "HTTP status codes"), or
//! that an `OpenBao` 2.7.2 was seen to give, where the documentation has a status and the text makes the difference.
//!
//! What no row explains is [`Class::Away`]: it ends nothing at once, and is tried again. So is what the servers did not say
//! themselves: a proxy that has lost its way to them has pages of its own for 403, 404 and 405. An answer of theirs is a
//! JSON object, with a list `errors` from 400 on ("HTTP status codes", "Error response") and with `data` below.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::keyservice::kms::Class;
use crate::keyservice::kms::request::printable;
use crate::keyservice::kms::table::{self, FOREIGN, Row, THROTTLED, row};

/// Of two rows that fit, the first counts.
pub(super) const ROWS: [Row<u16>; 26] = [
    row(200, "", Class::Unusable, NO_ENGINE),
    // An engine of kind kv stores what it is given and says so with this, but it has nothing in it that shows whose it is.
    row(
        204,
        "",
        Class::Away,
        "nothing is in the answer: is the path of kms.key that of a transit engine?",
    ),
    row(301, "", Class::Away, STANDBY),
    row(302, "", Class::Away, STANDBY),
    row(307, "", Class::Away, STANDBY),
    row(308, "", Class::Away, STANDBY),
    row(
        400,
        "message authentication failed",
        Class::Wrong,
        OTHER_KEY,
    ),
    row(400, "version is too new", Class::Wrong, OTHER_KEY),
    row(
        400,
        "invalid ciphertext",
        Class::Wrong,
        "what was wrapped has changed",
    ),
    row(
        400,
        "(too old)",
        Class::Gone,
        "this version of the key is retired: its min_decryption_version is above it",
    ),
    row(400, "encryption key not found", Class::Gone, NO_KEY),
    row(
        400,
        "soft-deleted",
        Class::Gone,
        "the key is deleted, and can be restored yet",
    ),
    row(
        400,
        "non-AEAD",
        Class::Unusable,
        "a key of this type cannot bind what it wraps: make one of type aes256-gcm96",
    ),
    row(
        400,
        "missing 'context'",
        Class::Unusable,
        "the key is derived: make one that is not",
    ),
    row(
        400,
        "does not support",
        Class::Unusable,
        "a key of this type does not wrap: make one of type aes256-gcm96",
    ),
    row(
        403,
        "",
        Class::Denied,
        "the token has ended, or its policy does not allow it",
    ),
    row(
        404,
        "no handler for route",
        Class::Gone,
        "no engine is mounted there: it was removed with its keys, or kms.key is misspelt",
    ),
    row(404, "", Class::Gone, NO_KEY),
    row(405, "", Class::Unusable, NO_ENGINE),
    row(412, "", Class::Away, "a replica that is behind"),
    row(429, "", Class::Away, THROTTLED),
    row(472, "", Class::Away, "a replica for disaster recovery"),
    row(473, "", Class::Away, "a standby for performance"),
    row(500, "", Class::Away, "trouble of the server's own"),
    row(502, "", Class::Away, "a server behind it does not answer"),
    row(
        503,
        "",
        Class::Away,
        "it is sealed, or down for maintenance",
    ),
];

const NO_ENGINE: &str = "what answers there is no transit engine";
const NO_KEY: &str = "there is no such key: it was destroyed, or kms.key is misspelt";
const OTHER_KEY: &str =
    "another key has wrapped this, or with another id: was the key made anew under its name?";
const STANDBY: &str = "it points to another server, which is not followed: name the active one";

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// A successful answer of any engine.
#[derive(Deserialize)]
struct Other {
    #[serde(rename = "data")]
    _data: IgnoredAny,
}

/// The errors in an answer; nothing where it has no such list, so is none of the server's own.
fn errors(answer: &[u8]) -> Option<Vec<String>> {
    let told: Result<Errors, _> = serde_json::from_slice(answer);
    told.map(|told| told.errors).ok()
}

/// The first of them, to be quoted.
pub(super) fn told(answer: &[u8]) -> String {
    let first = errors(answer).and_then(|errors| errors.into_iter().next());
    first.map_or_else(String::new, |text| format!(" {:?}", printable(text.trim())))
}

/// What an answer holds, or what it means that it does not.
pub(super) fn judge<T: DeserializeOwned>(
    status: u16,
    answer: &[u8],
) -> Result<T, (Class, &'static str)> {
    if status == 200 {
        if let Ok(value) = serde_json::from_slice(answer) {
            return Ok(value);
        }
        if serde_json::from_slice::<Other>(answer).is_err() {
            return Err((Class::Away, FOREIGN));
        }
    }
    let errors = errors(answer);
    if status >= 400 && errors.is_none() {
        return Err((Class::Away, FOREIGN));
    }
    let is_said = |says: &str| {
        let errors = errors.as_deref().unwrap_or_default();
        says.is_empty() || errors.iter().any(|error| error.contains(says))
    };
    Err(table::meaning(&ROWS, |row| {
        row.error == status && is_said(row.says)
    }))
}
