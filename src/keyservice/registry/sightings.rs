// SPDX-License-Identifier: Apache-2.0
//! When nodes were seen last and what was wrong with them, gathered and written now and then: a boot storm costs one
//! write a second instead of one a node.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use log::warn;

use crate::error::Result;
use crate::keyservice::registry;
use crate::keyservice::registry::{NODES, NodeEntry};
use crate::keyservice::store::Store;
use crate::protocol::admin::{Denial, ToldFailure};

/// How often what was gathered is written. What is lost with a crash is lost from the list of nodes only: registrations
/// and records are written at once.
pub const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// What is not in the store yet.
#[derive(Debug, Default)]
pub struct Sightings {
    pending: Mutex<HashMap<String, Note>>,
}

#[derive(Clone, Debug, Default)]
struct Note {
    seen: Option<NodeEntry>,
    denial: Option<Denial>,
}

impl Sightings {
    /// A node was admitted.
    pub fn seen(&self, ek: &str, entry: NodeEntry) {
        self.with(ek, |note| note.seen = Some(entry));
    }

    /// A node that proved its TPM was denied.
    pub fn denied(&self, ek: &str, denial: Denial) {
        self.with(ek, |note| note.denial = Some(denial));
    }

    fn with(&self, ek: &str, change: impl FnOnce(&mut Note)) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        change(pending.entry(ek.to_owned()).or_default());
    }

    /// Writes what was gathered. A node that is not registered stays so; one that was changed meanwhile is left to the
    /// next time it is seen.
    pub fn flush(&self, store: &Store) -> Result<()> {
        let pending = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *pending)
        };
        let (keys, notes): (Vec<String>, Vec<Note>) = pending
            .into_iter()
            .map(|(ek, note)| (format!("{NODES}{ek}"), note))
            .unzip();
        let mut changes = Vec::with_capacity(notes.len());
        for (old, note) in store.get_all(&keys)?.into_iter().zip(notes) {
            let Some(old) = old else { continue };
            // One that cannot be read is no trouble of the others.
            let mut entry: NodeEntry = match registry::parse(&old) {
                Ok(entry) => entry,
                Err(error) => {
                    warn!("{error}");
                    continue;
                }
            };
            if let Some(seen) = note.seen {
                entry = NodeEntry {
                    first_seen_s: entry.first_seen_s,
                    denial: entry.denial,
                    failure: ToldFailure::after(entry.failure, seen.failure.clone()),
                    ..seen
                };
            }
            if note.denial.is_some() {
                entry.denial = note.denial;
            }
            changes.push((old, registry::text(&entry)?));
        }
        if !changes.is_empty() {
            store.swap(&changes)?;
        }
        Ok(())
    }
}
