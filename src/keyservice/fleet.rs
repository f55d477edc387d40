// SPDX-License-Identifier: Apache-2.0
//! What is remembered of nodes and volumes, for operators, and what they make the service forget.
//!
//! Lists come in pages. What is forgotten belongs to the next node that asks for it: [`forget_node`], [`forget_volume`].
//!
//! **Never:** a change before its line is in the audit log.

pub(crate) mod readmit;
pub(crate) mod recent;
pub(crate) mod rollback;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::keyservice::audit::{self, Line, now_s};
use crate::keyservice::registry::{NODES, NodeEntry, VOLUMES, VolumeEntry, parse};
use crate::keyservice::state::Service;
use crate::keyservice::store::{Entry, Store};
use crate::keyservice::volume_id::VolumeId;
use crate::protocol::admin::{Forgotten, Node, PAGE_MAX, Page, Volume, is_ek};

/// How old what the page shows may be: however many look at it, the store is not read more often.
const FRESH: Duration = Duration::from_secs(5);

/// How many nodes the page lists.
const NEWEST_MAX: usize = 50;

/// How often forgetting is tried again because a node changes what is to be forgotten.
const TRIES_MAX: usize = 16;

/// A part of the nodes.
pub(crate) fn nodes(store: &Store, after: &str, limit: u32) -> Result<Page<Node>> {
    let entries = store.list(NODES, &format!("{NODES}{after}"), limit)?;
    page(&entries, limit, node_of, |node| node.ek.clone())
}

/// A part of the volumes.
pub(crate) fn volumes(store: &Store, after: &str, limit: u32) -> Result<Page<Volume>> {
    let entries = store.list(VOLUMES, &format!("{VOLUMES}{after}"), limit)?;
    page(&entries, limit, volume_of, |volume| volume.uuid.clone())
}

fn page<T>(
    entries: &[Entry],
    limit: u32,
    item: impl Fn(&Entry) -> Result<T>,
    name: impl Fn(&T) -> String,
) -> Result<Page<T>> {
    let items = entries.iter().map(item).collect::<Result<Vec<T>>>()?;
    let is_full = u32::try_from(items.len()).is_ok_and(|count| count >= limit.max(1));
    let next = items.last().filter(|_| is_full).map(name);
    Ok(Page { items, next })
}

/// One node with its volumes.
pub(crate) fn node(store: &Store, ek: &str) -> Result<Node> {
    let entry = find_node(store, ek)?;
    let mut node = node_of(&entry)?;
    each(store, VOLUMES, |entry| {
        let volume = volume_of(entry)?;
        if volume.ek == ek {
            node.volumes.push(volume);
        }
        Ok(())
    })?;
    Ok(node)
}

/// One volume.
pub(crate) fn volume(store: &Store, uuid: &str) -> Result<Volume> {
    volume_of(&find_volume(store, uuid)?)
}

fn find_node(store: &Store, ek: &str) -> Result<Entry> {
    let found = if is_ek(ek) {
        store.get(&format!("{NODES}{ek}"))?
    } else {
        None
    };
    found.ok_or_else(|| Error::refused(format_args!("no node has endorsement key {ek}")))
}

fn find_volume(store: &Store, uuid: &str) -> Result<Entry> {
    let found = match VolumeId::parse(uuid) {
        Some(id) => store.get(&format!("{VOLUMES}{id}"))?,
        None => None,
    };
    found.ok_or_else(|| gone(uuid))
}

pub(crate) fn gone(uuid: &str) -> Error {
    Error::refused(format_args!("no volume {uuid} is registered"))
}

fn node_of(entry: &Entry) -> Result<Node> {
    let node: NodeEntry = parse(entry)?;
    Ok(Node {
        ek: name(entry, NODES),
        first_seen_s: node.first_seen_s,
        last_seen_s: node.last_seen_s,
        image: node.image,
        address: node.address,
        denial: node.denial,
        failure: node.failure,
        volumes: Vec::new(),
    })
}

fn volume_of(entry: &Entry) -> Result<Volume> {
    let volume: VolumeEntry = parse(entry)?;
    Ok(Volume {
        uuid: name(entry, VOLUMES),
        ek: volume.ek,
        role: volume.role,
        registered_s: volume.registered_s,
        record: volume.record,
        own_secret: volume.own_secret,
        accepted: volume.accepted,
        readmission: volume.readmission,
        rollback: volume.rollback,
    })
}

fn name(entry: &Entry, prefix: &str) -> String {
    entry
        .key
        .strip_prefix(prefix)
        .unwrap_or_default()
        .to_owned()
}

/// Does `work` with all entries whose keys start with `prefix`.
fn each(store: &Store, prefix: &str, mut work: impl FnMut(&Entry) -> Result<()>) -> Result<()> {
    let mut after = String::new();
    loop {
        let entries = store.list(prefix, &after, PAGE_MAX)?;
        entries.iter().try_for_each(&mut work)?;
        match entries.last() {
            Some(last) => last.key.clone_into(&mut after),
            None => return Ok(()),
        }
    }
}

/// Who makes the service forget, or do something else.
#[derive(Debug)]
pub(crate) struct Actor {
    /// Their certificate.
    pub(crate) operator: String,
    /// Their address.
    pub(crate) peer: String,
}

/// Forgets a node and all its volumes, whose UUIDs belong to the next node that asks for them.
pub(crate) fn forget_node(service: &Service, by: &Actor, ek: &str) -> Result<Forgotten> {
    let node = node(&service.store, ek)?;
    let forgotten = Forgotten {
        ek: node.ek,
        volumes: node.volumes.into_iter().map(|volume| volume.uuid).collect(),
    };
    record_audit(service, by, "forget", &forgotten.ek, &forgotten.volumes)?;
    // The node goes last: until then it can be asked for again.
    for uuid in &forgotten.volumes {
        remove(&service.store, &format!("{VOLUMES}{uuid}"))?;
    }
    remove(&service.store, &format!("{NODES}{ek}"))?;
    Ok(forgotten)
}

/// Forgets one volume, whose UUID belongs to the next node that asks for it.
pub(crate) fn forget_volume(service: &Service, by: &Actor, uuid: &str) -> Result<Forgotten> {
    let volume = volume(&service.store, uuid)?;
    let forgotten = Forgotten {
        ek: volume.ek,
        volumes: vec![volume.uuid],
    };
    record_audit(service, by, "forget", &forgotten.ek, &forgotten.volumes)?;
    remove(&service.store, &format!("{VOLUMES}{uuid}"))?;
    Ok(forgotten)
}

/// A volume, once the audit log has what an operator does with it.
pub(crate) fn told(
    service: &Service,
    by: &Actor,
    uuid: &str,
    event: &'static str,
) -> Result<VolumeId> {
    let volume = volume(&service.store, uuid)?;
    let id = VolumeId::parse(&volume.uuid).ok_or_else(|| gone(uuid))?;
    record_audit(service, by, event, &volume.ek, &[volume.uuid])?;
    Ok(id)
}

/// Before it happens: an operator changes nothing without a trace.
pub(crate) fn record_audit(
    service: &Service,
    by: &Actor,
    event: &'static str,
    ek: &str,
    volumes: &[String],
) -> Result<()> {
    service.audit.add(&Line {
        time: audit::time(now_s()),
        event,
        step: "admin",
        peer: by.peer.clone(),
        ek: Some(ek),
        volumes,
        operator: Some(&by.operator),
        ..Line::default()
    })
}

fn remove(store: &Store, key: &str) -> Result<()> {
    for _ in 0..TRIES_MAX {
        match store.get(key)? {
            None => return Ok(()),
            Some(entry) if store.remove(&entry)? => return Ok(()),
            Some(_) => {}
        }
    }
    Err(Error::temporary(format_args!("{key} changes all the time")))
}

/// What the page shows.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// How many nodes there are.
    pub(crate) nodes: usize,
    /// How many of them were admitted within the last day.
    pub(crate) booted_today: usize,
    /// How many of them tried again after that, and were denied.
    pub(crate) denied: usize,
    /// How many volumes there are.
    pub(crate) volumes: usize,
    /// How many of them have a secret that their node made itself.
    pub(crate) own_secrets: usize,
    /// Those that did something last, the latest first, with their volumes.
    pub(crate) newest: Vec<Node>,
}

impl Summary {
    fn read(store: &Store) -> Result<Self> {
        let day_ago_s = now_s().saturating_sub(24 * 60 * 60);
        let mut summary = Self::default();
        each(store, NODES, |entry| {
            let node = node_of(entry)?;
            summary.nodes = summary.nodes.saturating_add(1);
            let (today, denied) = (node.last_seen_s >= day_ago_s, node.is_denied());
            summary.booted_today = summary.booted_today.saturating_add(usize::from(today));
            summary.denied = summary.denied.saturating_add(usize::from(denied));
            summary.newest.push(node);
            if summary.newest.len() >= NEWEST_MAX.saturating_mul(8) {
                summary.keep_newest();
            }
            Ok(())
        })?;
        summary.keep_newest();
        let newest = summary.newest.iter_mut();
        let mut places: HashMap<String, &mut Node> =
            newest.map(|node| (node.ek.clone(), node)).collect();
        let (mut volumes, mut own_secrets) = (0_usize, 0_usize);
        each(store, VOLUMES, |entry| {
            let volume = volume_of(entry)?;
            volumes = volumes.saturating_add(1);
            own_secrets = own_secrets.saturating_add(usize::from(volume.own_secret));
            if let Some(node) = places.get_mut(&volume.ek) {
                node.volumes.push(volume);
            }
            Ok(())
        })?;
        summary.volumes = volumes;
        summary.own_secrets = own_secrets;
        Ok(summary)
    }

    fn keep_newest(&mut self) {
        let last_s = |node: &Node| {
            let denied_s = node.denial.as_ref().map_or(0, |denial| denial.at_s);
            node.last_seen_s.max(denied_s)
        };
        self.newest
            .sort_by_key(|node| std::cmp::Reverse(last_s(node)));
        self.newest.truncate(NEWEST_MAX);
    }
}

/// The last summary, for as long as it is fresh.
#[derive(Debug, Default)]
pub(crate) struct Cached(Mutex<Option<(Instant, Arc<Summary>)>>);

impl Cached {
    pub(crate) fn get(&self, store: &Store) -> Result<Arc<Summary>> {
        // Whoever comes while it is read waits for the same reading.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, summary)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(summary));
        }
        let summary = Arc::new(Summary::read(store)?);
        *last = Some((Instant::now(), Arc::clone(&summary)));
        Ok(summary)
    }
}
