// SPDX-License-Identifier: Apache-2.0
//! Each check of evidence alone: one thing is wrong and signed as it is, and the same machine is admitted without it.

use super::rig::{Rig, policy};
use super::{OTHER_UUID, UUID};
use crate::config::Role;
use crate::protocol::Bytes;
use crate::support::machine::{Draft, Key, Machine, USUAL, key, spki, userspace_record, volume};

/// One thing that is wrong, and the check that has to say so.
type Wrong = (&'static str, fn(&mut Draft));

fn other_key() -> Key {
    key(&[3; 32])
}

const WRONG: [Wrong; 22] = [
    ("signature", |draft| draft.signer = other_key()),
    ("magic", |draft| draft.magic = 0xff54_4348),
    ("type", |draft| draft.kind = 0x8017),
    // Another register more or less is another quote.
    ("selection", |draft| draft.selection = [0xff, 0xff, 0x7f]),
    ("selection", |draft| draft.selection = [0xff, 0x7f, 0xff]),
    ("selection", |draft| draft.algorithm = 0x0004),
    ("digest", |draft| draft.quoted[11] = [0x12; 32]),
    ("digest", |draft| draft.given[11] = [0x12; 32]),
    ("digest", |draft| {
        draft.given.pop();
    }),
    ("nonce", |draft| draft.runtime_data.nonce = "AAAA".into()),
    ("nonce", |draft| draft.qualifying = Some([0; 32])),
    ("ak-key", |draft| draft.ak_spki = spki(&other_key())),
    ("credential", |draft| {
        draft.claims.credential = Bytes(vec![0; 32]);
    }),
    ("credential", |draft| {
        draft.claims.credential = Bytes(vec![]);
    }),
    ("early-boot", |draft| {
        draft.quoted[15] = [1; 32];
        draft.given[15] = [1; 32];
    }),
    ("event-log", |draft| {
        draft.claims.userspace_log = Some(Bytes(userspace_record(15, "cluster")));
    }),
    ("userspace-log", |draft| {
        draft.claims.userspace_log = Some(Bytes(b"\x1eno record\n".to_vec()));
    }),
    ("firmware-log", |draft| {
        draft.claims.firmware_log = Some(Bytes(vec![0; 10]));
    }),
    ("image", |draft| {
        draft.quoted[11] = [0x12; 32];
        draft.given[11] = [0x12; 32];
    }),
    ("tee-pubkey", |draft| {
        draft.runtime_data.tee_pubkey.x = draft.runtime_data.tee_pubkey.y.clone();
    }),
    ("volume-count", |draft| {
        let claim = |n| {
            volume(
                &UUID.replace("a6c7", &format!("a6{n:02x}")),
                Role::State,
                None,
            )
        };
        draft.claims.volumes = (0..17).map(claim).collect();
    }),
    ("volume-id", |draft| {
        let again = draft.claims.volumes[0].clone();
        draft.claims.volumes.push(again);
    }),
];

#[test]
fn each_check_alone_denies_and_says_so_in_the_log_only() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let volumes = [volume(UUID, Role::State, None)];
    for (number, (check, change)) in WRONG.into_iter().enumerate() {
        let (heard, _) = rig.caller.attest(&machine, &volumes, change);
        assert_eq!(heard.status, 401, "{number} {check}: {heard:?}");
        assert_eq!(heard.problem(), "PolicyDeny", "{check}");
        let text = String::from_utf8(heard.body).unwrap();
        assert!(
            text.ends_with("\"detail\":\"this machine may not have it\"}"),
            "{text}"
        );
        let denial = rig.last();
        assert_eq!(
            (&denial["event"], &denial["check"]),
            (&"denial".into(), &check.into()),
            "{denial}"
        );
        assert_eq!(denial["ek"], machine.ek_id());
        // The control: the same without it.
        let (heard, _) = rig.caller.attest(&machine, &volumes, |_| ());
        assert_eq!(heard.status, 200, "{heard:?}");
    }
}

#[test]
fn a_denial_for_the_image_names_the_register_and_both_values() {
    let rig = Rig::start();
    let mut machine = Machine::new(1);
    machine.pcrs[11] = [0x12; 32];
    let volumes = [volume(UUID, Role::State, None)];
    let (heard, _) = rig.caller.attest(&machine, &volumes, |_| ());
    assert_eq!(heard.status, 401);
    let why = rig.last()["why"].as_str().unwrap().to_owned();
    let (expected, found) = (hex::encode(USUAL), hex::encode([0x12; 32]));
    assert_eq!(
        why,
        format!("nearest image usual: PCR 11: expected {expected}, found {found}")
    );
}

#[test]
fn an_event_log_that_the_registers_follow_from_is_accepted() {
    let rig = Rig::start();
    let volumes = [volume(UUID, Role::State, None)];
    let (heard, _) = rig.caller.attest(&Machine::new(1), &volumes, |draft| {
        draft.claims.userspace_log = Some(Bytes(userspace_record(11, "enter-initrd")));
    });
    assert_eq!(heard.status, 200, "{heard:?}");
}

#[test]
fn what_was_claimed_cannot_be_changed_after_the_quote() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let attest = |from: &str, to: &str| {
        let (challenge, session) = rig.caller.auth(&machine);
        let draft = machine.draft(&challenge, &[volume(UUID, Role::State, None)]);
        let mut request = draft.request();
        let text = &mut request.tee_evidence.additional_evidence;
        assert!(text.contains(from));
        *text = text.replace(from, to);
        rig.caller
            .post("/kbs/v0/attest", Some(&session), &request)
            .status
    };
    assert_eq!(attest(UUID, UUID), 200);
    assert_eq!(attest(UUID, OTHER_UUID), 401);
    assert_eq!(rig.last()["check"], "nonce");
    assert_eq!(attest("\"state\"", "\"root\""), 401);
    assert_eq!(rig.last()["check"], "nonce");
}

#[test]
fn a_quote_for_another_session_is_refused() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let volumes = [volume(UUID, Role::State, None)];
    let (challenge, session) = rig.caller.auth(&machine);
    let (_, other_session) = rig.caller.auth(&machine);
    let request = machine.draft(&challenge, &volumes).request();
    let post = |session: &str| {
        rig.caller
            .post("/kbs/v0/attest", Some(session), &request)
            .status
    };
    assert_eq!(post(&other_session), 401);
    // What the credential held is the first thing that is another session's.
    assert_eq!(rig.last()["check"], "credential");
    assert_eq!(post(&session), 200);
}

#[test]
fn a_recorded_quote_is_no_answer_to_a_new_nonce() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let volumes = [volume(UUID, Role::State, None)];
    let (old, old_session) = rig.caller.auth(&machine);
    let recorded = machine.draft(&old, &volumes);
    let heard = rig
        .caller
        .post("/kbs/v0/attest", Some(&old_session), &recorded.request());
    assert_eq!(heard.status, 200);
    let additional = recorded.request().tee_evidence.additional_evidence;
    let qualifying = recorded.runtime_data.qualifying(&additional).unwrap();

    let (new, session) = rig.caller.auth(&machine);
    let attest = |change: &dyn Fn(&mut Draft)| {
        // The credential is opened anew, so that nothing but the nonce is old.
        let mut draft = machine.draft(&new, &volumes);
        change(&mut draft);
        let request = draft.request();
        rig.caller
            .post("/kbs/v0/attest", Some(&session), &request)
            .status
    };
    // The old nonce beside the old quote, and the new nonce beside it.
    assert_eq!(
        attest(&|draft| draft.runtime_data = recorded.runtime_data.clone()),
        401
    );
    assert_eq!(rig.last()["check"], "nonce");
    assert_eq!(attest(&|draft| draft.qualifying = Some(qualifying)), 401);
    assert_eq!(rig.last()["check"], "nonce");
    assert_eq!(attest(&|_| ()), 200);
}

#[test]
fn an_attestation_key_of_another_tpm_is_refused() {
    let rig = Rig::start();
    let volumes = [volume(UUID, Role::State, None)];
    let (honest, other) = (Machine::new(1), Machine::new(2));
    // The service makes a credential for the pair, and neither TPM opens it: one lacks the attestation key, the other
    // the endorsement key.
    let liar = honest.clone().with_ak_of(&other);
    let (challenge, session) = rig.caller.auth(&liar);
    let credential = challenge.credential().unwrap().unwrap();
    assert_eq!(honest.activate(&credential), None);
    assert_eq!(other.activate(&credential), None);
    let mut draft = liar.draft(&challenge, &volumes);
    draft.claims.credential = Bytes(vec![0; 32]);
    let heard = rig
        .caller
        .post("/kbs/v0/attest", Some(&session), &draft.request());
    assert_eq!(heard.status, 401);
    assert_eq!(rig.last()["check"], "credential");
    // The control: a TPM with both opens it.
    rig.caller.admitted(&honest, &volumes);
}

#[test]
fn a_role_that_may_not_have_a_kind_of_volume_does_not_get_it() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let narrow = policy(&[machine.ek_id()], &USUAL).replace(", \"root\"", "");
    let policy = crate::evidence::Policy::parse(&narrow, |_| unreachable!()).unwrap();
    rig.service.set_policy(policy);
    let attest = |role| {
        let (heard, _) = rig
            .caller
            .attest(&machine, &[volume(UUID, role, None)], |_| ());
        heard.status
    };
    assert_eq!(attest(Role::Root), 401);
    assert_eq!(rig.last()["check"], "role");
    assert_eq!(attest(Role::State), 200);
}

#[test]
fn a_machine_without_volumes_of_the_services_gets_the_clusters_secret_where_a_role_may_boot_its_image()
 {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let (session, draft) = rig.caller.admitted(&machine, &[]);
    let both = rig
        .caller
        .resource(&session, &draft, "nightlatch/measurement/cluster");
    assert_eq!(both.len(), 64);
    // It has not asked for any volume.
    let path = format!("/kbs/v0/resource/nightlatch/volume-key/{UUID}");
    assert_eq!(rig.caller.get(&path, Some(&session)).status, 401);
    assert_eq!(rig.last()["check"], "volume-claim");

    let text = policy(&[machine.ek_id()], &USUAL);
    let (images, other) = (
        "images = [\"usual\"]",
        format!(
            "images = [\"other\"]\n[[image]]\nname = \"other\"\npcrs = {{ 11 = [\"{}\"] }}",
            "00".repeat(32)
        ),
    );
    assert!(text.contains(images));
    let policy = crate::evidence::Policy::parse(&text.replace(images, &other), |_| unreachable!());
    rig.service.set_policy(policy.unwrap());
    let (heard, _) = rig.caller.attest(&machine, &[], |_| ());
    assert_eq!(heard.status, 401);
    assert_eq!(rig.last()["check"], "role");
}
