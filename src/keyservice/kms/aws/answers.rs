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
use crate::keyservice::kms::table::{self, Row, THROTTLED, TROUBLE, row};

/// Whatever its text is.
const fn any(name: &'static str, class: Class, what: &'static str) -> Row<&'static str> {
    row(name, "", class, what)
}

/// Of two rows that fit, the first counts.
pub(super) const ROWS: [Row<&str>; 44] = [
    any("ThrottlingException", Class::Away, THROTTLED),
    any("Throttling", Class::Away, THROTTLED),
    any("LimitExceededException", Class::Away, THROTTLED),
    any("DependencyTimeoutException", Class::Away, TROUBLE),
    any("KMSInternalException", Class::Away, TROUBLE),
    any("InternalFailure", Class::Away, TROUBLE),
    any("ServiceUnavailable", Class::Away, TROUBLE),
    any("ServiceUnavailableException", Class::Away, TROUBLE),
    any("RequestAbortedException", Class::Away, TROUBLE),
    any("RequestTimeoutException", Class::Away, TROUBLE),
    any("RequestExpired", Class::Away, CLOCK),
    any(
        "KeyUnavailableException",
        Class::Away,
        "the key is there and cannot be used now: its key store does not answer",
    ),
    any(
        "IDPCommunicationError",
        Class::Away,
        "the STS does not reach the identity provider",
    ),
    row(
        "InvalidSignatureException",
        "Signature expired",
        Class::Away,
        CLOCK,
    ),
    row(
        "InvalidSignatureException",
        "Signature not yet current",
        Class::Away,
        CLOCK,
    ),
    any("InvalidSignatureException", Class::Denied, PAIR),
    any("SignatureDoesNotMatch", Class::Denied, PAIR),
    any("UnrecognizedClientException", Class::Denied, PAIR),
    any("InvalidClientTokenId", Class::Denied, PAIR),
    any("IncompleteSignature", Class::Denied, PAIR),
    any("IncompleteSignatureException", Class::Denied, PAIR),
    any("MissingAuthenticationToken", Class::Denied, PAIR),
    any("MissingAuthenticationTokenException", Class::Denied, PAIR),
    any("ExpiredTokenException", Class::Denied, ENDED),
    any("ExpiredToken", Class::Denied, ENDED),
    any("InvalidIdentityToken", Class::Denied, ENDED),
    any("IDPRejectedClaim", Class::Denied, ENDED),
    any("AccessDeniedException", Class::Denied, POLICY),
    any("AccessDenied", Class::Denied, POLICY),
    any("NotAuthorized", Class::Denied, POLICY),
    any(
        "OptInRequired",
        Class::Denied,
        "the account is not signed up for the service, or is suspended",
    ),
    any("DisabledException", Class::Gone, "the key is disabled"),
    row(
        "KMSInvalidStateException",
        "pending deletion",
        Class::Gone,
        DELETION,
    ),
    row(
        "KMSInvalidStateException",
        "pending replica deletion",
        Class::Gone,
        DELETION,
    ),
    row(
        "KMSInvalidStateException",
        "pending import",
        Class::Gone,
        "the key's material was taken away",
    ),
    // With a key in a custom key store it is "a general failure with many possible causes", an outage among them.
    any(
        "KMSInvalidStateException",
        Class::Away,
        "the key is in a state in which it unwraps nothing now: is its key store there?",
    ),
    any(
        "NotFoundException",
        Class::Gone,
        "there is no such key: it was deleted, or kms.key or kms.url are misspelt",
    ),
    any(
        "IncorrectKeyException",
        Class::Wrong,
        "another key has wrapped this",
    ),
    any(
        "InvalidCiphertextException",
        Class::Wrong,
        "another key has wrapped this, or with another id, or it has changed",
    ),
    any(
        "InvalidArnException",
        Class::Unusable,
        "kms.key is no key of that region",
    ),
    any(
        "InvalidKeyUsageException",
        Class::Unusable,
        "a key of this type does not wrap: make a symmetric one",
    ),
    any("ValidationException", Class::Unusable, UNFIT),
    any("UnsupportedOperationException", Class::Unusable, UNFIT),
    any(
        "RegionDisabledException",
        Class::Unusable,
        "the STS of that region is off for the account",
    ),
];

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
    table::judge((status, answer), error, |error| {
        judge_name(&error.name, &error.message)
    })
}

/// What an error means by its name.
pub(super) fn judge_name(name: &str, message: &str) -> (Class, &'static str) {
    table::meaning(&ROWS, |row| row.error == name && message.contains(row.says))
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
