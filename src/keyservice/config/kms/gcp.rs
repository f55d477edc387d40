// SPDX-License-Identifier: Apache-2.0
//! A key of Google's Cloud KMS by its name, and the two ways to a token for it.

use std::fmt;

use crate::keyservice::config::secret::SecretSource;

/// The longest identifier in a name, in bytes (Cloud KMS, "Create a key": 63; domain-scoped projects have more).
const WORD_LEN_MAX: usize = 100;

/// What goes together.
pub(super) const LOGINS: &str = "credentials: gcp takes \"file:\" or \"credential:\" with the key of a service account, \
     or \"machine\", and neither role nor login-url";

/// `projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyName(String);

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyName {
    type Error = String;

    /// It becomes a part of a path of HTTP, so nothing is in it that means something there.
    fn try_from(text: String) -> Result<Self, String> {
        let is_plain = |part: &str| {
            let mut bytes = part.bytes();
            let is_name = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
            is_name && !part.is_empty() && !part.starts_with('.') && part.len() <= WORD_LEN_MAX
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [
                "projects",
                project,
                "locations",
                location,
                "keyRings",
                ring,
                "cryptoKeys",
                key,
            ] if [project, location, ring, key].into_iter().all(is_plain) => Ok(Self(text)),
            _ => Err(format!(
                "key: expected \"projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY\", found {text:?}"
            )),
        }
    }
}

/// Who gives the token.
#[derive(Clone, Debug)]
pub enum Login {
    /// Nobody: a service account's own key in a file signs it.
    Account(SecretSource),
    /// The metadata service, for the account that is attached to this machine.
    Machine,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_in_full() {
        let good =
            "projects/example.com:a-b/locations/europe-west3/keyRings/ring_1/cryptoKeys/nightlatch";
        assert_eq!(
            KeyName::try_from(good.to_owned()).unwrap().to_string(),
            good
        );
        for wrong in [
            "",
            "nightlatch",
            &format!("{good}/cryptoKeyVersions/1"),
            &format!("{good}:encrypt?x"),
            &format!("/{good}"),
            &good.replace("ring_1", ""),
            &good.replace("ring_1", ".."),
            &good.replace("ring_1", "a b"),
            &good.replace("ring_1", &"a".repeat(WORD_LEN_MAX + 1)),
            &good.replace("cryptoKeys", "keys"),
        ] {
            let error = KeyName::try_from(wrong.to_owned()).unwrap_err();
            assert!(error.contains("cryptoKeys/KEY"), "{error}");
        }
    }
}
