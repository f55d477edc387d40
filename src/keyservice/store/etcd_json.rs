// SPDX-License-Identifier: Apache-2.0
//! What etcd's JSON gateway answers, as far as it is looked at.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Deserializer};

use crate::protocol::Bytes;

pub(super) fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// The answer to a transaction.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Txn {
    /// Whether its conditions held.
    pub(super) succeeded: bool,
    /// The answers to its operations, in order.
    pub(super) responses: Vec<Response>,
}

/// The answer to one operation, of one kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Response {
    #[serde(rename = "response_range", alias = "responseRange")]
    pub(super) range: Range,
    #[serde(rename = "response_txn", alias = "responseTxn")]
    pub(super) txn: Txn,
}

/// The answer to a reading.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) kvs: Vec<Kv>,
}

/// A key and its value.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kv {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    /// The revision of its last change.
    #[serde(alias = "modRevision", deserialize_with = "number")]
    pub(super) mod_revision: i64,
}

/// A number of 64 bits, which JSON has as a string.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
