// SPDX-License-Identifier: Apache-2.0
//! How many connections each has open: an address, until a machine has shown on one which endorsement key it has. From then on
//! that connection is its own, so that many machines behind one address are not one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::keyservice::limits::peer_prefix;

/// Whose a connection is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Holder {
    Address(IpAddr),
    /// By the id of its endorsement key.
    Machine(String),
}

/// How many connections each has open. There are no more of them than connections.
#[derive(Debug)]
pub(super) struct PeerConnections {
    each_max: u32,
    open: Mutex<HashMap<Holder, u32>>,
}

impl PeerConnections {
    pub(super) fn new(each_max: u32) -> Self {
        Self {
            each_max,
            open: Mutex::default(),
        }
    }

    /// Another connection of an address, unless it has as many as it may.
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr) -> Option<PeerSlot> {
        let holder = Holder::Address(peer_prefix(from));
        self.add(&holder).then(|| PeerSlot {
            holder: Mutex::new(holder),
            peers: Arc::clone(self),
        })
    }

    fn add(&self, holder: &Holder) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(holder).map_or(1, |count| count.saturating_add(1));
        if count > self.each_max {
            return false;
        }
        open.insert(holder.clone(), count);
        true
    }

    fn remove(&self, holder: &Holder) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(holder) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            Some(_) | None => drop(open.remove(holder)),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct PeerSlot {
    holder: Mutex<Holder>,
    peers: Arc<PeerConnections>,
}

impl PeerSlot {
    /// The machine with this endorsement key has shown itself here. Where it has as many connections as it may, this one stays
    /// with its address.
    pub(super) fn is_of(&self, ek: &str) {
        let machine = Holder::Machine(ek.to_owned());
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if *holder != machine && self.peers.add(&machine) {
            self.peers.remove(&holder);
            *holder = machine;
        }
    }
}

impl Drop for PeerSlot {
    fn drop(&mut self) {
        let holder = self
            .holder
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        self.peers.remove(holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_a_machine_that_has_shown_itself_is_not_its_addresses() {
        let peers = Arc::new(PeerConnections::new(2));
        let address = IpAddr::V4(1.into());
        let (one, two) = (peers.admit(address).unwrap(), peers.admit(address).unwrap());
        assert!(peers.admit(address).is_none());
        one.is_of("a");
        // Only once, however often it shows itself.
        one.is_of("a");
        let three = peers.admit(address).unwrap();
        assert!(peers.admit(address).is_none());
        // A machine has no more of them than an address may.
        two.is_of("a");
        three.is_of("a");
        let four = peers.admit(address).unwrap();
        assert!(peers.admit(address).is_none());
        drop((one, two, three, four));
        assert!(peers.open.lock().unwrap().is_empty());
    }
}
