// SPDX-License-Identifier: Apache-2.0
//! Evidence from a TPM, verified without one: on an operator's machine and by the key service.
//!
//! Everything here is a pure function of bytes, needs no C library and no device, and treats what it is given as hostile.
//! [`verify::verify`] is the whole of it; [`Policy`] then says whether what was verified is good enough. Every refusal
//! names the [`Check`] that failed.
//!
//! Below are its rooms floor by floor, from the verdicts down to what bytes say.
//!
//! Encodings are those of the TPM 2.0 library specification, part 2, unless said otherwise.
//!
//! **Never:** a TPM, a disk, the network, or a clock of its own: bytes and the time come in, a verdict goes out.

pub mod bundle;
pub mod policy;
pub mod start;

pub mod chain;
pub mod credential;
pub mod firmware;
pub mod secure_boot;
pub mod verify;

pub mod attest;
pub mod eventlog;
pub mod key;
pub mod signature_list;

mod bytes;
pub mod registers;

#[cfg(test)]
mod fixture;

use std::fmt;

pub use attest::{Attest, Clock};
pub use bundle::Bundle;
pub use chain::Authorities;
pub use key::{Ak, Ek, Name};
pub use policy::Policy;
pub use registers::{Registers, Values};
pub use secure_boot::SecureBoot;
pub use verify::{Expected, Presented, Verified, verify};

use crate::error::Error;

/// What is checked about evidence. The word of the check that failed is for logs and counters.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Check {
    /// The parts are what they are said to be, and nothing follows them.
    Encoding,
    /// A TPM made the statement: it starts with `TPM_GENERATED_VALUE`.
    Magic,
    /// The statement is a quote.
    Kind,
    /// The key signs what its TPM made and nothing else, and never left it.
    AkAttributes,
    /// The key's algorithm is one of two, neither with SHA-1.
    AkScheme,
    /// The signature over the statement is that of the key.
    Signature,
    /// The key is the one that was known before.
    AkKey,
    /// The quoted PCRs are the ones that were asked for, in that bank and no other.
    Selection,
    /// The quote is about what was asked: a nonce, a volume.
    Nonce,
    /// The values are those the quote was made over.
    Digest,
    /// The firmware's event log can be read.
    FirmwareLog,
    /// systemd's event log can be read.
    UserspaceLog,
    /// The values follow from the event logs.
    EventLog,
    /// The endorsement key decrypts for its TPM only.
    EkTemplate,
    /// The endorsement certificate is about this endorsement key.
    EkKey,
    /// The endorsement certificate comes from somebody who is trusted, and is valid now.
    EkChain,
    /// The endorsement key is enrolled or certified.
    EkTrust,
    /// Nothing was measured into the cluster's PCR yet: the machine is early in its boot.
    EarlyBoot,
    /// The role is one the policy knows, and may have this.
    Role,
    /// The values are those of an image the policy knows.
    Image,
}

impl Check {
    /// The check in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Magic => "magic",
            Self::Kind => "type",
            Self::AkAttributes => "ak-attributes",
            Self::AkScheme => "ak-scheme",
            Self::Signature => "signature",
            Self::AkKey => "ak-key",
            Self::Selection => "selection",
            Self::Nonce => "nonce",
            Self::Digest => "digest",
            Self::FirmwareLog => "firmware-log",
            Self::UserspaceLog => "userspace-log",
            Self::EventLog => "event-log",
            Self::EkTemplate => "ek-template",
            Self::EkKey => "ek-key",
            Self::EkChain => "ek-chain",
            Self::EkTrust => "ek-trust",
            Self::EarlyBoot => "early-boot",
            Self::Role => "role",
            Self::Image => "image",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Evidence that is not accepted. Displays as the check and why it failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The check that failed.
    pub check: Check,
    /// Why, for whoever reads the log. It may quote what the machine sent.
    pub why: String,
}

impl Refusal {
    /// A refusal by `check`.
    pub fn new(check: Check, why: impl fmt::Display) -> Self {
        Self {
            check,
            why: why.to_string(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "check {}: {}", self.check, self.why)
    }
}

impl std::error::Error for Refusal {}

/// Evidence that fails a check is refused.
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal)
    }
}
