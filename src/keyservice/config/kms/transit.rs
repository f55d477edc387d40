// SPDX-License-Identifier: Apache-2.0
//! The name of a key of a transit engine.

/// The longest name of a key, in bytes.
const KEY_LEN_MAX: usize = 256;

/// `MOUNT/NAME`. The mount may have several parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPath {
    mount: String,
    name: String,
}

impl KeyPath {
    /// Where the engine is mounted.
    #[must_use]
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl TryFrom<String> for KeyPath {
    type Error = String;

    /// It becomes a part of a path of HTTP, so nothing is in it that means something there.
    fn try_from(text: String) -> Result<Self, String> {
        let is_plain = |part: &str| {
            let mut bytes = part.bytes();
            let is_name = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            is_name && !part.is_empty() && !part.starts_with('.')
        };
        match text.rsplit_once('/') {
            Some((mount, name)) if text.len() <= KEY_LEN_MAX && text.split('/').all(is_plain) => {
                Ok(Self {
                    mount: mount.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(format!(
                "expected \"MOUNT/NAME\" of letters, digits, dashes, underscores and dots, found {text:?}"
            )),
        }
    }
}
