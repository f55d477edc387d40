// SPDX-License-Identifier: Apache-2.0
//! What a volume is called: its LUKS UUID, written in one way only.
//!
//! **Never:** a second spelling, or the id of a secret that is no volume's.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A UUID in lower case, 8-4-4-4-12. No other id passes, so no request for a volume's key can name something else that
/// is derived from the master secret, and one volume has one name.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(String);

impl VolumeId {
    /// Takes `text` where it is a UUID, written in this one way.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::try_parse(text).ok()?;
        (uuid.hyphenated().to_string() == text).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for VolumeId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("expected a UUID in lower case, found {text:?}"))
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_one_name() {
        let good = "a6c7535f-0a9f-4c23-9524-fed431126906";
        assert_eq!(VolumeId::parse(good).unwrap().as_str(), good);
        for wrong in [
            "",
            "measurementSecret",
            "clusterID",
            "ca_emergency_ssh",
            "A6C7535F-0A9F-4C23-9524-FED431126906",
            "a6c7535F-0a9f-4c23-9524-fed431126906",
            "a6c7535f0a9f4c239524fed431126906",
            "{a6c7535f-0a9f-4c23-9524-fed431126906}",
            "urn:uuid:a6c7535f-0a9f-4c23-9524-fed431126906",
            "a6c7535f-0a9f-4c23-9524-fed43112690",
            "a6c7535f-0a9f-4c23-9524-fed4311269066",
            " a6c7535f-0a9f-4c23-9524-fed431126906",
        ] {
            assert!(VolumeId::parse(wrong).is_none(), "{wrong}");
        }
    }
}
