// SPDX-License-Identifier: Apache-2.0
//! Why an address of the service gave nothing: what may pass, what does not, and what is told of it.

use std::time::Duration;

use crate::error::Error;

/// Why an address of the service gave nothing.
#[derive(Debug)]
pub enum Failure {
    /// It may get better by itself: the network, or a service that is in trouble.
    Later(String),
    /// It is busy, and said when to come back.
    Busy(String, Duration),
    /// Whoever answered is not the service: somebody on the way, who may go away again.
    Untrusted(String),
    /// This is not a service that this node can use: another key, another protocol.
    Final(String),
    /// The service has decided.
    Denied(String),
    /// Nothing the service has to do with.
    Local(Error),
}

impl Failure {
    /// How long to wait at least before another try; none where it does not pass.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Later(_) | Self::Untrusted(_) => Some(Duration::ZERO),
            Self::Busy(_, wait) => Some(*wait),
            Self::Final(_) | Self::Denied(_) | Self::Local(_) => None,
        }
    }
}

impl PartialEq for Failure {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Later(a), Self::Later(b))
            | (Self::Untrusted(a), Self::Untrusted(b))
            | (Self::Final(a), Self::Final(b))
            | (Self::Denied(a), Self::Denied(b)) => a == b,
            (Self::Busy(a, until), Self::Busy(b, other)) => (a, until) == (b, other),
            (
                Self::Later(_)
                | Self::Busy(..)
                | Self::Untrusted(_)
                | Self::Final(_)
                | Self::Denied(_)
                | Self::Local(_),
                _,
            ) => false,
        }
    }
}

/// A failure in a sentence that says what to do.
pub(super) fn into_error(failure: Failure) -> Error {
    match failure {
        Failure::Later(said) | Failure::Busy(said, _) => Error::temporary(said),
        Failure::Untrusted(said) | Failure::Final(said) => Error::refused(said),
        Failure::Denied(said) => Error::refused(format_args!(
            "it denied this machine: {said}; its audit log says why"
        )),
        Failure::Local(error) => error,
    }
}
