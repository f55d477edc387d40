// SPDX-License-Identifier: Apache-2.0
//! The KMS asked again while the service runs, and what that does to the master secret.

use std::time::{Duration, Instant};

use super::keys::Keys;
use crate::keyservice::kms::watch::Verdict;
use crate::keyservice::kms::{Class, Failure};

/// What came of asking the KMS again.
#[derive(Debug)]
pub struct Rechecked {
    /// How long it took.
    pub took: Duration,
    /// Why it gave nothing, if so.
    pub failure: Option<Failure>,
    /// What becomes of releases.
    pub verdict: Verdict,
}

impl Keys {
    /// How the KMS is called whose word releases hang on.
    #[must_use]
    pub fn kms(&self) -> Option<String> {
        self.wrapped.as_ref().map(|wrapped| wrapped.kms.to_string())
    }

    /// Whether a KMS is asked again from time to time.
    #[must_use]
    pub fn is_rechecked(&self) -> bool {
        let wrapped = self.wrapped.as_ref();
        wrapped.is_some_and(|wrapped| wrapped.watch().is_rechecked())
    }

    /// When the master secret was last unwrapped, if it is a wrapped one.
    #[must_use]
    pub fn last_unwrap(&self) -> Option<Instant> {
        let wrapped = self.wrapped.as_ref()?;
        Some(wrapped.watch().last_unwrap())
    }

    /// Asks the KMS again where that is due, and does what follows. Blocks; one at a time.
    pub fn recheck(&self, now: Instant) -> Option<Rechecked> {
        let wrapped = self.wrapped.as_ref()?;
        if !wrapped.watch().is_due(now) {
            return None;
        }
        let start = Instant::now();
        let answered = wrapped.unwrap().map_err(Failure::while_running);
        let took = start.elapsed();
        let heard = answered.as_ref().map(drop).map_err(|failure| failure.class);
        // Held until it is done: two that have something to say do it one after the other.
        let mut watch = wrapped.watch();
        let verdict = watch.heard(heard, now.checked_add(took).unwrap_or(now));
        let failure = match answered {
            Ok(master) => {
                if verdict == Verdict::Resume {
                    self.resume(master);
                }
                None
            }
            Err(failure) => {
                if matches!(verdict, Verdict::Stop(_)) {
                    self.stop(failure.class.check(), failure.to_string());
                }
                Some(failure)
            }
        };
        Some(Rechecked {
            took,
            failure,
            verdict,
        })
    }

    /// Ends releases where a question to the KMS has no end, and says why. Does not wait for it.
    pub fn end_overdue(&self, now: Instant) -> Option<Failure> {
        let wrapped = self.wrapped.as_ref()?;
        let mut watch = wrapped.watch();
        if !watch.end_overdue(now) {
            return None;
        }
        let why = "it was asked, and neither an answer nor an error has come of it: do the files of [kms] answer?";
        let failure = Failure::new(Class::Away, why);
        self.stop(failure.class.check(), failure.to_string());
        Some(failure)
    }
}
