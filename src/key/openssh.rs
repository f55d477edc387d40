// SPDX-License-Identifier: Apache-2.0
//! Public keys of people as OpenSSH writes them, a line each: what a configuration names its operators by.
//!
//! Two kinds are taken, of which no parameter can be chosen badly: Ed25519, and Ed25519 in a security key.

pub mod signature;
mod wire;

use std::fmt;

use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Serialize};

use self::wire::Wire;

/// Ed25519 (RFC 8709, section 4).
const ED25519: &str = "ssh-ed25519";
/// The same in a security key (OpenSSH, `PROTOCOL.u2f`).
const SECURITY_KEY: &str = "sk-ssh-ed25519@openssh.com";
/// The length of a key in bytes (RFC 8032, section 5.1.5).
const POINT_LEN: usize = 32;
/// The longest line, in bytes.
const LINE_LEN_MAX: usize = 1024;

/// A public key and the comment beside it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct OpensshKey {
    blob: Vec<u8>,
    key: Key,
    comment: String,
}

/// What a key verifies with.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Key {
    Ed25519([u8; POINT_LEN]),
    /// A security key signs for an application, and says whether somebody touched it.
    SecurityKey {
        point: [u8; POINT_LEN],
        application: Vec<u8>,
    },
}

impl OpensshKey {
    /// Takes a line of a `.pub` file.
    pub fn parse(line: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            let start: String = line.chars().take(40).collect();
            format!(
                "expected \"{ED25519} AAAA...\" or \"{SECURITY_KEY} AAAA...\", a line of a .pub file: {why} in {start:?}"
            )
        };
        if line.len() > LINE_LEN_MAX || line.chars().any(char::is_control) {
            return Err(wrong("too long, or a control character"));
        }
        let mut words = line.trim().splitn(3, ' ');
        let (Some(kind), Some(text)) = (words.next(), words.next()) else {
            return Err(wrong("no key"));
        };
        let blob = Base64::decode_vec(text).map_err(|error| wrong(&error.to_string()))?;
        let (found, key) = Key::parse(&blob).ok_or_else(|| wrong("no such key"))?;
        if found != kind {
            return Err(wrong("a key of another kind"));
        }
        Ok(Self {
            blob,
            key,
            comment: words.next().unwrap_or_default().trim().to_owned(),
        })
    }

    /// The key as it travels, without its comment.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
}

impl Key {
    /// Takes what travels apart, and says what kind it is.
    fn parse(blob: &[u8]) -> Option<(&'static str, Self)> {
        let mut wire = Wire::new(blob);
        let kind = wire.string()?;
        let point = wire.string()?.try_into().ok()?;
        let key = if kind == ED25519.as_bytes() {
            (ED25519, Self::Ed25519(point))
        } else if kind == SECURITY_KEY.as_bytes() {
            let application = wire.string()?.to_vec();
            (SECURITY_KEY, Self::SecurityKey { point, application })
        } else {
            return None;
        };
        wire.finish()?;
        Some(key)
    }
}

impl TryFrom<String> for OpensshKey {
    type Error = String;

    fn try_from(line: String) -> Result<Self, String> {
        Self::parse(&line)
    }
}

impl From<OpensshKey> for String {
    fn from(key: OpensshKey) -> Self {
        key.to_string()
    }
}

/// As in a `.pub` file.
impl fmt::Display for OpensshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.key {
            Key::Ed25519(_) => ED25519,
            Key::SecurityKey { .. } => SECURITY_KEY,
        };
        write!(f, "{kind} {}", Base64::encode_string(&self.blob))?;
        match self.comment.as_str() {
            "" => Ok(()),
            comment => write!(f, " {comment}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const OPERATOR: &str = include_str!("../../tests/fixtures/openssh/operator.pub");
    pub(super) const TOUCHED: &str = include_str!("../../tests/fixtures/openssh/security-key.pub");

    #[test]
    fn lines_of_pub_files_come_back_as_they_were() {
        for line in [OPERATOR, TOUCHED] {
            let line = line.trim();
            assert_eq!(OpensshKey::parse(line).unwrap().to_string(), line);
        }
        let (bare, _) = OPERATOR.trim().rsplit_once(' ').unwrap();
        assert_eq!(OpensshKey::parse(bare).unwrap().to_string(), bare);
    }

    #[test]
    fn other_lines_are_refused() {
        let (kind, rest) = OPERATOR.trim().split_once(' ').unwrap();
        let (text, _) = rest.split_once(' ').unwrap();
        let rsa = Base64::encode_string(b"\0\0\0\x07ssh-rsa\0\0\0\x01\x03\0\0\0\x01\x05");
        let longer =
            Base64::encode_string(&[&Base64::decode_vec(text).unwrap()[..], b"\0\0\0\0"].concat());
        for line in [
            String::new(),
            kind.to_owned(),
            format!("{SECURITY_KEY} {text}"),
            format!("{kind} {}", &text[..40]),
            format!("{kind} {longer}"),
            format!("ssh-rsa {rsa}"),
            format!("restrict {kind} {text}"),
            format!("{kind} {text} a\nb"),
        ] {
            OpensshKey::parse(&line).unwrap_err();
        }
    }
}
