// SPDX-License-Identifier: Apache-2.0
//! What a key pair may do with the key, by trying it dry (AWS KMS Developer Guide, "Testing your permissions"): who may is
//! answered with an error of its own, and nothing is done.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Aws, CONTEXT, Describe, Encrypt, SYMMETRIC, answers, body};
use crate::keyservice::kms::request::twice_where_denied;
use crate::keyservice::kms::{Answered, Class, Rights};

/// What a dry run is answered with by who may.
const MAY: &str = "DryRunOperationException";

/// Operations that nothing here needs, and that can be tried dry without something else to name.
const EXCESS: [&str; 2] = ["GenerateDataKey", "GenerateDataKeyWithoutPlaintext"];

/// An id for which nothing is wrapped.
const NO_ID: &str = "rights";

impl Aws {
    /// `Decrypt` is not among these: a dry one wants what was wrapped, and whoever asks has unwrapped that.
    pub(super) fn ask_rights(&self) -> Answered<Rights> {
        let mut rights = Rights::default();
        let encrypt = body(&Encrypt {
            key_id: self.key.as_str(),
            plaintext: "AA==",
            encryption_context: BTreeMap::from([(CONTEXT, NO_ID)]),
            encryption_algorithm: SYMMETRIC,
            dry_run: true,
        })?;
        let describe = body(&Describe {
            key_id: self.key.as_str(),
        })?;
        for (operation, body) in [("Encrypt", &encrypt), ("DescribeKey", &describe)] {
            if self.may(operation, body)? {
                rights.only_commands.push(self.right(operation));
            }
        }
        for operation in EXCESS {
            let body = body(&json!({
                "KeyId": self.key.as_str(),
                "KeySpec": "AES_256",
                "EncryptionContext": { CONTEXT: NO_ID },
                "DryRun": true,
            }))?;
            if self.may(operation, &body)? {
                rights.excess.push(self.right(operation));
            }
        }
        Ok(rights)
    }

    fn right(&self, operation: &str) -> String {
        format!("kms:{operation} on {}", self.key)
    }

    /// Whether it would be done.
    fn may(&self, operation: &str, body: &[u8]) -> Answered<bool> {
        let asked = twice_where_denied(|| {
            let answer = self.ask_once(operation, body)?;
            if answers::name(&answer.body).as_deref() == Some(MAY) {
                return Ok(());
            }
            answers::judge::<Value>(answer.status, &answer.body)
                .map(drop)
                .map_err(|(class, what)| {
                    let told = answers::told(&answer.body);
                    answer.failure(class, &told, what, &self.right(operation))
                })
        });
        match asked {
            Ok(()) => Ok(true),
            Err(failure) if failure.class == Class::Denied => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
