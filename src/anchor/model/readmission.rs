// SPDX-License-Identifier: Apache-2.0
//! A node that lost its TPM: without an operator's word its disk stays closed, and with it the node comes up whatever the
//! power does, says so until a boot has succeeded, and opens no disk that is older than what the service was told last.

use super::proofs::{LEVELS, crashed, used, with_disk};
use super::*;

/// The TPMs there can be afterwards: another one, which counted less or more, or the same without its memory.
fn lost(node: &Node) -> [Node; 3] {
    [1, node.nv.counter, node.nv.counter + 40].map(|counter| Node {
        nv: Nv {
            record: None,
            counter,
        },
        ..node.clone()
    })
}

/// What the service was told of this disk when its boot was done.
fn told(disk: &Disk) -> (u8, u64, Option<BootNonce>) {
    match disk.primary {
        Slot::Header {
            key, epoch, nonce, ..
        } => (key, epoch, nonce),
        Slot::Zero | Slot::Torn => panic!("{disk:?} has no header"),
    }
}

#[test]
fn whatever_the_power_cuts_a_readmitted_node_comes_up_and_says_so_until_a_boot_has_succeeded() {
    let mut states = 0;
    for level in LEVELS {
        let (node, _) = used(level);
        for node in lost(&node) {
            let why = node.boot(level).unwrap_err();
            assert!(
                why.contains("the TPM does not remember this volume"),
                "{why}"
            );
            assert!(why.contains("nightlatchctl nodes readmit"), "{why}");
            let node = Node {
                readmission: Some(told(&node.disk)),
                ..node
            };
            for now in crashed(&node, level, 4) {
                states += 1;
                let boot = now
                    .boot(level)
                    .unwrap_or_else(|why| panic!("{now:?}: {why}"));
                let expected = now.nv.entry().is_none().then_some(Allowed::Readmitted);
                assert_eq!(boot.exception, expected, "{now:?}");
                let up = now.booted(level).unwrap();
                assert_eq!(up.disk.content, node.disk.content);
                assert_eq!(up.readmission, None);
                let entry = up.nv.entry().unwrap();
                assert_eq!((entry.state, entry.level), (State::Ready, level));
                assert_eq!(up.boot(level).unwrap().exception, None);
                up.booted(level).unwrap().booted(level).unwrap();
            }
        }
    }
    assert!(states > 100, "only {states} states were reached");
}

#[test]
fn no_disk_from_before_the_last_report_is_opened_for_a_readmission() {
    for level in [Level::Epoch, Level::Checkpoint] {
        let (before, old) = used(level);
        for node in lost(&before) {
            let node = Node {
                readmission: Some(told(&node.disk)),
                ..node
            };
            for now in crashed(&node, level, 4) {
                let why = with_disk(&now, old).boot(level).unwrap_err();
                assert!(why.starts_with("rule G26"), "{now:?}: {why}");
                now.boot(level).unwrap();
            }
        }
    }
}

/// From the write on that makes the entry, the TPM says how old a disk may be, the readmission used up or not.
#[test]
fn a_volume_that_is_remembered_again_is_compared_with_that_and_with_nothing_older() {
    for level in [Level::Epoch, Level::Checkpoint] {
        let (before, _) = used(level);
        let mut kept = 0;
        for node in lost(&before) {
            let node = Node {
                readmission: Some(told(&node.disk)),
                ..node
            };
            for now in crashed(&node, level, 3) {
                let remembered = now.nv.entry().is_some();
                kept += usize::from(remembered && now.readmission.is_some());
                let again = with_disk(&now, node.disk).boot(level);
                assert_eq!(again.is_err(), remembered, "{now:?}");
                let up = now.booted(level).unwrap();
                let why = with_disk(&up, node.disk).boot(level).unwrap_err();
                assert!(why.starts_with("rule G26"), "{why}");
            }
        }
        assert!(kept > 0, "no report was lost");
    }
}

#[test]
fn a_readmission_is_for_one_key_and_for_nothing_that_is_blank() {
    for level in LEVELS {
        let (before, _) = used(level);
        for node in lost(&before) {
            let (key, epoch, nonce) = told(&node.disk);
            let with = |word| Node {
                readmission: Some(word),
                ..node.clone()
            };
            let why = with((key + 1, epoch, nonce)).boot(level).unwrap_err();
            assert!(why.starts_with("rule D15"), "{why}");
            let why = with((key, epoch + 1, nonce)).boot(level).unwrap_err();
            assert!(why.starts_with("rule G26"), "{why}");
            let other = BootNonce::from_bytes([0xff; NONCE_LEN]);
            let why = with((key, epoch, other)).boot(level).unwrap_err();
            assert!(why.contains("another boot wrote it"), "{why}");
            // The control, and what a TPM that remembers something makes of it.
            let up = with((key, epoch, nonce)).booted(level).unwrap();
            let up = Node {
                readmission: Some((key, epoch, nonce)),
                ..up
            };
            let why = with_disk(&up, BLANK).boot(level).unwrap_err();
            assert!(why.contains("the device is blank"), "{why}");
        }
    }
}
