// SPDX-License-Identifier: Apache-2.0
//! A disk that was put back on purpose: who goes on with it for an operator's word, and how the word ends.

use serde_json::Value;

use crate::config::Role;
use crate::key::BootNonce;
use crate::keyservice::audit::now_s;
use crate::keyservice::registry;
use crate::keyservice::registry::{readmission, rollback};
use crate::keyservice::tests::UUID;
use crate::keyservice::tests::rig::Rig;
use crate::protocol::VolumeRecord;
use crate::protocol::admin::{Readmission, Rollback};
use crate::support::caller::record_path;
use crate::support::machine::{Machine, volume};

/// What is recorded, and what older disks have.
const EPOCH: u64 = 20;
const OLD: u64 = 5;
const OLDER: u64 = 4;

fn told(rig: &Rig, session: &str, epoch: u64) -> u16 {
    let record = VolumeRecord {
        key_id: Some("a".repeat(64)),
        epoch,
        nonce: BootNonce::from_bytes([1; 7]),
    };
    let heard = rig.caller.post(&record_path(UUID), Some(session), &record);
    heard.status
}

fn session(rig: &Rig, machine: &Machine, epoch: u64) -> String {
    let claimed = [volume(UUID, Role::State, Some(epoch))];
    rig.caller.admitted(machine, &claimed).0
}

fn denied(rig: &Rig, machine: &Machine, epoch: u64, check: &str) {
    let claimed = [volume(UUID, Role::State, Some(epoch))];
    let (heard, _) = rig.caller.attest(machine, &claimed, |_| ());
    assert_eq!(heard.status, 401, "{check}");
    assert_eq!(rig.last()["check"], check);
}

/// A volume of machine 1 at [`EPOCH`].
fn registered() -> (Rig, Machine) {
    let rig = Rig::start();
    let owner = Machine::new(1);
    assert_eq!(told(&rig, &session(&rig, &owner, EPOCH), EPOCH), 200);
    (rig, owner)
}

/// As an operator does.
fn accept(rig: &Rig, epoch: Option<u64>, until_s: u64) {
    let id = UUID.to_owned().try_into().unwrap();
    rollback::set(&rig.service.store, &id, epoch, until_s, now_s()).unwrap();
}

fn soon() -> u64 {
    now_s() + 3600
}

fn word(rig: &Rig) -> Option<Rollback> {
    let id = UUID.to_owned().try_into().unwrap();
    let entry = registry::volume(&rig.service.store, &id).unwrap().unwrap();
    entry.rollback
}

fn remembered(rig: &Rig, session: &str) -> Value {
    rig.caller.get(&record_path(UUID), Some(session)).json()
}

#[test]
fn an_older_disk_is_gone_on_with_once_and_nothing_older_than_it() {
    let (rig, owner) = registered();
    denied(&rig, &owner, OLD, "rollback");
    let why = rig.last()["why"].as_str().unwrap().to_owned();
    assert!(why.contains("nodes accept rollback"), "{why}");

    accept(&rig, None, soon());
    denied(&rig, &Machine::new(2), OLD, "owner");
    let first = session(&rig, &owner, OLD);
    let lines = rig.audit();
    assert_eq!(lines[lines.len() - 2]["event"], "rollback");
    let answer = remembered(&rig, &first);
    assert_eq!(
        (&answer["rollback"], &answer["epoch"]),
        (&Value::from(OLD), &Value::from(OLD))
    );
    assert_eq!(answer.get("nonce"), None, "{answer}");

    // A boot without a report, as after a power cut: that disk again, and no older one.
    denied(&rig, &owner, OLDER, "rollback");
    let again = session(&rig, &owner, OLD);
    assert_eq!(remembered(&rig, &again)["rollback"], OLD);
    // The session of before has no word any more, and its report leaves the one of now.
    assert_eq!(remembered(&rig, &first).get("rollback"), None);
    assert_eq!(remembered(&rig, &first)["epoch"], EPOCH);
    assert_eq!(told(&rig, &first, EPOCH + 1), 200);
    assert!(word(&rig).is_some());

    assert_eq!(told(&rig, &again, EPOCH + 2), 200);
    assert_eq!(word(&rig), None);
    denied(&rig, &owner, OLD, "rollback");
    let usual = session(&rig, &owner, EPOCH + 2);
    assert_eq!(remembered(&rig, &usual).get("rollback"), None);
}

#[test]
fn a_word_for_one_epoch_is_for_no_other_and_ends_by_itself() {
    let (rig, owner) = registered();
    accept(&rig, Some(OLD), soon());
    denied(&rig, &owner, OLDER, "rollback");
    assert_eq!(word(&rig).unwrap().epoch, Some(OLD));
    assert_eq!(
        remembered(&rig, &session(&rig, &owner, OLD))["rollback"],
        OLD
    );

    accept(&rig, Some(OLD), now_s());
    denied(&rig, &owner, OLD, "rollback");
}

/// The TPM may have counted boots that the service was not told of.
#[test]
fn a_disk_that_the_service_does_not_find_old_has_the_word_too() {
    let (rig, owner) = registered();
    for epoch in [EPOCH, EPOCH + 2] {
        accept(&rig, None, soon());
        let session = session(&rig, &owner, epoch);
        let answer = remembered(&rig, &session);
        assert_eq!(
            (&answer["rollback"], &answer["epoch"]),
            (&Value::from(epoch), &Value::from(EPOCH))
        );
        assert_eq!(answer.get("nonce").is_some(), epoch > EPOCH);
    }
}

/// What was remembered is not put back: a report below it contradicts it, and uses the word up.
#[test]
fn no_record_falls_by_the_word() {
    let (rig, owner) = registered();
    accept(&rig, None, soon());
    let session = session(&rig, &owner, OLD);
    assert_eq!(told(&rig, &session, OLD), 401);
    let why = rig.last()["why"].as_str().unwrap().to_owned();
    assert!(why.contains("nodes forget"), "{why}");
    assert_eq!(word(&rig), None);
    denied(&rig, &owner, OLD, "rollback");
    assert_eq!(told(&rig, &session, EPOCH + 1), 200);
}

#[test]
fn a_word_does_not_go_to_another_node_with_the_volume() {
    let (rig, _) = registered();
    let next = Machine::new(2);
    let readmit = || {
        let id = UUID.to_owned().try_into().unwrap();
        let word = Readmission {
            until_s: soon(),
            ek: None,
        };
        readmission::set(&rig.service.store, &id, Some(&word)).unwrap();
    };
    accept(&rig, None, soon());
    readmit();
    denied(&rig, &next, OLD, "rollback");
    // Said of whoever is readmitted, it is for that one.
    accept(&rig, None, soon());
    let session = session(&rig, &next, OLD);
    let answer = remembered(&rig, &session);
    assert_eq!(
        (&answer["rollback"], &answer["epoch"]),
        (&Value::from(OLD), &Value::from(OLD))
    );
    assert!(answer["readmitted-s"].is_u64(), "{answer}");
}
