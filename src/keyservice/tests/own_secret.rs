// SPDX-License-Identifier: Apache-2.0
//! A volume whose secret its node made itself is shown until it has the service's key.

use serde_json::{Value, json};

use crate::config::Role;
use crate::keyservice::fleet::{self, Cached};
use crate::keyservice::registry::VolumeEntry;
use crate::keyservice::tests::rig::Rig;
use crate::keyservice::tests::{OTHER_UUID, UUID};
use crate::protocol::admin::Volume;
use crate::support::caller::record_path;
use crate::support::machine::{Machine, volume};

/// What operators see: whether that volume has a secret of its own, and how many have in the whole fleet.
fn shown(rig: &Rig) -> (bool, usize) {
    let store = &rig.service.store;
    let summary = Cached::default().get(store).unwrap();
    assert_eq!(summary.volumes, 2);
    let own_secret = fleet::volume(store, UUID).unwrap().own_secret;
    (own_secret, summary.own_secrets)
}

#[test]
fn a_secret_that_a_node_made_itself_is_shown_until_the_node_says_otherwise() {
    let rig = Rig::start();
    let claims = [UUID, OTHER_UUID].map(|uuid| volume(uuid, Role::State, None));
    let (session, _) = rig.caller.admitted(&Machine::new(1), &claims);
    let path = record_path(UUID);
    let post = |told: &Value| rig.caller.post(&path, Some(&session), told).status;
    assert_eq!(shown(&rig), (false, 0));
    assert_eq!(post(&json!({"epoch": 3, "own-secret": true})), 200);
    assert_eq!(shown(&rig), (true, 1));
    // It is nothing that the node is told of, whatever it knows of it.
    let told: Value = rig.caller.get(&path, Some(&session)).json();
    assert_eq!(told, json!({"epoch": 3}));

    // What is not taken changes nothing.
    assert_eq!(post(&json!({"epoch": 2})), 401);
    assert_eq!(post(&json!({"epoch": 4, "own-secret": "no"})), 400);
    assert_eq!(rig.last()["check"], "body");
    assert_eq!(shown(&rig), (true, 1));
    // One that has the service's key, or is of a node that says nothing of it; a word of a later version is no trouble.
    assert_eq!(post(&json!({"epoch": 4, "later": [{}]})), 200);
    assert_eq!(shown(&rig), (false, 0));
}

#[test]
fn who_knows_nothing_of_it_reads_what_is_kept_and_shown() {
    let owner = "ab".repeat(32);
    let entry = json!({"ek": owner, "role": "state", "registered-s": 5, "record": {"epoch": 3}});
    let mut own = entry.clone();
    own["own-secret"] = true.into();
    // A store of before has entries without it, and one without it is written as it was then.
    for (value, own_secret) in [(entry, false), (own, true)] {
        let entry: VolumeEntry = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(entry.own_secret, own_secret);
        assert_eq!(serde_json::to_value(&entry).unwrap(), value);
    }
    // So has a service of before in what it shows to operators.
    let listed = json!({"uuid": UUID, "ek": owner, "role": "state", "registered-s": 5, "epoch": 3});
    let listed: Volume = serde_json::from_value(listed).unwrap();
    assert!(!listed.own_secret);
}
