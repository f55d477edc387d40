// SPDX-License-Identifier: Apache-2.0
//! Whose a volume is, and what is no volume.

use std::sync::Barrier;

use crate::config::Role;
use crate::keyservice::registry;
use crate::keyservice::tests::rig::Rig;
use crate::keyservice::tests::{OTHER_UUID, UUID};
use crate::protocol::{RESOURCE_PATH, VolumeRecord};
use crate::support::caller::record_path;
use crate::support::machine::{Machine, volume};

/// Names that something else is derived under, and other ways to write a UUID.
fn no_volumes() -> [String; 7] {
    [
        "measurementSecret".into(),
        "clusterID".into(),
        "ca_emergency_ssh".into(),
        UUID.to_uppercase(),
        UUID.replace('-', ""),
        format!("{UUID}%20"),
        "..".into(),
    ]
}

#[test]
fn another_machines_volume_is_denied_and_the_log_names_the_owner() {
    let rig = Rig::start();
    let (owner, other) = (Machine::new(1), Machine::new(2));
    let volumes = [volume(UUID, Role::State, None)];
    rig.caller.admitted(&owner, &volumes);
    let both = [
        volume(OTHER_UUID, Role::State, None),
        volume(UUID, Role::State, None),
    ];
    let (heard, _) = rig.caller.attest(&other, &both, |_| ());
    assert_eq!(
        (heard.status, heard.problem().as_str()),
        (401, "PolicyDeny")
    );
    assert!(
        !String::from_utf8(heard.body)
            .unwrap()
            .contains(&owner.ek_id())
    );
    let denial = rig.last();
    assert_eq!(denial["check"], "owner");
    assert!(
        denial["why"].as_str().unwrap().contains(&owner.ek_id()),
        "{denial}"
    );
    // Nothing was registered beside it, and each gets its own.
    assert_eq!(
        registry::volume(
            &rig.service.store,
            &OTHER_UUID.to_owned().try_into().unwrap()
        )
        .unwrap(),
        None
    );
    rig.caller.admitted(&owner, &volumes);
    rig.caller
        .admitted(&other, &[volume(OTHER_UUID, Role::State, None)]);
}

#[test]
fn of_many_machines_that_claim_a_volume_at_once_one_gets_it() {
    let rig = Rig::start();
    for round in 0..5_u8 {
        let uuid = UUID.replace("a6c7", &format!("a6{round:02x}"));
        let start = Barrier::new(4);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let (rig, start, uuid) = (&rig, &start, &uuid);
            let claim = move |number| {
                let machine = Machine::new(number);
                let (challenge, session) = rig.caller.auth(&machine);
                let draft = machine.draft(&challenge, &[volume(uuid, Role::State, None)]);
                let request = draft.request();
                start.wait();
                rig.caller
                    .post("/kbs/v0/attest", Some(&session), &request)
                    .status
            };
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || claim(n))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(
            statuses.iter().filter(|status| **status == 200).count(),
            1,
            "{statuses:?}"
        );
    }
}

#[test]
fn what_is_no_volume_is_neither_admitted_nor_served() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let (session, _) = rig
        .caller
        .admitted(&machine, &[volume(UUID, Role::State, None)]);
    for name in no_volumes() {
        let (heard, _) = rig
            .caller
            .attest(&machine, &[volume(&name, Role::State, None)], |_| ());
        assert_eq!(heard.status, 401, "{name}");
        assert_eq!(rig.last()["check"], "volume-id", "{name}");
        for path in [
            format!("{RESOURCE_PATH}/nightlatch/volume-key/{name}"),
            record_path(&name),
        ] {
            let heard = rig.caller.get(&path, Some(&session));
            assert_eq!(heard.status, 404, "{path}");
            assert_eq!(heard.problem(), "InvalidRequestPath");
            assert_eq!(rig.last()["check"], "volume-id", "{name}");
        }
    }
    let path = format!("{RESOURCE_PATH}/nightlatch/volume-key/{UUID}");
    assert_eq!(rig.caller.get(&path, Some(&session)).status, 200);
}

#[test]
fn other_resources_do_not_exist() {
    let rig = Rig::start();
    let (session, _) = rig
        .caller
        .admitted(&Machine::new(1), &[volume(UUID, Role::State, None)]);
    for path in [
        format!("default/volume-key/{UUID}"),
        format!("nightlatch/key/{UUID}"),
        format!("nightlatch/measurement/{UUID}"),
        "nightlatch/volume-key/cluster".into(),
        "nightlatch/measurement".into(),
        format!("nightlatch/volume-key/{UUID}/x"),
    ] {
        let heard = rig
            .caller
            .get(&format!("{RESOURCE_PATH}/{path}"), Some(&session));
        assert_eq!(heard.status, 404, "{path}");
    }
    let path = format!("{RESOURCE_PATH}/nightlatch/volume-key/{UUID}");
    assert_eq!(rig.caller.post(&path, Some(&session), &0).status, 404);
    assert_eq!(rig.caller.get("/kbs/v0/auth", None).status, 404);
    assert_eq!(rig.caller.get(&path, Some(&session)).status, 200);
}

#[test]
fn a_volume_that_was_not_claimed_is_not_served() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    rig.caller
        .admitted(&machine, &[volume(OTHER_UUID, Role::State, None)]);
    let (session, _) = rig
        .caller
        .admitted(&machine, &[volume(UUID, Role::State, None)]);
    let key = |uuid: &str| format!("{RESOURCE_PATH}/nightlatch/volume-key/{uuid}");
    for path in [key(OTHER_UUID), record_path(OTHER_UUID)] {
        let heard = rig.caller.get(&path, Some(&session));
        assert_eq!(
            (heard.status, heard.problem().as_str()),
            (401, "PolicyDeny")
        );
        assert_eq!(rig.last()["check"], "volume-claim");
    }
    let told = VolumeRecord {
        key_id: None,
        epoch: 7,
        nonce: None,
    };
    assert_eq!(
        rig.caller
            .post(&record_path(OTHER_UUID), Some(&session), &told)
            .status,
        401
    );
    assert_eq!(
        rig.caller
            .post(&record_path(UUID), Some(&session), &told)
            .status,
        200
    );
}

#[test]
fn a_volume_keeps_its_role() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    rig.caller
        .admitted(&machine, &[volume(UUID, Role::State, None)]);
    let (heard, _) = rig
        .caller
        .attest(&machine, &[volume(UUID, Role::Root, None)], |_| ());
    assert_eq!(heard.status, 401);
    assert_eq!(rig.last()["check"], "volume-role");
    rig.caller
        .admitted(&machine, &[volume(UUID, Role::State, None)]);
}

#[test]
fn a_denial_for_one_volume_of_several_names_it() {
    let rig = Rig::start();
    let (machine, other) = (Machine::new(1), Machine::new(2));
    let [theirs, rolled_back] = ["1", "2"].map(|digit| UUID.replace("a6c7535", &digit.repeat(7)));
    rig.caller
        .admitted(&other, &[volume(&theirs, Role::State, None)]);
    let claims = [
        volume(UUID, Role::State, None),
        volume(&rolled_back, Role::State, None),
    ];
    let (session, _) = rig.caller.admitted(&machine, &claims);
    let told = VolumeRecord {
        key_id: None,
        epoch: 7,
        nonce: None,
    };
    let heard = rig
        .caller
        .post(&record_path(&rolled_back), Some(&session), &told);
    assert_eq!(heard.status, 200);
    let upper = OTHER_UUID.to_uppercase();
    let good = volume(OTHER_UUID, Role::State, None);
    for (check, bad) in [
        ("owner", volume(&theirs, Role::State, None)),
        ("volume-role", volume(UUID, Role::Root, None)),
        ("rollback", volume(&rolled_back, Role::State, Some(6))),
        ("rollback", volume(&rolled_back, Role::State, None)),
        ("volume-id", volume(&upper, Role::State, None)),
    ] {
        let claims = [good.clone(), bad.clone()];
        let (heard, _) = rig.caller.attest(&machine, &claims, |_| ());
        assert_eq!(heard.status, 401, "{check}");
        let denial = rig.last();
        assert_eq!(denial["check"], check);
        assert!(
            denial["why"].as_str().unwrap().contains(&bad.uuid),
            "{denial}"
        );
    }
    let claims = [good, volume(&rolled_back, Role::State, Some(7))];
    rig.caller.admitted(&machine, &claims);
}

#[test]
fn a_volume_that_was_forgotten_meanwhile_is_not_served() {
    let rig = Rig::start();
    let (session, _) = rig
        .caller
        .admitted(&Machine::new(1), &[volume(UUID, Role::State, None)]);
    let path = format!("{RESOURCE_PATH}/nightlatch/volume-key/{UUID}");
    assert_eq!(rig.caller.get(&path, Some(&session)).status, 200);
    let store = &rig.service.store;
    let entry = store.get(&format!("volume/{UUID}")).unwrap().unwrap();
    assert!(store.remove(&entry).unwrap());
    assert_eq!(rig.caller.get(&path, Some(&session)).status, 401);
    assert_eq!(rig.last()["check"], "owner");
}

#[test]
fn a_node_is_remembered_with_its_last_denial() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let volumes = [volume(UUID, Role::State, None)];
    let seen = || {
        rig.service.sightings.flush(&rig.service.store).unwrap();
        registry::node(&rig.service.store, &machine.ek_id()).unwrap()
    };
    // A denial without a registration leaves nothing.
    rig.caller
        .attest(&machine, &volumes, |draft| draft.magic = 0);
    assert_eq!(seen(), None);
    rig.caller.admitted(&machine, &volumes);
    let first = seen().unwrap();
    assert_eq!(
        (first.image.as_str(), first.address.as_str(), &first.denial),
        ("usual", "127.0.0.1", &None)
    );
    // Who did not open the credential may be anybody.
    rig.caller.attest(&machine, &volumes, |draft| {
        draft.claims.credential.0.clear();
    });
    assert_eq!(seen().unwrap().denial, None);
    rig.caller
        .attest(&machine, &volumes, |draft| draft.magic = 0);
    assert_eq!(seen().unwrap().denial.unwrap().check, "magic");
}
