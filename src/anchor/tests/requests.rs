// SPDX-License-Identifier: Apache-2.0
//! Requests from the running system that make them to the boot that has fulfilled them.

use super::*;
use crate::anchor::requests::{REQUESTS_LEN, Request, RequestKeys, Requests, Wish};
use crate::key::recovery::RecoveryKey;

const INDEX: u32 = 0x0180_4e13;

fn ask(node: &Node, key: u8) {
    let wish = Wish::Add(RecoveryKey::from_bytes(&[key; 32]).unwrap());
    RuntimeAnchor::take(&node.top)
        .unwrap()
        .change_requests(|record, requests| {
            assert!(record.entries().any(|entry| entry.uuid == UUID));
            requests.push(Request { uuid: UUID, wish })
        })
        .unwrap();
}

fn asked(requests: &Requests) -> usize {
    requests.of(UUID).count()
}

#[test]
fn what_the_operator_asks_for_waits_until_a_boot_has_done_it() {
    let mut node = Node::new();
    node.provision("epoch");
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    assert!(anchor.requests(&mut tpm).is_none());
    node.finish(&config, tpm, anchor);
    ask(&node, 1);
    ask(&node, 2);
    let running = || RuntimeAnchor::take(&node.top).unwrap();
    assert_eq!(asked(&running().requests().unwrap()), 2);
    for _ in 0..2 {
        // A boot that is cut off, or has nothing of it to do.
        let (_, mut tpm, mut anchor) = node.boot("epoch");
        assert_eq!(asked(&anchor.requests(&mut tpm).unwrap()), 2);
    }
    // What is in the header of a volume that left the boot before it was written stays, and nothing is written for it.
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    let requests = anchor.requests(&mut tpm).unwrap();
    anchor.keep_requests(requests, vec![true; 2]);
    node.swtpm.commands();
    anchor.settle_requests(&mut tpm, &[Uuid::from_bytes([0xee; 16])]);
    assert!(node.swtpm.commands().is_empty());
    assert_eq!(asked(&anchor.requests(&mut tpm).unwrap()), 2);
    drop((tpm, anchor));
    // One of them is done, and then the other.
    for left in [1, 0] {
        let (config, mut tpm, mut anchor) = node.boot("epoch");
        let requests = anchor.requests(&mut tpm).unwrap();
        assert_eq!(asked(&requests), left + 1);
        let mut made = vec![false; left + 1];
        made[0] = true;
        anchor.keep_requests(requests, made);
        anchor.settle_requests(&mut tpm, &[UUID]);
        node.finish(&config, tpm, anchor);
    }
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    assert!(anchor.requests(&mut tpm).is_none());
    assert!(
        tpm.find_records(anchor.places, anchor.policy, record::RECORD_LEN)
            .is_ok_and(|found| !found.has_requests)
    );
    node.finish(&config, tpm, anchor);
    // Taken back before any boot.
    ask(&node, 3);
    let running = RuntimeAnchor::take(&node.top).unwrap();
    running
        .change_requests(|_, requests| {
            requests.retain(|_| false);
            Ok(())
        })
        .unwrap();
    assert!(running.requests().unwrap().is_empty());
}

#[test]
fn what_another_system_left_in_the_place_is_no_request_and_fails_no_boot() {
    let mut node = Node::new();
    node.provision("epoch");
    let write = |node: &Node, auth: &Secret, bytes: &[u8]| {
        let mut tpm = Tpm::open(&node.config("epoch").tpm.tcti).unwrap();
        tpm.remove_requests(INDEX, REQUESTS_LEN).unwrap();
        tpm.write_requests(INDEX, auth, bytes).unwrap();
    };
    ask(&node, 1);
    let keys = |fill: u8| RequestKeys::of(&Secret::new(vec![fill; 32])).unwrap();
    let other = keys(7);
    let foreign = Requests::default().encode(&other).unwrap();
    // Made by who does not know the record's value; and the genuine value with content of another's, as if it were known.
    write(&node, &other.auth, &foreign);
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    assert!(anchor.requests(&mut tpm).is_none());
    let own = anchor.loaded.as_ref().unwrap();
    let own = RequestKeys::of(&own.access.auth).unwrap();
    node.finish(&config, tpm, anchor);
    let error = RuntimeAnchor::take(&node.top).unwrap().requests();
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("does not answer to this node's record"),
        "{error}"
    );
    write(&node, &own.auth, &foreign);
    let (config, mut tpm, mut anchor) = node.boot("epoch");
    assert!(anchor.requests(&mut tpm).is_none());
    node.finish(&config, tpm, anchor);
    let error = RuntimeAnchor::take(&node.top).unwrap().requests();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("it was not written by this node"), "{error}");
    // The control.
    write(&node, &own.auth, &Requests::default().encode(&own).unwrap());
    ask(&node, 2);
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    assert_eq!(asked(&anchor.requests(&mut tpm).unwrap()), 1);
}

/// What was asked for in a record that a boot has made anew, and that was cut off before it could take it away.
#[test]
fn an_index_that_no_record_answers_to_goes_with_the_next_boot_and_not_before_its_record() {
    let mut node = Node::new();
    node.provision("epoch");
    ask(&node, 1);
    let mut own = Tpm::open(&node.config("epoch").tpm.tcti).unwrap();
    // As the record made anew is: with another value.
    let other = RequestKeys::of(&Secret::new(vec![7; 32])).unwrap();
    own.remove_requests(INDEX, REQUESTS_LEN).unwrap();
    let before = Requests::default().encode(&other).unwrap();
    own.write_requests(INDEX, &other.auth, &before).unwrap();
    drop(own);

    let is_there = |anchor: &Anchor, tpm: &mut Tpm| {
        let found = tpm.find_records(anchor.places, anchor.policy, record::RECORD_LEN);
        found.unwrap().has_requests
    };
    // The record that it is of is there still: a boot that can read it would do what was asked for.
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    assert!(anchor.requests(&mut tpm).is_none());
    anchor.others.push(0x0180_4e12);
    anchor.settle_requests(&mut tpm, &[UUID]);
    assert!(is_there(&anchor, &mut tpm));
    drop((tpm, anchor));

    let (config, mut tpm, mut anchor) = node.boot("epoch");
    assert!(anchor.requests(&mut tpm).is_none());
    anchor.settle_requests(&mut tpm, &[UUID]);
    assert!(!is_there(&anchor, &mut tpm));
    node.finish(&config, tpm, anchor);
    ask(&node, 2);
    let (_, mut tpm, mut anchor) = node.boot("epoch");
    assert_eq!(asked(&anchor.requests(&mut tpm).unwrap()), 1);
}
