// SPDX-License-Identifier: Apache-2.0
//! What the account may do with the key, as the KMS tells it (`cryptoKeys.testIamPermissions`).

use serde::Deserialize;
use serde_json::json;

use super::{Gcp, body};
use crate::keyservice::kms::{Answered, Class, Rights};

/// What a running service needs.
const SERVICE: &str = "cloudkms.cryptoKeyVersions.useToDecrypt";

/// What the commands of an operator need beside.
const COMMANDS: [&str; 2] = [
    "cloudkms.cryptoKeyVersions.useToEncrypt",
    "cloudkms.cryptoKeys.get",
];

/// What nothing here needs, and does harm.
const EXCESS: [&str; 7] = [
    "cloudkms.cryptoKeys.setIamPolicy",
    "cloudkms.cryptoKeys.update",
    "cloudkms.cryptoKeyVersions.create",
    "cloudkms.cryptoKeyVersions.destroy",
    "cloudkms.cryptoKeyVersions.restore",
    "cloudkms.cryptoKeyVersions.update",
    "cloudkms.cryptoKeyVersions.useToDecryptViaDelegation",
];

#[derive(Deserialize)]
struct Has {
    #[serde(default)]
    permissions: Vec<String>,
}

impl Gcp {
    /// Needs no permission itself.
    pub(super) fn ask_rights(&self) -> Answered<Option<Rights>> {
        let all: Vec<&str> = [SERVICE]
            .into_iter()
            .chain(COMMANDS)
            .chain(EXCESS)
            .collect();
        let body = body(&json!({ "permissions": all }))?;
        let ask = self.at(":testIamPermissions", "");
        let has: Has = match self.ask(&ask, Some(&body)) {
            Ok(has) => has,
            Err(failure) if failure.class == Class::Denied => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let mut rights = Rights::default();
        let may = |name: &str| has.permissions.iter().any(|has| has == name);
        let of = |names: &[&str]| {
            let names = names.iter().filter(|name| may(name));
            names.map(|name| (*name).to_owned()).collect()
        };
        if !may(SERVICE) {
            rights.missing.push(SERVICE.to_owned());
        }
        rights.only_commands = of(&COMMANDS);
        rights.excess = of(&EXCESS);
        Ok(Some(rights))
    }
}
