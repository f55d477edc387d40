// SPDX-License-Identifier: Apache-2.0
//! How often somebody may ask.
//!
//! [`RateLimiter`] says when to come back, [`audit_quota`] how much of the log somebody may fill who has proven nothing.
//!
//! **Never:** memory that grows with those who ask.

pub mod audit_quota;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whom the service keeps count of at most, so that counting does not fill the memory. All those beyond it are one.
const COUNTED_MAX: usize = 1 << 16;

/// A rate for each of many, each of whom may use a whole period's worth at once. It is the generic cell rate algorithm
/// (ITU-T I.371, annex A): what is kept is when the next request would be due at that rate.
#[derive(Debug)]
pub struct RateLimiter<K> {
    interval: Duration,
    period: Duration,
    table: Mutex<Table<K>>,
}

/// When the next request of each would be due, and of all who found no place.
#[derive(Debug)]
struct Table<K> {
    due: HashMap<Option<K>, Instant>,
    /// When it is worth looking again for those who have nothing due.
    tidy_at: Option<Instant>,
}

impl<K: Eq + Hash> RateLimiter<K> {
    /// `count` in each `period`.
    #[must_use]
    pub fn new(count: NonZeroU32, period: Duration) -> Self {
        Self {
            interval: period.checked_div(count.get()).unwrap_or(period),
            period,
            table: Mutex::new(Table {
                due: HashMap::new(),
                tidy_at: None,
            }),
        }
    }

    /// Counts a request of `key`; an error is how long to wait before the next one.
    pub fn check(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key = table.place(key, now, self.period);
        let due = &mut table.due;
        let start = due.get(&key).map_or(now, |at| now.max(*at));
        let next = start.checked_add(self.interval).unwrap_or(start);
        let ahead = next.saturating_duration_since(now);
        if ahead > self.period {
            return Err(ahead.saturating_sub(self.period));
        }
        due.insert(key, next);
        Ok(())
    }
}

impl<K: Eq + Hash> Table<K> {
    /// What `key` is counted under: itself, or where there is no room nothing, which stands for all others.
    fn place(&mut self, key: K, now: Instant, period: Duration) -> Option<K> {
        let key = Some(key);
        if self.due.len() < COUNTED_MAX || self.due.contains_key(&key) {
            return key;
        }
        if self.tidy_at.is_none_or(|at| at <= now) {
            // Whoever has nothing due is like one who never asked.
            self.due.retain(|_, at| *at > now);
            // Not for each of many who come while there is no room.
            self.tidy_at = now.checked_add(period);
        }
        key.filter(|_| self.due.len() < COUNTED_MAX)
    }
}

/// Whom an address stands for: one machine, or with IPv6 a network of 64 bits, any address of which is one machine's to
/// choose.
#[must_use]
pub fn peer_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32) -> RateLimiter<u32> {
        RateLimiter::new(NonZeroU32::new(count).unwrap(), Duration::from_secs(1))
    }

    #[test]
    fn each_has_a_period_at_once_and_then_the_rate() {
        let (rate, start) = (rate(10), Instant::now());
        for _ in 0..10 {
            rate.check(1, start).unwrap();
        }
        let wait = rate.check(1, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        rate.check(2, start).unwrap();
        rate.check(1, start + wait).unwrap();
        rate.check(1, start + wait).unwrap_err();
        for _ in 0..10 {
            rate.check(1, start + Duration::from_secs(9)).unwrap();
        }
        rate.check(1, start + Duration::from_secs(9)).unwrap_err();
    }

    #[test]
    fn those_who_asked_long_ago_are_forgotten() {
        let (rate, start) = (rate(10), Instant::now());
        let many = u32::try_from(COUNTED_MAX).unwrap();
        for key in 0..many + 10 {
            rate.check(key, start).unwrap();
        }
        // All who found no place are one, and those who have one are as before.
        assert_eq!(rate.table.lock().unwrap().due.len(), COUNTED_MAX + 1);
        rate.check(many + 10, start).unwrap_err();
        rate.check(0, start).unwrap();
        rate.check(many, start + Duration::from_secs(2)).unwrap();
        assert_eq!(rate.table.lock().unwrap().due.len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            peer_prefix(address("2001:db8:1:2:3::4")),
            peer_prefix(address("2001:db8:1:2::9"))
        );
        assert_ne!(
            peer_prefix(address("2001:db8:1:2::9")),
            peer_prefix(address("2001:db8:1:3::9"))
        );
        assert_eq!(
            peer_prefix(address("::ffff:192.0.2.1")),
            address("192.0.2.1")
        );
        assert_ne!(
            peer_prefix(address("192.0.2.1")),
            peer_prefix(address("192.0.2.2"))
        );
    }
}
