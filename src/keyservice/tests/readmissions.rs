// SPDX-License-Identifier: Apache-2.0
//! A volume whose node has lost its TPM: who gets it for an operator's word, what is told him, and how the word ends.

use serde_json::Value;

use crate::config::Role;
use crate::keyservice::audit::now_s;
use crate::keyservice::registry;
use crate::keyservice::registry::VolumeEntry;
use crate::keyservice::registry::readmission;
use crate::keyservice::registry::readmission::VALID_S;
use crate::keyservice::tests::rig::Rig;
use crate::keyservice::tests::{OTHER_UUID, UUID};
use crate::protocol::admin::Readmission;
use crate::protocol::{EPOCHS_OF_AN_ANSWER, RESOURCE_PATH, Remembered, VolumeRecord};
use crate::support::caller::record_path;
use crate::support::machine::{Machine, volume};

const EPOCH: u64 = 7;

/// A volume of machine 1 at epoch 7.
fn registered() -> (Rig, Machine, String) {
    let rig = Rig::start();
    let owner = Machine::new(1);
    let session = admitted(&rig, &owner);
    assert_eq!(told(&rig, &session, EPOCH), 200);
    (rig, owner, session)
}

fn at(epoch: u64) -> [crate::protocol::VolumeClaim; 1] {
    [volume(UUID, Role::State, Some(epoch))]
}

fn admitted(rig: &Rig, machine: &Machine) -> String {
    rig.caller.admitted(machine, &at(EPOCH)).0
}

fn told(rig: &Rig, session: &str, epoch: u64) -> u16 {
    let record = VolumeRecord {
        key_id: Some("a".repeat(64)),
        epoch,
        nonce: None,
    };
    let heard = rig.caller.post(&record_path(UUID), Some(session), &record);
    heard.status
}

/// As an operator does.
fn readmit(rig: &Rig, until_s: u64) {
    let word = Readmission { until_s, ek: None };
    let id = UUID.to_owned().try_into().unwrap();
    readmission::set(&rig.service.store, &id, Some(&word)).unwrap();
}

fn soon() -> u64 {
    now_s() + VALID_S
}

fn entry(rig: &Rig) -> VolumeEntry {
    let id = UUID.to_owned().try_into().unwrap();
    registry::volume(&rig.service.store, &id).unwrap().unwrap()
}

fn denied(rig: &Rig, machine: &Machine, check: &str) {
    let (heard, _) = rig.caller.attest(machine, &at(EPOCH), |_| ());
    assert_eq!(heard.status, 401, "{check}");
    assert_eq!(rig.last()["check"], check);
}

fn remembered(rig: &Rig, session: &str) -> Value {
    rig.caller.get(&record_path(UUID), Some(session)).json()
}

#[test]
fn the_next_machine_gets_the_volume_and_keeps_it_and_no_other_does() {
    let (rig, owner, before) = registered();
    let (next, third) = (Machine::new(2), Machine::new(3));
    // Without an operator's word nothing is as it would be with it.
    denied(&rig, &next, "owner");
    let usual = remembered(&rig, &before);
    assert_eq!(usual.get("readmitted-s"), None, "{usual}");

    readmit(&rig, soon());
    let session = admitted(&rig, &next);
    let line = rig.last();
    assert_eq!(line["event"], "admission");
    let lines = rig.audit();
    let line = &lines[lines.len() - 2];
    assert_eq!(
        (&line["event"], &line["ek"], &line["volumes"][0]),
        (
            &Value::from("readmission"),
            &Value::from(next.ek_id()),
            &Value::from(UUID)
        )
    );
    assert!(line["why"].as_str().unwrap().contains(&owner.ek_id()));
    let key = format!("{RESOURCE_PATH}/nightlatch/volume-key/{UUID}");
    assert_eq!(rig.caller.get(&key, Some(&session)).status, 200);
    let record: Remembered = rig.caller.get(&record_path(UUID), Some(&session)).json();
    assert!(record.readmitted_s.is_some());
    assert_eq!(record.record.epoch, EPOCH);

    // It is bound: neither another machine nor the one it belonged to, which had a session, gets anything.
    denied(&rig, &third, "owner");
    denied(&rig, &owner, "owner");
    assert_eq!(rig.caller.get(&key, Some(&before)).status, 401);
    assert_eq!(told(&rig, &before, EPOCH), 401);
    assert_eq!(entry(&rig).readmission.unwrap().ek, Some(next.ek_id()));

    // A boot without a report, as after a power cut: it is told the same again, at a later time, whatever the clock says.
    let answered = |session: &str| remembered(&rig, session)["readmitted-s"].as_u64().unwrap();
    let again = admitted(&rig, &next);
    let first = record.readmitted_s.unwrap();
    let second = answered(&again);
    assert!(first < second && second < answered(&again));

    // The report uses it up, even where it says nothing new.
    assert_eq!(told(&rig, &again, EPOCH), 200);
    assert_eq!(entry(&rig).readmission, None);
    let after = admitted(&rig, &next);
    assert_eq!(remembered(&rig, &after).get("readmitted-s"), None);
    for machine in [&owner, &third] {
        denied(&rig, machine, "owner");
    }
}

/// A TPM that was cleared keeps its endorsement key.
#[test]
fn the_owner_may_be_readmitted_too_and_only_a_session_after_that_uses_it_up() {
    let (rig, owner, before) = registered();
    readmit(&rig, soon());
    assert_eq!(told(&rig, &before, EPOCH), 200);
    assert_eq!(remembered(&rig, &before).get("readmitted-s"), None);
    assert!(entry(&rig).readmission.is_some());
    let session = admitted(&rig, &owner);
    assert!(remembered(&rig, &session)["readmitted-s"].is_u64());
    denied(&rig, &Machine::new(2), "owner");
    assert_eq!(told(&rig, &session, EPOCH + 1), 200);
    assert_eq!(entry(&rig).readmission, None);
}

/// The host clears the TPM, and lets the report of the attempt before through while the next one is under way.
#[test]
fn a_report_that_was_held_back_leaves_the_word_to_the_boot_that_is_under_way() {
    let (rig, owner, _) = registered();
    let epoch_of = |answered_s: u64| answered_s * EPOCHS_OF_AN_ANSWER + 2;
    let mut epoch = EPOCH;
    let mut attempt = || {
        let (session, _) = rig.caller.admitted(&owner, &at(epoch));
        let answered_s = remembered(&rig, &session)["readmitted-s"].as_u64();
        epoch = epoch_of(answered_s.unwrap());
        (session, epoch)
    };
    readmit(&rig, soon());
    let (first, first_epoch) = attempt();
    let (second, second_epoch) = attempt();
    assert_eq!(told(&rig, &first, first_epoch), 200);
    assert_eq!(entry(&rig).record.epoch, first_epoch);
    assert_eq!(entry(&rig).readmission.unwrap().ek, Some(owner.ek_id()));

    // The second one is cut off, and the next goes on. What is older than the record says nothing, late or not.
    let (third, third_epoch) = attempt();
    assert!(first_epoch < second_epoch && second_epoch < third_epoch);
    assert_eq!(told(&rig, &first, first_epoch - 1), 401);
    assert_eq!(told(&rig, &second, second_epoch), 200);
    assert!(entry(&rig).is_readmitted(&owner.ek_id(), now_s()));

    // The control: the report of the last one.
    assert_eq!(told(&rig, &third, third_epoch), 200);
    assert_eq!(entry(&rig).readmission, None);
    assert_eq!(told(&rig, &second, second_epoch), 401);

    // Epochs tell nothing where they stay: at levels that compare none, and where the TPM remembers the volume again.
    readmit(&rig, soon());
    let (first, second) = (attempt().0, attempt().0);
    assert_eq!(told(&rig, &first, third_epoch), 200);
    assert!(entry(&rig).is_readmitted(&owner.ek_id(), now_s()));
    assert_eq!(told(&rig, &second, third_epoch), 200);
    assert_eq!(entry(&rig).readmission, None);
}

#[test]
fn an_answer_for_an_earlier_word_ends_no_later_one_and_one_of_before_none_at_all() {
    let (rig, owner, _) = registered();
    readmit(&rig, soon());
    let first = admitted(&rig, &owner);
    assert!(remembered(&rig, &first)["readmitted-s"].is_u64());
    // Another word, which the node has taken and was not told of yet.
    readmit(&rig, soon());
    let second = admitted(&rig, &owner);
    assert_eq!(told(&rig, &first, EPOCH), 200);
    assert!(entry(&rig).is_readmitted(&owner.ek_id(), now_s()));
    assert!(remembered(&rig, &second)["readmitted-s"].is_u64());

    // A service of before does not write down whom it answered: the report of the next boot counts.
    let id = UUID.to_owned().try_into().unwrap();
    registry::change(&rig.service.store, &id, |entry| entry.answered_to = None).unwrap();
    assert_eq!(told(&rig, &second, EPOCH), 200);
    assert!(entry(&rig).is_readmitted(&owner.ek_id(), now_s()));
    let next = admitted(&rig, &owner);
    assert!(remembered(&rig, &next)["readmitted-s"].is_u64());
    assert_eq!(told(&rig, &next, EPOCH), 200);
    assert_eq!(entry(&rig).readmission, None);
}

#[test]
fn a_readmission_takes_no_check_away_and_who_is_denied_does_not_take_it() {
    let (rig, _, _) = registered();
    readmit(&rig, soon());
    let next = Machine::new(2);
    let old = [volume(UUID, Role::State, Some(EPOCH - 1))];
    let blank = [volume(UUID, Role::State, None)];
    let root = [volume(UUID, Role::Root, Some(EPOCH))];
    for (claims, check) in [
        (old, "rollback"),
        (blank, "rollback"),
        (root, "volume-role"),
    ] {
        let (heard, _) = rig.caller.attest(&next, &claims, |_| ());
        assert_eq!((heard.status, &rig.last()["check"]), (401, &check.into()));
    }
    // Another image, a boot that is further than the initrd, an attestation key of nobody, a TPM of nobody.
    let (heard, _) = rig.caller.attest(&next, &at(EPOCH), |draft| {
        draft.given[11] = [0x22; 32];
        draft.quoted[11] = [0x22; 32];
    });
    assert_eq!(heard.status, 401);
    let (heard, _) = rig.caller.attest(&next, &at(EPOCH), |draft| {
        draft.given[15] = [0x22; 32];
        draft.quoted[15] = [0x22; 32];
    });
    assert_eq!(heard.status, 401);
    let (heard, _) = rig.caller.attest(&next, &at(EPOCH), |draft| {
        draft.claims.credential.0.clear();
    });
    assert_eq!(heard.status, 401);
    // One of its volumes is somebody else's.
    rig.caller
        .admitted(&Machine::new(4), &[volume(OTHER_UUID, Role::State, None)]);
    let both = [
        volume(UUID, Role::State, Some(EPOCH)),
        volume(OTHER_UUID, Role::State, None),
    ];
    let (heard, _) = rig.caller.attest(&next, &both, |_| ());
    assert_eq!((heard.status, &rig.last()["check"]), (401, &"owner".into()));
    assert_eq!(entry(&rig).readmission.unwrap().ek, None);
    admitted(&rig, &next);
    assert_eq!(entry(&rig).readmission.unwrap().ek, Some(next.ek_id()));
}

#[test]
fn the_word_of_an_operator_ends_and_can_be_taken_back() {
    let (rig, owner, _) = registered();
    let next = Machine::new(2);
    readmit(&rig, now_s());
    denied(&rig, &next, "owner");
    readmit(&rig, soon());
    let id = UUID.to_owned().try_into().unwrap();
    readmission::set(&rig.service.store, &id, None).unwrap();
    denied(&rig, &next, "owner");
    // One that was taken ends as well: the volume stays the machine's, and its node is told nothing any more.
    readmit(&rig, soon());
    let session = admitted(&rig, &next);
    let mut over = entry(&rig);
    if let Some(word) = &mut over.readmission {
        word.until_s = now_s();
    }
    readmission::set(&rig.service.store, &id, over.readmission.as_ref()).unwrap();
    assert_eq!(remembered(&rig, &session).get("readmitted-s"), None);
    denied(&rig, &owner, "owner");
    assert_eq!(told(&rig, &session, EPOCH), 200);
    assert_eq!(entry(&rig).readmission, None);
}

/// A store of a service that knew no readmissions.
#[test]
fn records_of_before_are_read_and_written_as_they_were() {
    let text = format!(
        "{{\"ek\":\"{}\",\"role\":\"state\",\"registered-s\":5,\"record\":{{\"epoch\":3}}}}",
        "ab".repeat(32)
    );
    let entry: VolumeEntry = serde_json::from_str(&text).unwrap();
    assert_eq!(entry.readmission, None);
    assert_eq!(serde_json::to_string(&entry).unwrap(), text);
}

#[test]
fn of_many_machines_that_ask_at_once_one_is_readmitted() {
    let (rig, _, _) = registered();
    readmit(&rig, soon());
    let start = std::sync::Barrier::new(4);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let (rig, start) = (&rig, &start);
        let claim = move |number| {
            let machine = Machine::new(number);
            let (challenge, session) = rig.caller.auth(&machine);
            let request = machine.draft(&challenge, &at(EPOCH)).request();
            start.wait();
            let heard = rig.caller.post("/kbs/v0/attest", Some(&session), &request);
            heard.status
        };
        let threads: Vec<_> = (2..6).map(|n| scope.spawn(move || claim(n))).collect();
        let statuses = threads.into_iter().map(|thread| thread.join().unwrap());
        statuses.collect()
    });
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(admitted, 1, "{statuses:?}");
}
