// SPDX-License-Identifier: Apache-2.0
//! The service as nodes see it: over TLS on loopback, with real keys.

mod acceptances;
mod bodies;
mod connections;
mod evidence;
mod failures;
mod introductions;
#[cfg(feature = "kms-openbao")]
mod kms;
mod operations;
mod own_secret;
mod readmissions;
mod rig;
mod rollbacks;
mod sessions;
mod tpm;
mod volumes;

use rig::Rig;

use crate::config::Role;
use crate::key;
use crate::key::{BootNonce, NONCE_LEN};
use crate::protocol::VolumeRecord;
use crate::support::caller::record_path;
use crate::support::machine::{Machine, volume};

pub(crate) const UUID: &str = "a6c7535f-0a9f-4c23-9524-fed431126906";
pub(crate) const OTHER_UUID: &str = "0b1e0b1e-0b1e-4b1e-8b1e-0b1e0b1e0b1e";

#[test]
fn a_machine_that_proves_itself_gets_the_keys_of_its_volumes() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let volumes = [
        volume(UUID, Role::State, None),
        volume(OTHER_UUID, Role::Root, None),
    ];
    let (session, draft) = rig.caller.admitted(&machine, &volumes);
    for uuid in [UUID, OTHER_UUID] {
        let secret =
            rig.caller
                .resource(&session, &draft, &format!("nightlatch/volume-key/{uuid}"));
        // Derived here as Constellation derives it.
        let expected = rig.master_secret().derive(&rig.salt(), uuid).unwrap();
        assert_eq!(secret, expected.expose(), "{uuid}");
    }
    let both = rig
        .caller
        .resource(&session, &draft, "nightlatch/measurement/cluster");
    let (secret, salt) = both.split_at(32);
    let expected = rig
        .master_secret()
        .derive(&rig.salt(), key::MEASUREMENT_SECRET_ID)
        .unwrap();
    assert_eq!(
        (secret, salt),
        (expected.expose(), &rig.measurement_salt()[..])
    );

    let events: Vec<String> = rig
        .audit()
        .iter()
        .map(|line| line["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["admission", "release", "release", "release"]);
    let release = &rig.audit()[1];
    assert_eq!(release["ek"], machine.ek_id());
    assert_eq!(release["volumes"][0], UUID);
    assert_eq!(release["image"], "usual");
    assert_eq!(release["peer"], "127.0.0.1");
    assert_eq!(rig.audit()[3]["resource"], "nightlatch/measurement/cluster");
    // Nothing secret is written down.
    let text = std::fs::read_to_string(rig.path("audit.jsonl")).unwrap();
    let secret = rig.master_secret().derive(&rig.salt(), UUID).unwrap();
    assert!(!text.contains(&hex::encode(secret.expose())) && !text.contains(&session));
}

#[test]
fn a_token_does_as_well_as_a_cookie() {
    let rig = Rig::start();
    let (heard, _) =
        rig.caller
            .attest(&Machine::new(1), &[volume(UUID, Role::State, None)], |_| ());
    let token: crate::protocol::Admission = heard.json();
    let path = format!("/kbs/v0/resource/nightlatch/volume-key/{UUID}");
    let status = |value: &str| {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {value}\r\n\r\n"
        );
        rig.caller.raw(text.as_bytes()).unwrap().status
    };
    assert_eq!(status(&format!("Bearer {}", token.token)), 200);
    assert_eq!(status(&format!("Bearer {}A", token.token)), 401);
}

#[test]
fn a_record_of_a_volume_only_grows() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let claim = |epoch| [volume(UUID, Role::State, epoch)];
    let (session, _) = rig.caller.admitted(&machine, &claim(None));
    let path = record_path(UUID);
    let told = |epoch, key: Option<&str>| VolumeRecord {
        key_id: key.map(|digit| digit.repeat(64)),
        epoch,
        nonce: None,
    };
    let first: VolumeRecord = rig.caller.get(&path, Some(&session)).json();
    assert_eq!(first, told(0, None));
    let post = |record: &VolumeRecord| rig.caller.post(&path, Some(&session), record);
    for (record, kept) in [
        (told(1, Some("a")), told(1, Some("a"))),
        (told(1, Some("a")), told(1, Some("a"))),
        (told(5, None), told(5, Some("a"))),
    ] {
        assert_eq!(post(&record).json::<VolumeRecord>(), kept);
    }
    for (record, check, status) in [
        (told(4, Some("a")), "record", 401),
        (told(6, Some("b")), "record", 401),
        (told(6, Some("A")), "key-id", 400),
        (told(6, Some("x")), "key-id", 400),
    ] {
        assert_eq!(post(&record).status, status);
        assert_eq!(rig.last()["check"], check);
    }
    let last: VolumeRecord = rig.caller.get(&path, Some(&session)).json();
    assert_eq!(last, told(5, Some("a")));

    // Of the headers of one epoch it is the one that was told first. A node of before does not say which.
    let with = |epoch, byte: Option<u8>| VolumeRecord {
        nonce: byte.and_then(|byte| BootNonce::from_bytes([byte; NONCE_LEN])),
        ..told(epoch, Some("a"))
    };
    for (record, kept) in [
        (with(5, Some(1)), with(5, Some(1))),
        (with(5, Some(1)), with(5, Some(1))),
        (with(5, None), with(5, Some(1))),
        (with(6, None), with(6, None)),
        (with(6, Some(2)), with(6, Some(2))),
        (with(7, Some(3)), with(7, Some(3))),
    ] {
        assert_eq!(post(&record).json::<VolumeRecord>(), kept);
    }
    assert_eq!(post(&with(7, Some(4))).status, 401);
    let denial = rig.last();
    assert_eq!(denial["check"], "record");
    let why = denial["why"].as_str().unwrap();
    assert!(
        why.contains("nonce 04040404040404 was reported, and 03030303030303 is recorded"),
        "{why}"
    );
    for bad in ["00000000000000", "0303030303030", "0A0A0A0A0A0A0A"] {
        let record = serde_json::json!({"epoch": 8, "nonce": bad});
        assert_eq!(rig.caller.post(&path, Some(&session), &record).status, 400);
    }
    let last: VolumeRecord = rig.caller.get(&path, Some(&session)).json();
    assert_eq!(last, with(7, Some(3)));

    // The next boot: a disk of that epoch or a later one, not an earlier one or a blank one.
    for (epoch, status) in [(Some(7), 200), (Some(8), 200), (Some(6), 401), (None, 401)] {
        let (heard, _) = rig.caller.attest(&machine, &claim(epoch), |_| ());
        assert_eq!(heard.status, status, "{epoch:?}");
    }
    let denial = rig.last();
    assert_eq!(denial["check"], "rollback");
    assert!(
        denial["why"]
            .as_str()
            .unwrap()
            .contains("has epoch 0, and 7 is recorded")
    );
}
