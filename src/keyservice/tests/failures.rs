// SPDX-License-Identifier: Apache-2.0
//! What a boot before failed by, as a node tells when it is admitted.

use serde_json::{Value, json};

use crate::config::Role;
use crate::keyservice::audit::now_s;
use crate::keyservice::fleet;
use crate::keyservice::tests::UUID;
use crate::keyservice::tests::rig::Rig;
use crate::protocol::LastFailure;
use crate::protocol::admin::ToldFailure;
use crate::protocol::{Additional, Claims};
use crate::support::machine::{Machine, volume};

fn failure(sentence: &str) -> LastFailure {
    LastFailure {
        exit: 77,
        sentence: sentence.into(),
        reset_count: 7,
    }
}

/// A machine is admitted that says this of a boot before.
fn boot(rig: &Rig, machine: &Machine, told: Option<LastFailure>) {
    let volumes = [volume(UUID, Role::State, None)];
    let (heard, _) = rig.caller.attest(machine, &volumes, |draft| {
        draft.claims.last_failure = told;
    });
    assert_eq!(heard.status, 200, "{heard:?}");
    rig.service.sightings.flush(&rig.service.store).unwrap();
}

fn shown(rig: &Rig, machine: &Machine) -> Option<ToldFailure> {
    fleet::node(&rig.service.store, &machine.ek_id())
        .unwrap()
        .failure
}

#[test]
fn what_a_node_failed_by_is_shown_until_it_tells_of_something_else() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    // The control: a node that has nothing to tell.
    boot(&rig, &machine, None);
    assert_eq!(shown(&rig, &machine), None);
    let before_s = now_s();
    boot(&rig, &machine, Some(failure("its disk is \u{1b}[2J old")));
    let told = shown(&rig, &machine).unwrap();
    assert_eq!(told.failure, failure("its disk is ?[2J old"));
    assert!((before_s..=now_s()).contains(&told.told_s));
    // It stays, whatever comes within an hour.
    for later in [None, Some(failure("another one"))] {
        boot(&rig, &machine, later);
        assert_eq!(shown(&rig, &machine), Some(told.clone()));
    }
    // Of a node that is new it is there at once.
    let other = Machine::new(2);
    let (heard, _) = rig.caller.attest(&other, &[], |draft| {
        draft.claims.last_failure = Some(failure("why"));
    });
    assert_eq!(heard.status, 200);
    assert_eq!(shown(&rig, &other).unwrap().failure, failure("why"));
}

#[test]
fn a_node_changes_what_is_shown_once_an_hour() {
    let told = |told_s, sentence: &str| {
        let failure = failure(sentence);
        Some(ToldFailure { told_s, failure })
    };
    let after = ToldFailure::after;
    assert_eq!(after(None, None), None);
    assert_eq!(after(None, told(5, "a")), told(5, "a"));
    assert_eq!(after(told(5, "a"), None), told(5, "a"));
    assert_eq!(after(told(5, "a"), told(3604, "b")), told(5, "a"));
    assert_eq!(after(told(5, "a"), told(3605, "b")), told(3605, "b"));
    // What is told again was told first when it was.
    assert_eq!(after(told(5, "a"), told(9999, "a")), told(5, "a"));
}

/// The claims as the release before has them.
#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Before {
    version: u32,
    volumes: Vec<Value>,
}

/// Node and service of before and of now understand each other in both directions.
#[test]
fn a_node_of_before_says_nothing_and_a_service_of_before_passes_over_it() {
    let of_before = json!({"nightlatch": {"version": 1, "credential": "AA==", "volumes": []}});
    let read: Additional = serde_json::from_value(of_before.clone()).unwrap();
    assert_eq!(read.nightlatch.last_failure, None);
    // A node that has nothing to tell sends the same bytes as one of before.
    assert_eq!(serde_json::to_value(&read).unwrap(), of_before);
    let claims = Claims {
        last_failure: Some(failure("why")),
        ..read.nightlatch
    };
    let sent = serde_json::to_value(&claims).unwrap();
    let told = json!({"exit": 77, "sentence": "why", "reset-count": 7});
    assert_eq!(sent["last-failure"], told);
    let Before { version, volumes } = serde_json::from_value(sent.clone()).unwrap();
    assert_eq!((version, volumes), (1, Vec::new()));
    // What a later node may say besides is passed over too, and what is no failure is an error.
    let mut later = sent.clone();
    later["last-failure"]["more"] = json!(true);
    let read: Claims = serde_json::from_value(later).unwrap();
    assert_eq!(read.last_failure, Some(failure("why")));
    for wrong in [
        json!("why"),
        json!({"exit": 300, "sentence": "", "reset-count": 0}),
    ] {
        let mut bad = sent.clone();
        bad["last-failure"] = wrong;
        assert!(serde_json::from_value::<Claims>(bad).is_err());
    }
}
