// SPDX-License-Identifier: Apache-2.0
//! What the model proves: a node always comes up again with its own disk; a volume that was finished is never formatted; no
//! disk from before the last boot, or from before the last checkpoint, is opened; and what the operator accepted holds until
//! one boot has succeeded, whatever the power does.

use std::collections::HashSet;

use super::*;

/// Every state that up to `depth` power cuts, in as many boots one after the other, can leave.
pub(super) fn crashed(start: &Node, level: Level, depth: usize) -> HashSet<Node> {
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

pub(super) const LEVELS: [Level; 3] = [Level::Identity, Level::Epoch, Level::Checkpoint];

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
            assert_eq!(up.seen(), Ok(DeviceState::Volume));
            let known = up.nv.entry().unwrap().key_id;
            assert!(known.is_of(&up.proven().unwrap().key_id));
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
        let mut refused = 0;
        // Every disk of the time before, whole or with one copy of today's header, at every instant of today. The boot in
        // between had the disk from before the one that was cut off or, where that one was counted, its own.
        for before in crashed(&first, level, 2) {
            let old = before.disk;
            let second = with_disk(&before, first.disk).booted(level);
            let second = second.or_else(|_| before.booted(level)).unwrap();
            for now in crashed(&second, level, 2) {
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
                    let put_back = Node {
                        disk,
                        ..now.clone()
                    };
                    // What may be opened is what has a header of today, which the program has taken for the newest one.
                    let taken = put_back.proven().ok().map(|proven| {
                        slot(proven.uuid.as_bytes()[0], proven.key_id[0], proven.stamp)
                    });
                    let today = [now.disk.primary, now.disk.secondary].map(Some);
                    let done = put_back.boot(level);
                    assert_eq!(done.is_ok(), today.contains(&taken), "{put_back:?}");
                    refused += usize::from(done.is_err());
                }
            }
        }
        assert!(refused > 100, "only {refused} were refused");
    }
}

/// What a boot that was cut off has left of a volume it made opens in the boot after it, and in none that follows: it is empty,
/// and the volume is not. The volume is the node's first one, or a new one that was accepted.
#[test]
fn what_a_boot_that_was_cut_off_has_left_of_a_new_volume_is_not_opened_once_that_has_been_open() {
    let level = Level::Epoch;
    let (mut made, _) = used(level);
    made.accept(Accepted::New);
    let even = Nv {
        counter: 2,
        ..Node::new().nv
    };
    let starts = [
        Node::new(),
        Node {
            nv: even,
            ..Node::new()
        },
        with_disk(&made, BLANK),
    ];
    for start in starts {
        let mut left = 0;
        for now in crashed(&start, level, 2) {
            if now.seen() != Ok(DeviceState::Volume) || now.disk == start.disk {
                continue;
            }
            left += 1;
            let up = now.booted(level).unwrap();
            assert_eq!(up.disk.content, now.disk.content);
            let again = with_disk(&up, now.disk).boot(level);
            assert!(again.is_err(), "{now:?}");
            up.boot(level).unwrap();
        }
        assert!(left > 2, "only {left} were left");
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
            nonce: node.nv.count().nonce,
        };
        let disk = Disk {
            primary: slot,
            secondary: slot,
            marker: None,
            content: Some(99),
            generation: 1,
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

/// A node that has booted and worked twice; its disk of the end of the first time.
pub(super) fn used(level: Level) -> (Node, Disk) {
    let mut node = Node::new().booted(level).unwrap();
    node.work(level);
    let old = node.disk;
    let mut node = node.booted(level).unwrap();
    node.work(level);
    (node, old)
}

pub(super) fn with_disk(node: &Node, disk: Disk) -> Node {
    Node {
        disk,
        ..node.clone()
    }
}

#[test]
fn a_file_system_from_before_the_last_checkpoint_is_refused_and_the_right_one_opens_after_that() {
    let level = Level::Checkpoint;
    let (node, old) = used(level);
    for now in crashed(&node, level, 3) {
        // The header is of today, what is behind it is not.
        let disk = Disk {
            generation: old.generation,
            ..now.disk
        };
        let why = with_disk(&now, disk).boot(level).unwrap_err();
        assert!(why.contains("put back to an earlier state"), "{why}");
        // Nothing was written, so nothing is lost.
        now.boot(level).unwrap();
    }
}

#[test]
fn what_was_accepted_opens_after_every_crash_and_is_measured_until_a_boot_has_succeeded() {
    for level in [Level::Epoch, Level::Checkpoint] {
        let (node, old) = used(level);
        node.boot(level).unwrap();
        assert!(with_disk(&node, old).boot(level).is_err());
        assert!(with_disk(&node, BLANK).boot(level).is_err());
        for (kind, disk) in [(Accepted::Rollback, old), (Accepted::New, BLANK)] {
            let mut node = node.clone();
            node.accept(kind);
            for node in crashed(&with_disk(&node, disk), level, 4) {
                let exception = node.boot(level).unwrap().exception;
                assert_eq!(exception, Some(Allowed::Accepted(kind)), "{node:?}");
                let up = node.booted(level).unwrap();
                assert_eq!(up.nv.entry().unwrap().acceptance, None);
                assert_eq!(up.boot(level).unwrap().exception, None);
                let again = with_disk(&up, disk).boot(level);
                assert!(again.is_err(), "{node:?} opened it a second time");
            }
        }
    }
}

/// One kind is not the other.
#[test]
fn an_acceptance_allows_nothing_else() {
    for level in [Level::Epoch, Level::Checkpoint] {
        let (node, old) = used(level);
        let behind = Disk {
            generation: old.generation,
            ..node.disk
        };
        for (kind, disk) in [
            (Accepted::New, old),
            (Accepted::New, behind),
            (Accepted::Rollback, BLANK),
        ] {
            let mut node = node.clone();
            node.accept(kind);
            let passes = disk == behind && level == Level::Epoch;
            assert_eq!(
                with_disk(&node, disk).boot(level).is_ok(),
                passes,
                "{kind:?}"
            );
        }
    }
}
