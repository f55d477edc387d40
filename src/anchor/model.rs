// SPDX-License-Identifier: Apache-2.0
//! A model of a node with one volume: two header copies, the disk's content behind them, and the TPM's NV memory, driven by
//! the real decisions of `judge` and the real encoding of `record`.
//!
//! Every boot is a list of writes. The model cuts the power before each of them, in the middle of each of those to the disk,
//! and in every boot that follows, and puts back every disk there ever was. Asserted: a node always comes up again with its
//! own disk; a volume that was finished is never formatted; no disk from before the last boot is opened.

use std::collections::HashSet;

use uuid::Uuid;

use super::judge::{self, Proven, Seen};
use super::record::{Entry, Record, State};
use crate::config::{Level, VolumeName};
use crate::key::{KEY_LEN, Secret};

/// A header copy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Slot {
    Zero,
    /// Half written: its checksum is wrong.
    Torn,
    /// Authenticated with the key of this number.
    Header {
        uuid: u8,
        key: u8,
        epoch: u64,
    },
}

/// All the host stores.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Disk {
    primary: Slot,
    secondary: Slot,
    /// The provisioning marker: the UUID of the volume being made.
    marker: Option<u8>,
    /// Keyslots and file system, of the volume with this key, complete.
    content: Option<u8>,
}

/// What the host cannot touch.
#[derive(Clone, Eq, Hash, PartialEq)]
struct Nv {
    record: Option<Vec<u8>>,
    counter: u64,
}

impl std::fmt::Debug for Nv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "counter {}, {:?}", self.counter, self.entry())
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Node {
    disk: Disk,
    nv: Nv,
    /// The number of the next UUID and key.
    fresh: u8,
}

/// One write, after which the power may go.
#[derive(Clone, Debug)]
enum Write {
    Nv(Entry),
    Count,
    Primary(Slot),
    Secondary(Slot),
    Marker(Option<u8>),
    Content(u8),
}

const BLANK: Disk = Disk {
    primary: Slot::Zero,
    secondary: Slot::Zero,
    marker: None,
    content: None,
};

fn auth() -> Secret {
    Secret::new(vec![1; KEY_LEN])
}

fn name() -> VolumeName {
    VolumeName::try_from("state".to_owned()).unwrap()
}

fn long(uuid: u8) -> Uuid {
    Uuid::from_bytes([uuid; 16])
}

fn entry(uuid: u8, key: u8, state: State, level: Level) -> Entry {
    Entry {
        name: name(),
        uuid: long(uuid),
        key_id: [key; KEY_LEN],
        state,
        level,
        acceptance: None,
        checkpoint: None,
    }
}

impl Nv {
    fn entry(&self) -> Option<Entry> {
        let (record, _) = Record::parse(self.record.as_ref()?).unwrap();
        record.get(&name()).cloned()
    }
}

impl Node {
    fn new() -> Self {
        let nv = Nv {
            record: None,
            counter: 1,
        };
        Self {
            disk: BLANK,
            nv,
            fresh: 1,
        }
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Nv(entry) => {
                let mut record = Record::default();
                record.set(entry.clone()).unwrap();
                self.nv.record = Some(record.encode(&auth()).to_vec());
            }
            Write::Count => self.nv.counter += 1,
            Write::Primary(slot) => self.disk.primary = *slot,
            Write::Secondary(slot) => self.disk.secondary = *slot,
            Write::Marker(marker) => self.disk.marker = *marker,
            Write::Content(key) => self.disk.content = Some(*key),
        }
    }

    /// The write cut in the middle, where it can be.
    fn tear(&mut self, write: &Write) {
        match write {
            Write::Primary(_) => self.disk.primary = Slot::Torn,
            Write::Secondary(_) => self.disk.secondary = Slot::Torn,
            Write::Nv(_) | Write::Count | Write::Marker(_) | Write::Content(_) => {}
        }
    }

    /// What `Area::classify` makes of the disk.
    fn seen(&self) -> Result<Seen, String> {
        let Disk {
            primary,
            secondary,
            marker,
            ..
        } = self.disk;
        match (marker, primary, secondary) {
            (Some(uuid), ..) => Ok(Seen::Interrupted(long(uuid))),
            (None, Slot::Zero, Slot::Zero) => Ok(Seen::Blank),
            (None, Slot::Header { .. }, _) | (None, _, Slot::Header { .. }) => Ok(Seen::Volume),
            (None, ..) => Err("no copy of the header is valid".into()),
        }
    }

    /// What unlocking proves: of the copies that this content's key authenticates, the one with the highest epoch.
    fn proven(&self) -> Result<Proven, String> {
        let epoch_of = |slot: Slot| match slot {
            Slot::Header { uuid, key, epoch } if self.disk.content == Some(key) => {
                Some((epoch, uuid, key))
            }
            Slot::Header { .. } | Slot::Zero | Slot::Torn => None,
        };
        let best = [self.disk.primary, self.disk.secondary]
            .into_iter()
            .filter_map(epoch_of)
            .max();
        let (epoch, uuid, key) = best.ok_or("the header's MAC is wrong")?;
        Ok(Proven {
            uuid: long(uuid),
            key_id: [key; KEY_LEN],
            epoch,
        })
    }

    fn is_proven(slot: Slot, proven: &Proven) -> bool {
        matches!(slot, Slot::Header { key, epoch, .. } if proven.key_id[0] == key && proven.epoch == epoch)
    }

    /// The writes of one boot, or why there are none.
    fn boot(&self, level: Level) -> Result<Vec<Write>, String> {
        let entry_now = self.nv.entry();
        let seen = self.seen()?;
        let counter = self.nv.counter;
        judge::permit(entry_now.as_ref(), counter, seen).map_err(|error| error.to_string())?;
        let counts = level >= Level::Epoch;
        let epoch = counter + u64::from(counts);
        let count = counts.then_some(Write::Count);
        match seen {
            Seen::Volume => {
                let proven = self.proven()?;
                let old = entry_now.unwrap();
                judge::verify(&old, counter, level, &proven).map_err(|error| error.to_string())?;
                let (uuid, key) = (proven.uuid.as_bytes()[0], proven.key_id[0]);
                let slot = Slot::Header { uuid, key, epoch };
                // Never first the only copy that is good: `Candidate::copies` in src/header/copies.rs has the same order.
                let mut renew = [Write::Secondary(slot), Write::Primary(slot)];
                if !Self::is_proven(self.disk.primary, &proven) {
                    renew.reverse();
                }
                let new = entry(uuid, key, State::Ready, level);
                let settle = (new != old).then_some(Write::Nv(new));
                Ok(renew
                    .into_iter()
                    .filter(|_| counts)
                    .chain(count)
                    .chain(settle)
                    .collect())
            }
            Seen::Blank | Seen::Interrupted(_) => {
                let key = self.fresh;
                let uuid = self.disk.marker.unwrap_or(self.fresh);
                let slot = Slot::Header { uuid, key, epoch };
                let provisioning = Write::Nv(entry(uuid, key, State::Provisioning, level));
                let make = [
                    Write::Marker(Some(uuid)),
                    Write::Content(key),
                    Write::Primary(slot),
                    Write::Secondary(slot),
                    Write::Marker(None),
                    Write::Nv(entry(uuid, key, State::Ready, level)),
                ];
                Ok([provisioning]
                    .into_iter()
                    .chain(count)
                    .chain(make)
                    .collect())
            }
        }
    }

    /// Boots and stops before write number `cut`; `torn` cuts it in the middle instead. `None` if the boot has fewer.
    fn boot_until(&self, level: Level, cut: usize, torn: bool) -> Result<Option<Self>, String> {
        let writes = self.boot(level)?;
        let Some(next) = writes.get(cut) else {
            return Ok(None);
        };
        let mut node = self.clone();
        node.fresh += 1;
        writes.iter().take(cut).for_each(|write| node.apply(write));
        if torn {
            node.tear(next);
        }
        Ok(Some(node))
    }

    fn booted(&self, level: Level) -> Result<Self, String> {
        let mut node = self.clone();
        node.fresh += 1;
        self.boot(level)?.iter().for_each(|write| node.apply(write));
        Ok(node)
    }
}

/// Every state that up to `depth` power cuts, in as many boots one after the other, can leave.
fn crashed(start: &Node, level: Level, depth: usize) -> HashSet<Node> {
    let mut all = HashSet::from([start.clone()]);
    let mut last = all.clone();
    for _ in 0..depth {
        let mut next = HashSet::new();
        for node in &last {
            for torn in [false, true] {
                for cut in 0.. {
                    let after = node.boot_until(level, cut, torn);
                    match after.unwrap_or_else(|why| panic!("{node:?} does not boot: {why}")) {
                        Some(after) => next.insert(after),
                        None => break,
                    };
                }
            }
        }
        all.extend(next.iter().cloned());
        last = next;
    }
    all
}

const LEVELS: [Level; 3] = [Level::Identity, Level::Epoch, Level::Checkpoint];

#[test]
fn whatever_the_power_cuts_the_next_boot_reaches_the_same_end() {
    let mut states = 0;
    for level in LEVELS {
        for node in crashed(&Node::new(), level, 4) {
            states += 1;
            let up = node
                .booted(level)
                .unwrap_or_else(|why| panic!("{node:?}: {why}"));
            assert_eq!(up.disk.marker, None);
            assert_eq!(up.disk.primary, up.disk.secondary, "{node:?}");
            assert_eq!(up.nv.entry().unwrap().state, State::Ready);
            assert_eq!(up.seen(), Ok(Seen::Volume));
            assert_eq!(up.proven().unwrap().key_id, up.nv.entry().unwrap().key_id);
        }
    }
    assert!(states > 500, "only {states} states were reached");
}

#[test]
fn a_volume_that_was_finished_is_never_formatted() {
    for level in LEVELS {
        let ready = Node::new().booted(level).unwrap();
        let key = ready.disk.content;
        for node in crashed(&ready, level, 4) {
            let up = node.booted(level).unwrap();
            assert_eq!(up.disk.content, key, "{node:?}");
        }
        let swapped = Node {
            disk: BLANK,
            ..ready.clone()
        };
        let why = swapped.boot(level).unwrap_err();
        assert!(why.contains("the device is blank"), "{why}");
    }
}

#[test]
fn no_disk_from_before_the_last_boot_is_opened() {
    for level in [Level::Epoch, Level::Checkpoint] {
        let first = Node::new().booted(level).unwrap();
        let second = first.booted(level).unwrap();
        let mut refused = 0;
        // Every disk of the time before, whole or with one copy of today's header, at every instant of today.
        for old in crashed(&first, level, 3).into_iter().map(|node| node.disk) {
            for now in crashed(&second, level, 3) {
                let mixes = [
                    old,
                    Disk {
                        primary: now.disk.primary,
                        ..old
                    },
                    Disk {
                        secondary: now.disk.secondary,
                        ..old
                    },
                ];
                for disk in mixes.into_iter().filter(|disk| *disk != now.disk) {
                    let fresh = [disk.primary, disk.secondary]
                        .iter()
                        .any(|slot| matches!(slot, Slot::Header { epoch, .. } if *epoch >= now.nv.counter));
                    let put_back = Node {
                        disk,
                        ..now.clone()
                    };
                    let done = put_back.boot(level);
                    assert_eq!(done.is_ok(), fresh, "{put_back:?}");
                    refused += usize::from(done.is_err());
                }
            }
        }
        assert!(refused > 100, "only {refused} were refused");
    }
}

/// The limit of level `identity`, and of every level within one boot: said, not hidden.
#[test]
fn at_level_identity_an_old_disk_passes() {
    let first = Node::new().booted(Level::Identity).unwrap();
    let second = first.booted(Level::Identity).unwrap();
    let put_back = Node {
        disk: first.disk,
        ..second
    };
    put_back.boot(Level::Identity).unwrap();
}

#[test]
fn a_volume_of_another_key_is_refused_at_every_level() {
    for level in LEVELS {
        let node = Node::new().booted(level).unwrap();
        let slot = Slot::Header {
            uuid: 1,
            key: 99,
            epoch: node.nv.counter,
        };
        let disk = Disk {
            primary: slot,
            secondary: slot,
            marker: None,
            content: Some(99),
        };
        let why = Node {
            disk,
            ..node.clone()
        }
        .boot(level)
        .unwrap_err();
        assert!(why.starts_with("rule D15"), "{why}");
        node.boot(level).unwrap();
    }
}

/// A TPM whose memory the host can put back as well is outside of what this can see.
#[test]
fn a_tpm_put_back_with_its_disk_passes() {
    let first = Node::new().booted(Level::Epoch).unwrap();
    let second = first.booted(Level::Epoch).unwrap();
    assert_ne!(first, second);
    first.boot(Level::Epoch).unwrap();
}

/// A boot at a lower level does not count, and the next one at a higher level takes that into account.
#[test]
fn levels_can_be_changed_between_boots() {
    for before in LEVELS {
        for after in LEVELS {
            let node = Node::new().booted(before).unwrap().booted(before).unwrap();
            for node in crashed(&node, after, 2) {
                let up = node
                    .booted(after)
                    .unwrap_or_else(|why| panic!("{before:?} {after:?}: {why}"));
                assert_eq!(up.nv.entry().unwrap().level, after);
                up.booted(before)
                    .unwrap_or_else(|why| panic!("{before:?} {after:?}: {why}"));
            }
        }
    }
}
