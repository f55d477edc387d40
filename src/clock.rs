// SPDX-License-Identifier: Apache-2.0
//! The clock that systemd's event log and the boot record share.

use nix::time::{ClockId, clock_gettime};

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
