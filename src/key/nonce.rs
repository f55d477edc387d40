// SPDX-License-Identifier: Apache-2.0
//! What tells one boot from another: random bytes that its headers, the TPM's record and the key service's have in common.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::fill_random;
use crate::error::Result;

/// Length of a nonce in bytes: what the record of the anchor had left in front of its authorisation value. A host that keeps
/// the headers of n boots it has cut off hits the next nonce with a chance of n in 2^56.
pub const NONCE_LEN: usize = 7;

/// Random bytes of a boot. They are not secret. Never zeros, which stand for none. In JSON they are hexadecimal digits in
/// lower case.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct BootNonce([u8; NONCE_LEN]);

impl BootNonce {
    /// A new one.
    pub fn draw() -> Result<Self> {
        loop {
            let mut bytes = [0; NONCE_LEN];
            fill_random(&mut bytes)?;
            if let Some(nonce) = Self::from_bytes(bytes) {
                return Ok(nonce);
            }
        }
    }

    /// `None` where there are only zeros.
    #[must_use]
    pub fn from_bytes(bytes: [u8; NONCE_LEN]) -> Option<Self> {
        (bytes != [0; NONCE_LEN]).then_some(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; NONCE_LEN] {
        self.0
    }

    /// `None` for anything but what [`fmt::Display`] writes.
    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; NONCE_LEN];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        // One spelling: digits in upper case are another.
        Self::from_bytes(bytes).filter(|nonce| nonce.to_string() == text)
    }
}

impl fmt::Display for BootNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for BootNonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BootNonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let expected = "a boot's nonce: 14 hexadecimal digits in lower case, and not zeros alone";
        Self::parse(&text)
            .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_boots_draw_two_nonces_and_zeros_are_none() {
        let [one, other] = [(); 2].map(|()| BootNonce::draw().unwrap());
        assert_ne!(one, other);
        assert_eq!(BootNonce::from_bytes(one.bytes()), Some(one));
        assert_eq!(BootNonce::from_bytes([0; NONCE_LEN]), None);
    }

    #[test]
    fn in_json_a_nonce_has_one_spelling() {
        let nonce = BootNonce::from_bytes([0xa1, 2, 3, 4, 5, 6, 0xff]).unwrap();
        let text = r#""a10203040506ff""#;
        assert_eq!(serde_json::to_string(&nonce).unwrap(), text);
        assert_eq!(serde_json::from_str::<BootNonce>(text).unwrap(), nonce);
        for bad in [
            r#""A10203040506ff""#,
            r#""a10203040506f""#,
            r#""a10203040506""#,
            r#""a10203040506ff00""#,
            r#""a10203040506fg""#,
            r#""00000000000000""#,
            r#""""#,
            "7",
            "null",
        ] {
            let error = serde_json::from_str::<BootNonce>(bad).unwrap_err();
            assert!(error.is_data(), "{bad}: {error}");
        }
    }
}
