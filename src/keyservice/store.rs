// SPDX-License-Identifier: Apache-2.0
//! What the service remembers: values by key, changed in two ways only, so that any number of replicas may share them.
//!
//! A key that is absent can be created, and a value that was read can be swapped or removed as long as nobody changed it
//! since. There is no other write. Calls block; they belong on threads that may.
//!
//! **Never:** a blind write, or a lock that a replica could die with.

pub(crate) mod batch;
pub mod etcd;
mod etcd_json;
pub mod sqlite;

use super::config::StoreAt;
use crate::error::Result;

/// A value, as it was when it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What it is filed under: a kind, a slash, a name.
    pub key: String,
    /// JSON.
    pub value: Vec<u8>,
    /// Different after each change, whatever happened in between.
    pub revision: i64,
}

/// Where it is remembered.
#[derive(Debug)]
pub enum Store {
    /// In a database of this machine.
    Sqlite(sqlite::Sqlite),
    /// In a cluster of etcd.
    Etcd(etcd::Etcd),
}

impl Store {
    /// Opens the store, and makes it on the first start.
    pub fn open(at: &StoreAt) -> Result<Self> {
        match at {
            StoreAt::Sqlite(path) => sqlite::Sqlite::open(path.as_path()).map(Self::Sqlite),
            StoreAt::Etcd(at) => etcd::Etcd::open(at).map(Self::Etcd),
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Result<Option<Entry>> {
        match self {
            Self::Sqlite(store) => store.get(key),
            Self::Etcd(store) => store.get(key),
        }
    }

    /// The values of `keys`, in the same order.
    pub fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        match self {
            Self::Sqlite(store) => store.get_all(keys),
            Self::Etcd(store) => store.get_all(keys),
        }
    }

    /// Creates each of `new`, a key and a value, that is absent. Each is decided by itself. The answers are in the same
    /// order: nothing where the value was created, else what is there.
    ///
    /// What was created is on the disk when this returns.
    pub fn create(&self, new: &[(String, Vec<u8>)]) -> Result<Vec<Option<Entry>>> {
        match self {
            Self::Sqlite(store) => store.create(new),
            Self::Etcd(store) => store.create(new),
        }
    }

    /// Replaces each of `old` by the value beside it unless it has changed since it was read. Each is decided by itself.
    /// The answers are in the same order: whether it was replaced.
    pub fn swap(&self, changes: &[(Entry, Vec<u8>)]) -> Result<Vec<bool>> {
        match self {
            Self::Sqlite(store) => store.swap(changes),
            Self::Etcd(store) => store.swap(changes),
        }
    }

    /// Removes `old` unless it has changed since it was read.
    pub fn remove(&self, old: &Entry) -> Result<bool> {
        match self {
            Self::Sqlite(store) => store.remove(old),
            Self::Etcd(store) => store.remove(old),
        }
    }

    /// At most `limit` entries in the order of their keys, which start with `prefix` and come after `after`, a key or
    /// nothing.
    pub fn list(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Entry>> {
        match self {
            Self::Sqlite(store) => store.list(prefix, after, limit),
            Self::Etcd(store) => store.list(prefix, after, limit),
        }
    }
}

#[cfg(test)]
mod tests;
