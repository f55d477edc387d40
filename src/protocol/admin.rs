// SPDX-License-Identifier: Apache-2.0
//! What an operator and a key service say to each other: JSON over TLS, where both show certificates.
//!
//! - `GET /v1/nodes?after=EK&limit=N`: a [`Page`] of [`Node`]s in the order of their ids.
//! - `GET /v1/nodes/EK`: a [`Node`] with its volumes. `DELETE`: it is forgotten with all its volumes ([`Forgotten`]).
//! - `GET /v1/volumes?after=UUID&limit=N`: a [`Page`] of [`Volume`]s in the order of their UUIDs.
//! - `GET /v1/volumes/UUID`: a [`Volume`]. `DELETE`: it is forgotten ([`Forgotten`]).
//! - `PUT /v1/volumes/UUID/readmission`: the next machine that is admitted with it has it ([`Volume`]). `DELETE`: no more so.
//! - `PUT /v1/volumes/UUID/rollback?epoch=N`: its node may go on with an older state of it, of this epoch where one is said
//!   ([`Volume`]). `DELETE`: no more so.
//!
//! An error's body is a [`ErrorBody`].

use serde::{Deserialize, Deserializer, Serialize};

use super::{Acceptance, LastFailure, VolumeRecord};
use crate::config::Role;

/// Below the server's address; the id of an endorsement key may follow.
pub const NODES_PATH: &str = "/v1/nodes";
/// Below the server's address; a UUID may follow.
pub const VOLUMES_PATH: &str = "/v1/volumes";
/// Below a volume's path.
pub const READMISSION: &str = "readmission";
/// Below a volume's path.
pub const ROLLBACK: &str = "rollback";
/// How many are on a page at most.
pub const PAGE_MAX: u32 = 1000;

/// A part of a list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What to ask for as `after` to see more; none where this is the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A node, which is its TPM's endorsement key. Times are seconds since 1970.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Node {
    /// The id of that key, 64 hexadecimal digits.
    pub ek: String,
    /// When it was admitted for the first time.
    pub first_seen_s: u64,
    /// When it was admitted last.
    pub last_seen_s: u64,
    /// What it had booted then, as the policy calls it.
    pub image: String,
    /// Where it was.
    pub address: String,
    /// The last time it was denied after it had proved its TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// What its last boot that failed said, as the node told when it was admitted later. It stays until there is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ToldFailure>,
    /// Its volumes, where one node is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

impl Node {
    /// Whether what it tried last came to nothing; within one second the denial counts.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.denial
            .as_ref()
            .is_some_and(|denial| denial.at_s >= self.last_seen_s)
    }
}

/// Why a node got nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Denial {
    /// When, seconds since 1970.
    pub at_s: u64,
    /// The check that failed.
    pub check: String,
    /// What differed.
    pub why: String,
}

/// A boot that failed, as a later one of the same node has told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ToldFailure {
    /// When it was told first, seconds since 1970.
    pub told_s: u64,
    /// What was told.
    #[serde(flatten)]
    pub failure: LastFailure,
}

impl ToldFailure {
    /// For how long what a node has told stands, whatever else it tells, in seconds: what it tells is its own choice.
    const STANDS_S: u64 = 3600;

    /// What is remembered after a node has told something, of that and what was remembered `before`.
    #[must_use]
    pub fn after(before: Option<Self>, told: Option<Self>) -> Option<Self> {
        match (before, told) {
            (Some(before), Some(told)) => {
                let is_same = before.failure == told.failure;
                let stands = told.told_s < before.told_s.saturating_add(Self::STANDS_S);
                Some(if is_same || stands { before } else { told })
            }
            (before, told) => told.or(before),
        }
    }
}

/// A volume, which belongs to the first endorsement key that asked for its key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Volume {
    /// Its LUKS UUID.
    pub uuid: String,
    /// The id of that endorsement key.
    pub ek: String,
    /// What it is for.
    pub role: Role,
    /// When it was registered, seconds since 1970.
    pub registered_s: u64,
    /// What nodes reported of it.
    #[serde(flatten)]
    pub record: VolumeRecord,
    /// Whether its node made its secret itself and was not given the service's key yet, as the node says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_secret: bool,
    /// The last boot in which something was accepted of it, as the node says.
    #[serde(
        default,
        deserialize_with = "LastAcceptance::if_known",
        skip_serializing_if = "Option::is_none"
    )]
    pub accepted: Option<LastAcceptance>,
    /// Whether another endorsement key may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readmission: Option<Readmission>,
    /// Whether an older state of it is gone on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
}

/// The last boot of a volume in which something was accepted of it. It stays until there is another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastAcceptance {
    /// What was accepted.
    pub what: Acceptance,
    /// When the report of that boot came, seconds since 1970.
    pub reported_s: u64,
}

impl LastAcceptance {
    /// Reads one; one of a later version's words is none, and no reason to read nothing of the volume.
    pub(crate) fn if_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Told {
            what: String,
            reported_s: u64,
        }
        let told = Option::<Told>::deserialize(from)?;
        Ok(told.and_then(|told| {
            let what = Acceptance::known(&told.what)?;
            Some(Self {
                what,
                reported_s: told.reported_s,
            })
        }))
    }
}

/// An operator's word that the node of a volume has lost its TPM. It is used up by the report of a boot that succeeded, if
/// that was the last one to be told of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Readmission {
    /// When it ends, seconds since 1970.
    pub until_s: u64,
    /// The id of the endorsement key that has taken it; none where the next machine may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek: Option<String>,
}

impl Readmission {
    /// Whether it is not over at `now_s`, seconds since 1970.
    #[must_use]
    pub fn holds(&self, now_s: u64) -> bool {
        now_s < self.until_s
    }
}

/// An operator's word that an older state of a volume is gone on with. It is used up by the report of the boot that did.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rollback {
    /// When it ends, seconds since 1970.
    pub until_s: u64,
    /// The epoch of the disk that it is for; none where the first that its node shows is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The id of the endorsement key that it is for; none where that is whoever takes the volume by a readmission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek: Option<String>,
}

impl Rollback {
    /// Whether it is not over at `now_s`, seconds since 1970.
    #[must_use]
    pub fn holds(&self, now_s: u64) -> bool {
        now_s < self.until_s
    }
}

/// What is forgotten.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Forgotten {
    /// The id of the endorsement key.
    pub ek: String,
    /// The UUIDs of the volumes, which the next node that asks gets.
    pub volumes: Vec<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ErrorBody {
    /// One sentence.
    pub error: String,
}

/// Whether `text` is the id of an endorsement key: 64 hexadecimal digits in lower case.
#[must_use]
pub fn is_ek(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(is_digit)
}
