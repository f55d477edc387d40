// SPDX-License-Identifier: Apache-2.0
//! What comes of a request: an answer, or a refusal that tells the caller little and the log everything.
//!
//! **Never:** the reason in what a caller reads: that is for the operator's log.

use std::fmt::Display;

use crate::error::Error;
use crate::evidence::Refusal;

/// When to come back after trouble of the service itself, in seconds: a store or a disk takes a while.
const LOCAL_RETRY_S: u64 = 5;

/// The steps of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// A nonce is asked for.
    Auth,
    /// Evidence is given.
    Attest,
    /// A key is asked for.
    Resource,
    /// What is remembered of a volume is asked for.
    Record,
    /// A volume is reported.
    Report,
    /// Nothing this service has.
    Unknown,
}

impl Step {
    /// The word in logs and counters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Attest => "attest",
            Self::Resource => "resource",
            Self::Record => "record",
            Self::Report => "report",
            Self::Unknown => "unknown",
        }
    }
}

/// An answer to a request that was granted.
#[derive(Debug)]
pub struct Reply {
    /// JSON.
    pub body: Vec<u8>,
    /// A session to hand over, with its lifetime in seconds.
    pub session: Option<(String, u32)>,
}

/// Whose fault it is, which is what a caller learns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The request is none this service understands.
    Malformed,
    /// It is longer than allowed.
    TooLong,
    /// It did not arrive in time.
    TooSlow,
    /// There is no session, or it has ended, or it is another step's.
    Session,
    /// The machine may not have what it asks for.
    Denied,
    /// There is nothing of that name, for nobody.
    NotFound,
    /// It asks too often.
    TooOften,
    /// The service has too much to do.
    Busy,
    /// The service cannot say now.
    Local,
}

impl Fault {
    /// The word of the outcome in counters, and of the event in the audit log.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Busy | Self::Local => ("failed", "failure"),
            Self::Malformed
            | Self::TooLong
            | Self::TooSlow
            | Self::Session
            | Self::Denied
            | Self::NotFound
            | Self::TooOften => ("denied", "denial"),
        }
    }
}

/// A request that was not granted.
#[derive(Debug)]
pub struct Rejection {
    /// What the caller learns.
    pub fault: Fault,
    /// The check that failed, a word for counters and logs.
    pub check: &'static str,
    /// What was expected and what was found, for the operator.
    pub why: String,
    /// How long to wait before the next try, in seconds.
    pub retry_after_s: Option<u64>,
}

impl Rejection {
    /// A refusal by `check`.
    pub fn new(fault: Fault, check: &'static str, why: impl Display) -> Self {
        Self {
            fault,
            check,
            why: why.to_string(),
            retry_after_s: None,
        }
    }

    /// The machine may not have what it asks for.
    pub fn denied(check: &'static str, why: impl Display) -> Self {
        Self::new(Fault::Denied, check, why)
    }
}

/// Evidence that was not accepted.
impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::denied(refusal.check.as_str(), refusal.why)
    }
}

/// An error of the service itself: its store, its audit log, its random numbers.
impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self {
            retry_after_s: Some(LOCAL_RETRY_S),
            ..Self::new(Fault::Local, "service", error)
        }
    }
}
