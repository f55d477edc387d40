// SPDX-License-Identifier: Apache-2.0
//! How long to wait between tries.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::Timeouts;
use crate::error::Result;
use crate::key::fill_random;

/// Pauses that grow, each cut by up to a half at random, so that a fleet does not come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn of(timeouts: Timeouts) -> Self {
        Self {
            next: timeouts.first_pause,
            longest: timeouts.longest_pause,
        }
    }

    /// Waits for at least `least`, as a service asked for; whether there was time for it before `until`.
    pub(super) fn wait(&mut self, least: Duration, until: Instant) -> Result<bool> {
        let mut random = [0; 1];
        fill_random(&mut random)?;
        let share = f64::from(u8::from_be_bytes(random)) / 512.0;
        let pause = least.saturating_add(self.next.mul_f64(1.0 - share));
        self.next = self.next.saturating_mul(2).min(self.longest);
        if pause >= until.saturating_duration_since(Instant::now()) {
            return Ok(false);
        }
        thread::sleep(pause);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::later;

    const TIMEOUTS: Timeouts = Timeouts {
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(100),
        ..Timeouts::USUAL
    };

    #[test]
    fn pauses_grow_and_are_cut_at_random() {
        let mut backoff = Backoff::of(TIMEOUTS);
        let start = Instant::now();
        let until = later(Duration::from_secs(60));
        for _ in 0..3 {
            assert!(backoff.wait(Duration::ZERO, until).unwrap());
        }
        // 20, 40 and 80 ms, each at least half of it.
        assert!(start.elapsed() >= Duration::from_millis(70));
        assert_eq!(backoff.next, Duration::from_millis(100));
        assert!(!backoff.wait(Duration::ZERO, Instant::now()).unwrap());
    }

    #[test]
    fn a_pause_is_as_long_as_the_service_asked_for_unless_the_deadline_comes_first() {
        let mut backoff = Backoff::of(TIMEOUTS);
        let start = Instant::now();
        let least = Duration::from_millis(200);
        assert!(!backoff.wait(least, start + least).unwrap());
        assert!(start.elapsed() < least);
        assert!(backoff.wait(least, later(Duration::from_secs(60))).unwrap());
        assert!(start.elapsed() > least);
    }
}
