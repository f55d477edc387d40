// SPDX-License-Identifier: Apache-2.0
//! The KMS asked again while the service runs, and what that does to the master secret.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::keys::Keys;
use crate::keyservice::kms::Failure;
use crate::keyservice::kms::watch::{Verdict, Watch};

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
    /// The KMS that is asked again from time to time, with its key, where there is one.
    #[must_use]
    pub fn kms(&self) -> Option<String> {
        self.wrapped.as_ref().map(|wrapped| wrapped.kms.to_string())
    }

    /// When the master secret was last unwrapped, if it is a wrapped one.
    #[must_use]
    pub fn last_unwrap(&self) -> Option<Instant> {
        let wrapped = self.wrapped.as_ref()?;
        let watch = wrapped.watch.lock().unwrap_or_else(PoisonError::into_inner);
        Some(watch.last_unwrap())
    }

    /// Asks the KMS again where that is due, and does what follows. Blocks; one at a time.
    pub fn recheck(&self, now: Instant) -> Option<Rechecked> {
        let wrapped = self.wrapped.as_ref()?;
        let is_due = |watch: &Mutex<Watch>| {
            let watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.is_due(now)
        };
        if !is_due(&wrapped.watch) {
            return None;
        }
        let start = Instant::now();
        let answered = wrapped.unwrap();
        let took = start.elapsed();
        let heard = answered.as_ref().map(drop).map_err(|failure| failure.class);
        let verdict = wrapped
            .watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .heard(heard, now.checked_add(took).unwrap_or(now));
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
}
