// SPDX-License-Identifier: Apache-2.0
//! The clock that systemd's event log and the boot record share, and dates for people.
//!
//! **Never:** asked whether a key may be given: on a node the clock is the host's to set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use x509_cert::der::DateTime;

/// Microseconds of `CLOCK_BOOTTIME`; zero where the kernel has none.
#[must_use]
pub fn boottime_us() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .and_then(|now| {
            let seconds = u64::try_from(now.tv_sec()).ok()?;
            let micros = u64::try_from(now.tv_nsec()).ok()?.checked_div(1000)?;
            seconds.checked_mul(1_000_000)?.checked_add(micros)
        })
        .unwrap_or_default()
}

/// What the clock says, in seconds since 1970; zero where it says an earlier time.
#[must_use]
pub fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A time limit of a test that is so long on a quiet machine: longer where tests/boots/harness/calibration.py has found a
/// slower one, never shorter.
#[cfg(test)]
pub(crate) fn limit(quiet: Duration) -> Duration {
    let figure = std::env::var("NIGHTLATCH_PACE").map_or(1.0, |text| text.parse().unwrap());
    quiet.mul_f64(f64::max(1.0, figure))
}

/// A time in seconds since 1970 as RFC 3339 writes it.
#[must_use]
pub fn utc(at_s: u64) -> String {
    DateTime::from_unix_duration(Duration::from_secs(at_s))
        .map_or_else(|_| at_s.to_string(), |time| time.to_string())
}
