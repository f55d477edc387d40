// SPDX-License-Identifier: Apache-2.0
//! What the answers of AWS KMS and of the STS mean: a row for each error that is documented for what is asked (AWS KMS API
//! Reference, `Encrypt`, `Decrypt`, `DescribeKey` and "Common Error Types"; AWS STS API Reference,
//! `AssumeRoleWithWebIdentity`). The status says little there: a throttled request is answered with 400.
//!
//! What no row explains is [`Class::Away`]: it ends nothing at once, and is tried again. So is what has not the form of
//! theirs, which is a JSON object with `__type`.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::keyservice::kms::Class;
use crate::keyservice::kms::request::printable;

/// An error, and what it means.
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// What its text holds; empty is any.
    pub(super) says: &'static str,
    /// What that means.
    pub(super) class: Class,
    /// In a sentence.
    pub(super) what: &'static str,
}

const fn row(name: &'static str, class: Class, what: &'static str) -> Row {
    Row {
        name,
        says: "",
        class,
        what,
    }
}

/// Of two rows that fit, the first counts.
pub(super) const ROWS: [Row; 44] = [
    row("ThrottlingException", Class::Away, THROTTLED),
    row("Throttling", Class::Away, THROTTLED),
    row("LimitExceededException", Class::Away, THROTTLED),
    row("DependencyTimeoutException", Class::Away, TROUBLE),
    row("KMSInternalException", Class::Away, TROUBLE),
    row("InternalFailure", Class::Away, TROUBLE),
    row("ServiceUnavailable", Class::Away, TROUBLE),
    row("ServiceUnavailableException", Class::Away, TROUBLE),
    row("RequestAbortedException", Class::Away, TROUBLE),
    row("RequestTimeoutException", Class::Away, TROUBLE),
    row("RequestExpired", Class::Away, CLOCK),
    row(
        "KeyUnavailableException",
        Class::Away,
        "the key is there and cannot be used now: its key store does not answer",
    ),
    row(
        "IDPCommunicationError",
        Class::Away,
        "the STS does not reach the identity provider",
    ),
    Row {
        says: "Signature expired",
        ..row("InvalidSignatureException", Class::Away, CLOCK)
    },
    Row {
        says: "Signature not yet current",
        ..row("InvalidSignatureException", Class::Away, CLOCK)
    },
    row("InvalidSignatureException", Class::Denied, PAIR),
    row("SignatureDoesNotMatch", Class::Denied, PAIR),
    row("UnrecognizedClientException", Class::Denied, PAIR),
    row("InvalidClientTokenId", Class::Denied, PAIR),
    row("IncompleteSignature", Class::Denied, PAIR),
    row("IncompleteSignatureException", Class::Denied, PAIR),
    row("MissingAuthenticationToken", Class::Denied, PAIR),
    row("MissingAuthenticationTokenException", Class::Denied, PAIR),
    row("ExpiredTokenException", Class::Denied, ENDED),
    row("ExpiredToken", Class::Denied, ENDED),
    row("InvalidIdentityToken", Class::Denied, ENDED),
    row("IDPRejectedClaim", Class::Denied, ENDED),
    row("AccessDeniedException", Class::Denied, POLICY),
    row("AccessDenied", Class::Denied, POLICY),
    row("NotAuthorized", Class::Denied, POLICY),
    row(
        "OptInRequired",
        Class::Denied,
        "the account is not signed up for the service, or is suspended",
    ),
    row("DisabledException", Class::Gone, "the key is disabled"),
    Row {
        says: "pending deletion",
        ..row("KMSInvalidStateException", Class::Gone, DELETION)
    },
    Row {
        says: "pending replica deletion",
        ..row("KMSInvalidStateException", Class::Gone, DELETION)
    },
    Row {
        says: "pending import",
        ..row(
            "KMSInvalidStateException",
            Class::Gone,
            "the key's material was taken away",
        )
    },
    // With a key in a custom key store it is "a general failure with many possible causes", an outage among them.
    row(
        "KMSInvalidStateException",
        Class::Away,
        "the key is in a state in which it unwraps nothing now: is its key store there?",
    ),
    row(
        "NotFoundException",
        Class::Gone,
        "there is no such key: it was deleted, or kms.key or kms.url are misspelt",
    ),
    row(
        "IncorrectKeyException",
        Class::Wrong,
        "another key has wrapped this",
    ),
    row(
        "InvalidCiphertextException",
        Class::Wrong,
        "another key has wrapped this, or with another id, or it has changed",
    ),
    row(
        "InvalidArnException",
        Class::Unusable,
        "kms.key is no key of that region",
    ),
    row(
        "InvalidKeyUsageException",
        Class::Unusable,
        "a key of this type does not wrap: make a symmetric one",
    ),
    row("ValidationException", Class::Unusable, UNFIT),
    row("UnsupportedOperationException", Class::Unusable, UNFIT),
    row(
        "RegionDisabledException",
        Class::Unusable,
        "the STS of that region is off for the account",
    ),
];

const THROTTLED: &str = "too many requests";
const TROUBLE: &str = "trouble of the service's own";
const CLOCK: &str = "the clock of this machine is off by more than five minutes";
const PAIR: &str = "the key pair is not known there, or its secret half is another one";
const ENDED: &str = "the token has ended, or is of another issuer than the role trusts";
const POLICY: &str = "no policy of the role, the key or the organization allows it";

const DELETION: &str = "the key waits for its deletion";
const UNFIT: &str = "what is asked is nothing for this key: is kms.key a symmetric one?";

/// The errors whose text may repeat what was signed, in which the token is (IAM User Guide, "Troubleshoot Signature
/// Version 4 requests").
const REPEATERS: [&str; 4] = [
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "IncompleteSignatureException",
];

/// What an answer without a row is.
const UNEXPLAINED: &str = "an answer that is not known";

/// What one is that has not the form of theirs.
pub(super) const FOREIGN: &str =
    "not the form of its answers: something in between, or another server, has answered";

#[derive(Deserialize)]
struct Error {
    #[serde(rename = "__type")]
    name: String,
    #[serde(default, alias = "Message")]
    message: String,
}

/// The error in an answer. Before its name may stand a namespace, and after it an address.
fn error(answer: &[u8]) -> Option<Error> {
    let mut error: Error = serde_json::from_slice(answer).ok()?;
    let name = error.name.rsplit('#').next().unwrap_or_default();
    error.name = name.split(':').next().unwrap_or_default().to_owned();
    Some(error)
}

/// What it says, to be quoted; of one that may repeat a token, the name alone.
pub(super) fn told(answer: &[u8]) -> String {
    error(answer).map_or_else(String::new, |error| {
        let (name, text) = (printable(&error.name), printable(&error.message));
        if REPEATERS.contains(&error.name.as_str()) {
            format!(" {name}")
        } else {
            format!(" {name} {text:?}")
        }
    })
}

/// The name of the error in an answer.
pub(super) fn name(answer: &[u8]) -> Option<String> {
    error(answer).map(|error| error.name)
}

/// What an answer holds, or what it means that it does not.
pub(super) fn judge<T: DeserializeOwned>(
    status: u16,
    answer: &[u8],
) -> Result<T, (Class, &'static str)> {
    if status == 200 {
        return serde_json::from_slice(answer).map_err(|_error| (Class::Away, FOREIGN));
    }
    let Some(error) = error(answer) else {
        return Err((Class::Away, FOREIGN));
    };
    Err(judge_name(&error.name, &error.message))
}

/// What an error means by its name.
pub(super) fn judge_name(name: &str, message: &str) -> (Class, &'static str) {
    let row = ROWS
        .iter()
        .find(|row| row.name == name && message.contains(row.says));
    row.map_or((Class::Away, UNEXPLAINED), |row| (row.class, row.what))
}

/// What the state of a key means ("Key states of AWS KMS keys").
pub(super) fn judge_state(state: &str) -> Result<(), Class> {
    match state {
        "Enabled" => Ok(()),
        "Disabled" | "PendingDeletion" | "PendingReplicaDeletion" | "PendingImport" => {
            Err(Class::Gone)
        }
        _ => Err(Class::Away),
    }
}
