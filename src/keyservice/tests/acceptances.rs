// SPDX-License-Identifier: Apache-2.0
//! What was accepted of a volume in a boot is shown until something else is.

use serde_json::{Value, json};

use crate::config::Role;
use crate::keyservice::audit::now_s;
use crate::keyservice::fleet;
use crate::keyservice::registry::VolumeEntry;
use crate::keyservice::tests::rig::Rig;
use crate::keyservice::tests::{OTHER_UUID, UUID};
use crate::protocol::Acceptance;
use crate::protocol::admin::{LastAcceptance, Volume};
use crate::support::caller::record_path;
use crate::support::machine::{Machine, volume};

/// A node with two volumes, and its session.
fn node(rig: &Rig) -> String {
    let claims = [UUID, OTHER_UUID].map(|uuid| volume(uuid, Role::State, None));
    rig.caller.admitted(&Machine::new(1), &claims).0
}

fn shown(rig: &Rig, uuid: &str) -> Option<LastAcceptance> {
    fleet::volume(&rig.service.store, uuid).unwrap().accepted
}

/// How many reports of each word were counted, in the order of [`Acceptance::ALL`].
fn counted(rig: &Rig) -> [u64; 4] {
    let text = rig.service.metrics.text().unwrap();
    Acceptance::ALL.map(|what| {
        let name = format!(
            "nightlatchd_acceptances_total{{what=\"{}\"}} ",
            what.as_str()
        );
        let count = text.lines().find_map(|line| line.strip_prefix(&name));
        count.expect(&text).parse().unwrap()
    })
}

#[test]
fn what_was_accepted_is_shown_until_something_else_is() {
    let rig = Rig::start();
    let session = node(&rig);
    let path = record_path(UUID);
    let post = |told: &Value| rig.caller.post(&path, Some(&session), told).status;
    // The control: a boot in which nothing was.
    assert_eq!(post(&json!({"epoch": 1})), 200);
    assert_eq!(rig.last().get("accepted"), None);
    assert_eq!((shown(&rig, UUID), counted(&rig)), (None, [0; 4]));

    let mut counts = [0; 4];
    for (place, what) in Acceptance::ALL.into_iter().enumerate() {
        let before_s = now_s();
        let told = json!({"epoch": 2 + place, "accepted": what.as_str()});
        assert_eq!(post(&told), 200);
        counts[place] = 1;
        let line = rig.last();
        assert_eq!(
            (&line["event"], &line["accepted"], &line["volumes"][0]),
            (&"report".into(), &what.as_str().into(), &UUID.into())
        );
        // The next boot takes nothing away.
        assert_eq!(post(&json!({"epoch": 3 + place})), 200);
        assert_eq!(rig.last().get("accepted"), None);
        let last = shown(&rig, UUID).unwrap();
        assert_eq!((last.what, counted(&rig)), (what, counts));
        assert!((before_s..=now_s()).contains(&last.reported_s));
    }
    assert_eq!(shown(&rig, OTHER_UUID), None);
    // It is nothing that the node is told of, whatever it knows of it.
    let told: Value = rig.caller.get(&path, Some(&session)).json();
    assert_eq!(told, json!({"epoch": 6}));
}

#[test]
fn what_is_not_taken_or_not_known_changes_nothing() {
    let rig = Rig::start();
    let session = node(&rig);
    let post = |told: &Value| {
        let heard = rig.caller.post(&record_path(UUID), Some(&session), told);
        heard.status
    };
    assert_eq!(post(&json!({"epoch": 3, "accepted": "stale"})), 200);
    let first = (shown(&rig, UUID), counted(&rig));
    assert_eq!(first.0.unwrap().what, Acceptance::Stale);

    // A disk that went back, and no word.
    assert_eq!(post(&json!({"epoch": 2, "accepted": "new"})), 401);
    let line = rig.last();
    assert_eq!(
        (&line["check"], &line["accepted"]),
        (&"record".into(), &"new".into())
    );
    assert_eq!(post(&json!({"epoch": 4, "accepted": 1})), 400);
    assert_eq!(rig.last()["check"], "body");
    assert_eq!((shown(&rig, UUID), counted(&rig)), first);
    // A word of a later version is no trouble: the rest is taken.
    assert_eq!(post(&json!({"epoch": 4, "accepted": "recovered"})), 200);
    assert_eq!(rig.last().get("accepted"), None);
    assert_eq!((shown(&rig, UUID), counted(&rig)), first);
    let kept = fleet::volume(&rig.service.store, UUID).unwrap();
    assert_eq!(kept.record.epoch, 4);
}

#[test]
fn who_knows_nothing_of_it_reads_what_is_kept_and_shown() {
    let owner = "ab".repeat(32);
    let entry = json!({"ek": owner, "role": "state", "registered-s": 5, "record": {"epoch": 3}});
    let mut stale = entry.clone();
    stale["accepted"] = json!({"what": "stale", "reported-s": 7});
    let last = LastAcceptance {
        what: Acceptance::Stale,
        reported_s: 7,
    };
    // A store of before has entries without it, and one without it is written as it was then.
    for (value, accepted) in [(&entry, None), (&stale, Some(last))] {
        let parsed: VolumeEntry = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(parsed.accepted, accepted);
        assert_eq!(&serde_json::to_value(&parsed).unwrap(), value);
    }
    // A replica of a later version has written a word of its own: the volume is one like every other.
    stale["accepted"]["what"] = "recovered".into();
    let parsed: VolumeEntry = serde_json::from_value(stale).unwrap();
    assert_eq!(serde_json::to_value(&parsed).unwrap(), entry);

    // So it is in what operators are shown.
    let listed = json!({"uuid": UUID, "ek": owner, "role": "state", "registered-s": 5, "epoch": 3});
    for (told, accepted) in [
        (Value::Null, None),
        (json!({"what": "stale", "reported-s": 7}), Some(last)),
        (
            json!({"what": "recovered", "reported-s": 7, "by": "x"}),
            None,
        ),
    ] {
        let mut listed = listed.clone();
        if !told.is_null() {
            listed["accepted"] = told;
        }
        let listed: Volume = serde_json::from_value(listed).unwrap();
        assert_eq!((listed.accepted, listed.record.epoch), (accepted, 3));
    }
}
