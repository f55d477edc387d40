// SPDX-License-Identifier: Apache-2.0
//! One address of the service, and what it said last.

use std::time::{Duration, Instant};

use crate::client::failure::into_error;
use crate::client::{Failure, later};

/// One address of the service.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: String,
    said: String,
    state: State,
}

/// What may still come of an address in this boot.
#[derive(Debug)]
enum State {
    /// It is worth a try from then on.
    Open(Instant),
    /// Whoever answered was not the service; it is worth a try all the same.
    Strange,
    /// It is not a service that this node can use.
    Useless,
    /// The service has denied this node.
    Denied,
}

impl Endpoint {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            said: format!("{url}: not asked"),
            state: State::Open(Instant::now()),
        }
    }

    /// Remembers why it gave nothing, to a node that waits until then. Returns what to tell.
    ///
    /// A try that our own time cut short shows nothing: who has answered and was not the service still is not.
    pub(super) fn note(&mut self, failure: Failure, until: Instant) -> String {
        if self.is_strange() && matches!(failure, Failure::Later(_)) && Instant::now() >= until {
            return self.said.clone();
        }
        self.state = match &failure {
            Failure::Later(_) | Failure::Local(_) => State::Open(Instant::now()),
            Failure::Busy(_, wait) => State::Open(later(*wait)),
            Failure::Untrusted(_) => State::Strange,
            Failure::Final(_) => State::Useless,
            Failure::Denied(_) => State::Denied,
        };
        self.said = format!("{}: {}", self.url, into_error(failure));
        self.said.clone()
    }

    /// What it said last.
    pub(super) fn last_said(&self) -> &str {
        &self.said
    }

    /// How long it wants to be left alone; none where it has had its say.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self.state {
            State::Open(from) => Some(from.saturating_duration_since(Instant::now())),
            State::Strange => Some(Duration::ZERO),
            State::Useless | State::Denied => None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.wait().is_none()
    }

    pub(super) fn has_denied(&self) -> bool {
        matches!(self.state, State::Denied)
    }

    /// A denial is worth a try again.
    pub(super) fn forget_denial(&mut self) {
        if self.has_denied() {
            self.state = State::Open(Instant::now());
        }
    }

    pub(super) fn is_strange(&self) -> bool {
        matches!(self.state, State::Strange)
    }
}
