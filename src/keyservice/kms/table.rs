// SPDX-License-Identifier: Apache-2.0
//! Tables of what the errors of a KMS mean: each back end has one of its own, of rows that are read in the same way.
//!
//! What no row explains is [`Class::Away`]: it ends nothing at once, and is tried again. So is what has not the form of the
//! KMS's own errors.
#![cfg_attr(
    not(feature = "kms-all"),
    allow(dead_code, reason = "each back end reads its table in its own way")
)]

use serde::de::DeserializeOwned;

use super::Class;

/// An error, and what it means.
pub(super) struct Row<K> {
    /// What the KMS calls it: a status, or a name.
    pub(super) error: K,
    /// What tells it from others that are called so; empty is any.
    pub(super) says: &'static str,
    /// What that means.
    pub(super) class: Class,
    /// In a sentence.
    pub(super) what: &'static str,
}

pub(super) const fn row<K>(
    error: K,
    says: &'static str,
    class: Class,
    what: &'static str,
) -> Row<K> {
    Row {
        error,
        says,
        class,
        what,
    }
}

/// What an answer without a row is.
const UNEXPLAINED: &str = "an answer that is not known";

/// What one is that has not the form of theirs.
pub(super) const FOREIGN: &str =
    "not the form of its answers: something in between, or another server, has answered";

/// What several of their errors say.
pub(super) const TROUBLE: &str = "trouble of the service's own";
pub(super) const THROTTLED: &str = "too many requests";

/// What the first row that `fits` says.
pub(super) fn meaning<K>(rows: &[Row<K>], fits: impl Fn(&Row<K>) -> bool) -> (Class, &'static str) {
    let row = rows.iter().find(|row| fits(row));
    row.map_or((Class::Away, UNEXPLAINED), |row| (row.class, row.what))
}

/// What an answer holds, or what it means that it does not: `error` reads those of the KMS's own, and `means` looks in its table.
pub(super) fn judge<T: DeserializeOwned, E>(
    (status, answer): (u16, &[u8]),
    error: impl Fn(&[u8]) -> Option<E>,
    means: impl Fn(&E) -> (Class, &'static str),
) -> Result<T, (Class, &'static str)> {
    if status == 200 {
        return serde_json::from_slice(answer).map_err(|_error| (Class::Away, FOREIGN));
    }
    Err(error(answer).map_or((Class::Away, FOREIGN), |error| means(&error)))
}
