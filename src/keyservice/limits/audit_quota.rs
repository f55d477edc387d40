// SPDX-License-Identifier: Apache-2.0
//! How many lines of the audit log somebody can cause who has proven nothing, so that nobody fills the disk with them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A period begins with a peer's first line. After [`LINES_MAX`] further ones are only counted until it ends.
pub const PERIOD: Duration = Duration::from_secs(60);
/// Lines of one peer in a period.
pub const LINES_MAX: u32 = 32;
/// Peers that are told apart at once; all others are one.
const PEERS_MAX: usize = 1024;

/// The lines of those who have proven nothing.
#[derive(Debug, Default)]
pub struct AuditQuota {
    peers: Mutex<HashMap<Option<IpAddr>, Usage>>,
}

#[derive(Debug)]
struct Usage {
    since: Instant,
    lines: u32,
    more: u64,
}

impl AuditQuota {
    /// Whether a line about `peer`, as [`crate::keyservice::limits::peer_prefix`] says it, may be written. It is counted otherwise.
    pub fn may(&self, peer: IpAddr, now: Instant) -> bool {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told_apart = peers.contains_key(&Some(peer)) || peers.len() < PEERS_MAX;
        let usage = peers.entry(is_told_apart.then_some(peer)).or_insert(Usage {
            since: now,
            lines: 0,
            more: 0,
        });
        if usage.lines < LINES_MAX {
            usage.lines = usage.lines.saturating_add(1);
            return true;
        }
        usage.more = usage.more.saturating_add(1);
        false
    }

    /// Ends the periods that are over, and says of whom how many lines were left out. No peer stands for all those that
    /// were not told apart.
    pub fn left_out(&self, now: Instant) -> Vec<(Option<IpAddr>, u64)> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let over =
            peers.extract_if(|_, usage| now.saturating_duration_since(usage.since) >= PERIOD);
        over.filter(|(_, usage)| usage.more > 0)
            .map(|(peer, usage)| (peer, usage.more))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_peer_has_some_lines_a_period_and_the_rest_is_counted() {
        let (lines, start) = (AuditQuota::default(), Instant::now());
        for _ in 0..LINES_MAX {
            assert!(lines.may(peer(1), start));
        }
        for _ in 0..7 {
            assert!(!lines.may(peer(1), start + PERIOD / 2));
        }
        assert!(lines.may(peer(2), start + PERIOD / 2));
        assert_eq!(lines.left_out(start + PERIOD / 2), []);
        assert_eq!(lines.left_out(start + PERIOD), [(Some(peer(1)), 7)]);
        assert!(lines.may(peer(1), start + PERIOD));
        assert_eq!(lines.left_out(start + PERIOD * 3), []);
    }

    #[test]
    fn of_too_many_peers_the_last_ones_are_one() {
        let (lines, start) = (AuditQuota::default(), Instant::now());
        let many = u32::try_from(PEERS_MAX).unwrap();
        for number in 0..many + LINES_MAX {
            assert!(lines.may(peer(number), start));
        }
        assert!(!lines.may(peer(many + LINES_MAX), start));
        assert!(lines.may(peer(0), start));
        assert_eq!(lines.left_out(start + PERIOD), [(None, 1)]);
        assert!(lines.may(peer(many + LINES_MAX), start));
    }
}
