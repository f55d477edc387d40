// SPDX-License-Identifier: Apache-2.0
//! What a node tells of a volume once it is open.

use serde::{Deserialize, Serialize};

use super::VolumeRecord;

/// What a node tells a service of a volume that it has opened. Older nodes tell the record alone, and older services take no
/// more of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VolumeReport {
    /// What is to be remembered, and compared with later boots.
    #[serde(flatten)]
    pub record: VolumeRecord,
    /// Whether the node made the volume's secret itself, so that the service's key does not open it. For operators: it is the
    /// node's word, and nothing follows from it. Left out where it did not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_secret: bool,
    /// What was accepted of the volume in this boot. For operators as well. Left out where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
}

impl VolumeReport {
    /// Reads a body, and keeps nothing that it does not know: serde would keep all of it to read a flattened field.
    pub fn parse(body: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Beside {
            #[serde(default)]
            own_secret: bool,
            #[serde(default)]
            accepted: Option<String>,
        }
        let record = serde_json::from_slice(body)?;
        let beside: Beside = serde_json::from_slice(body)?;
        Ok(Self {
            record,
            own_secret: beside.own_secret,
            // A later version may have more words.
            accepted: beside.accepted.as_deref().and_then(Acceptance::known),
        })
    }
}

/// What a boot went on with that no other boot would.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acceptance {
    /// An operator, on the node or at the service: an older state of the volume.
    Rollback,
    /// An operator, on the node: a blank disk in the volume's place.
    New,
    /// An operator, at the service: a volume that the node's TPM does not remember.
    Readmitted,
    /// The service, in the place of a record that was made under other PCR values.
    Stale,
}

impl Acceptance {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Rollback, Self::New, Self::Readmitted, Self::Stale];

    /// The word, as the node's journal and status have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::New => "new",
            Self::Readmitted => "readmitted",
            Self::Stale => "stale",
        }
    }

    /// What this word means; none where this version does not know it.
    #[must_use]
    pub fn known(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}
