// SPDX-License-Identifier: Apache-2.0
//! What the answers of rechecks mean for a service that runs: whether it goes on, ends or takes up again. Pure: it is told
//! the time.
//!
//! Releases end when the last unwrap is `grace` ago, whyever. A refusal of the KMS's ends them earlier, when it has said so
//! twice, a minute apart; so nothing that is amiss on the way to it or on this side does, like a token file that cannot be
//! read. One unwrap that succeeds undoes either. A question that has no end is one without an answer.

use std::time::{Duration, Instant};

use crate::keyservice::kms::Class;

/// How long after a refusal the second one may count: one answer may be a slip, of a policy that is being written or of a
/// server that is behind.
pub const CONFIRM_AFTER: Duration = Duration::from_secs(60);

/// At most so long after an answer that was no unwrap, the KMS is asked again.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// No question takes longer: twice the longest `deadline-s`, where the first answer is a denial, and as much again for what
/// is not in it, like reading files.
pub const ANSWER_MAX: Duration = Duration::from_secs(240);

/// What becomes of releases.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// They go on, as before.
    Going,
    /// They go on, and something is amiss for the first time.
    Doubtful(Class),
    /// They end now.
    Stop(Class),
    /// They are ended, and stay so.
    Stopped(Class),
    /// They begin again.
    Resume,
}

/// What was heard so far.
#[derive(Debug)]
pub struct Watch {
    recheck: Option<Duration>,
    grace: Duration,
    last_unwrap: Instant,
    due: Option<Instant>,
    /// When the first of two refusals came.
    refused: Option<Instant>,
    doubt: Option<Class>,
    stopped: Option<Class>,
}

impl Watch {
    /// A service that has unwrapped its secret `now`.
    #[must_use]
    pub fn new(recheck: Option<Duration>, grace: Duration, now: Instant) -> Self {
        Self {
            recheck,
            grace,
            last_unwrap: now,
            due: recheck.and_then(|after| now.checked_add(after)),
            refused: None,
            doubt: None,
            stopped: None,
        }
    }

    /// Whether it is ever asked again.
    #[must_use]
    pub fn is_rechecked(&self) -> bool {
        self.recheck.is_some()
    }

    /// Whether the KMS is to be asked.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// When the secret was last unwrapped.
    #[must_use]
    pub fn last_unwrap(&self) -> Instant {
        self.last_unwrap
    }

    /// Takes an answer that came `now`.
    pub fn heard(&mut self, answer: Result<(), Class>, now: Instant) -> Verdict {
        match answer {
            Ok(()) => self.unwrapped(now),
            Err(class) => self.failed(class, now),
        }
    }

    fn unwrapped(&mut self, now: Instant) -> Verdict {
        self.last_unwrap = now;
        self.due = self.recheck.and_then(|after| now.checked_add(after));
        self.refused = None;
        self.doubt = None;
        match self.stopped.take() {
            Some(_) => Verdict::Resume,
            None => Verdict::Going,
        }
    }

    fn failed(&mut self, class: Class, now: Instant) -> Verdict {
        let retry = self
            .recheck
            .map_or(RETRY_AFTER_MAX, |after| after.min(RETRY_AFTER_MAX));
        self.due = now.checked_add(retry);
        if let Some(stopped) = self.stopped {
            return Verdict::Stopped(stopped);
        }
        let is_confirmed = match class {
            Class::Away | Class::Unusable => false,
            Class::Denied | Class::Gone | Class::Wrong => self.is_confirmed(now),
        };
        if self.is_grace_over(now) || is_confirmed {
            self.stopped = Some(class);
            return Verdict::Stop(class);
        }
        let is_new = self.doubt.replace(class) != Some(class);
        if is_new {
            Verdict::Doubtful(class)
        } else {
            Verdict::Going
        }
    }

    /// Ends releases where the answer of the question that is under way is overdue: it should have come at the end of the
    /// grace, and no question may take so long. Says whether this has ended them.
    pub fn end_overdue(&mut self, now: Instant) -> bool {
        let Some(recheck) = self.recheck.filter(|_| self.stopped.is_none()) else {
            return false;
        };
        // Without a grace, the next recheck is the first that could have told.
        let wait = self.grace.max(recheck).saturating_add(ANSWER_MAX);
        let is_overdue = self
            .last_unwrap
            .checked_add(wait)
            .is_some_and(|end| end <= now);
        if is_overdue {
            self.stopped = Some(Class::Away);
        }
        is_overdue
    }

    /// Where the grace ends before the next try, that is made at its end.
    fn is_grace_over(&mut self, now: Instant) -> bool {
        let Some(end) = self.last_unwrap.checked_add(self.grace) else {
            return false;
        };
        self.due = self.due.map(|due| due.min(end));
        now >= end
    }

    /// Whether this refusal is the second one, long enough after the first. A KMS that was away meanwhile has said nothing.
    fn is_confirmed(&mut self, now: Instant) -> bool {
        let first = *self.refused.get_or_insert(now);
        let second = first.checked_add(CONFIRM_AFTER);
        if let Some(second) = second.filter(|second| *second > now) {
            self.due = Some(second);
        }
        second.is_some_and(|second| second <= now)
    }
}

#[cfg(test)]
#[path = "tests/watch.rs"]
mod tests;
