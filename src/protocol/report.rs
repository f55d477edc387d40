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
}

impl VolumeReport {
    /// Reads a body, and keeps nothing that it does not know: serde would keep all of it to read a flattened field.
    pub fn parse(body: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Beside {
            #[serde(default)]
            own_secret: bool,
        }
        let record = serde_json::from_slice(body)?;
        let Beside { own_secret } = serde_json::from_slice(body)?;
        Ok(Self { record, own_secret })
    }
}
