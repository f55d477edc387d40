// SPDX-License-Identifier: Apache-2.0
//! A key of Azure's Key Vault or managed HSM by its name, and the two ways to a token for it.

use std::fmt;

use uuid::Uuid;

use crate::keyservice::config::etcd::Endpoint;
use crate::keyservice::config::secret::SecretSource;

/// The longest name of a key, in bytes (Key Vault, "Object identifiers").
const NAME_LEN_MAX: usize = 127;

/// What goes together.
pub(super) const LOGINS: &str = "credentials: azure takes \"machine\", and role for an identity that is not the \
     machine's only one; or \"file:\" or \"credential:\" with a federated token, and then role and login-url";

/// The name of a key in a vault. Its version is found when something is wrapped, and stands in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyName(String);

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !text.is_empty() && text.len() <= NAME_LEN_MAX && text.bytes().all(is_plain) {
            return Ok(Self(text));
        }
        Err(format!(
            "key: expected the name of a key of letters, digits and dashes, without its vault and version, found {text:?}"
        ))
    }
}

/// Who gives the token.
#[derive(Clone, Debug)]
pub enum Login {
    /// Microsoft Entra, for a token of another issuer that the identity trusts.
    Federated {
        /// Where that token is.
        token: SecretSource,
        /// The directory of the identity.
        tenant: Uuid,
        /// The identity.
        client: Uuid,
        /// Where the directory is asked.
        url: Endpoint,
    },
    /// The metadata service, for an identity that is attached to this machine: this one, or the only one.
    Machine(Option<Uuid>),
}

impl Login {
    /// `role` is `TENANT/CLIENT`.
    pub(super) fn federated(
        token: SecretSource,
        role: &str,
        url: Endpoint,
    ) -> Result<Self, String> {
        let both = role
            .split_once('/')
            .and_then(|(tenant, client)| Some((id(tenant)?, id(client)?)));
        let Some((tenant, client)) = both else {
            return Err(format!(
                "role: expected \"TENANT/CLIENT\", the ids of a directory and of an identity in it, found {role:?}"
            ));
        };
        Ok(Self::Federated {
            token,
            tenant,
            client,
            url,
        })
    }

    /// `role` is `CLIENT`.
    pub(super) fn machine(role: Option<&str>) -> Result<Self, String> {
        let Some(role) = role else {
            return Ok(Self::Machine(None));
        };
        let client = id(role).ok_or_else(|| {
            format!("role: expected the client id of an identity of this machine, found {role:?}")
        })?;
        Ok(Self::Machine(Some(client)))
    }
}

/// An id in the usual form, of 36 characters.
fn id(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.hyphenated().to_string() == text.to_ascii_lowercase()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";

    #[test]
    fn a_key_is_named_without_its_vault_and_version() {
        KeyName::try_from("nightlatch-1".to_owned()).unwrap();
        for wrong in [
            "",
            "a/b",
            "a.b",
            "a b",
            "https://v.vault.azure.net/keys/a",
            &"a".repeat(NAME_LEN_MAX + 1),
        ] {
            KeyName::try_from(wrong.to_owned()).unwrap_err();
        }
    }

    #[test]
    fn an_identity_is_named_by_its_ids() {
        let url = || Endpoint::try_from("http://127.0.0.1:1".to_owned()).unwrap();
        let federated = |role: &str| Login::federated(SecretSource::File("/t".into()), role, url());
        federated(&format!("{ID}/{ID}")).unwrap();
        Login::machine(Some(ID)).unwrap();
        Login::machine(None).unwrap();
        for wrong in ["", "a", &ID.replace('-', ""), &format!("{ID}&x=y")] {
            Login::machine(Some(wrong)).unwrap_err();
            federated(&format!("{wrong}/{ID}")).unwrap_err();
            federated(&format!("{ID}/{wrong}")).unwrap_err();
        }
        federated(ID).unwrap_err();
    }
}
