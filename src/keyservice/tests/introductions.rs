// SPDX-License-Identifier: Apache-2.0
//! Who is turned away at the first step.

use super::rig::{Rig, policy};
use crate::protocol::{AUTH_PATH, AuthRequest, Bytes, Introduction};
use crate::support::machine::{
    AK_ATTRIBUTES, EK_ATTRIBUTES, EK_POLICY, Machine, RESTRICTED, USUAL,
};

/// What is wrong, the status, and the check that has to say so.
type Wrong = (&'static str, u16, fn(&mut AuthRequest));

fn introduction(request: &mut AuthRequest) -> &mut Introduction {
    request.extra_params.nightlatch.as_mut().unwrap()
}

const WRONG: [Wrong; 9] = [
    ("protocol-version", 400, |request| {
        request.version = "0.4.1".into();
    }),
    ("protocol-version", 400, |request| {
        request.version = String::new();
    }),
    ("tee", 400, |request| request.tee = "sample".into()),
    ("extension", 401, |request| {
        request.extra_params.nightlatch = None;
    }),
    ("extension-version", 400, |request| {
        introduction(request).version = 2;
    }),
    ("encoding", 401, |request| {
        introduction(request).ek_public.0.pop();
    }),
    ("encoding", 401, |request| {
        introduction(request).ak_public.0.push(0);
    }),
    // Each key in the other's place.
    ("ek-template", 401, |request| {
        introduction(request).ek_public = introduction(request).ak_public.clone();
    }),
    ("ak-attributes", 401, |request| {
        introduction(request).ak_public = introduction(request).ek_public.clone();
    }),
];

#[test]
fn an_introduction_with_one_thing_wrong_is_turned_away() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    for (number, (check, status, change)) in WRONG.into_iter().enumerate() {
        let mut request = machine.introduction();
        change(&mut request);
        let heard = rig.caller.post(AUTH_PATH, None, &request);
        assert_eq!(heard.status, status, "{number} {check}: {heard:?}");
        assert_eq!(rig.last()["check"], check, "{number}");
        rig.caller.auth(&machine);
    }
}

#[test]
fn a_key_that_signs_what_it_is_given_is_no_attestation_key() {
    let rig = Rig::start();
    let free = Machine::new(1).with_ak_attributes(AK_ATTRIBUTES & !RESTRICTED);
    let heard = rig.caller.post(AUTH_PATH, None, &free.introduction());
    assert_eq!(heard.status, 401);
    assert_eq!(rig.last()["check"], "ak-attributes");
    rig.caller.auth(&Machine::new(1));
}

/// A certificate vouches for a key. Whoever could write the rest as he likes would be as many machines as he likes.
#[test]
fn an_endorsement_key_in_another_public_area_is_turned_away() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let introduce = |public: Vec<u8>| {
        // Each is enrolled, so that nothing but the template speaks against it.
        let id = hex::encode(crate::pcr::Bank::Sha256.hash(&public));
        let text = policy(&[id], &USUAL);
        let policy = crate::evidence::Policy::parse(&text, |_| unreachable!()).unwrap();
        rig.service.set_policy(policy);
        let mut request = machine.introduction();
        introduction(&mut request).ek_public = Bytes(public);
        rig.caller.post(AUTH_PATH, None, &request).status
    };
    let no_da = 1 << 10;
    for (attributes, policy) in [
        (EK_ATTRIBUTES, &[][..]),
        (EK_ATTRIBUTES, &[7; 32]),
        (EK_ATTRIBUTES | no_da, &EK_POLICY),
    ] {
        assert_eq!(introduce(machine.ek_public_with(attributes, policy)), 401);
        assert_eq!(rig.last()["check"], "ek-template");
    }
    assert_eq!(introduce(machine.ek_public()), 200);
}

#[test]
fn a_foreign_endorsement_key_is_turned_away() {
    let rig = Rig::start();
    let stranger = Machine::new(99);
    let mut request = stranger.introduction();
    let heard = rig.caller.post(AUTH_PATH, None, &request);
    assert_eq!(
        (heard.status, heard.problem().as_str()),
        (401, "PolicyDeny")
    );
    let denial = rig.last();
    assert_eq!(denial["check"], "ek-trust");
    assert!(
        denial["why"].as_str().unwrap().contains(&stranger.ek_id()),
        "{denial}"
    );
    // A certificate does not help where the policy trusts nobody to make one.
    introduction(&mut request).ek_certificate = Some(Bytes(vec![0x30, 0]));
    assert_eq!(rig.caller.post(AUTH_PATH, None, &request).status, 401);
    rig.caller.auth(&Machine::new(1));
}

#[test]
fn bodies_that_are_no_json_or_something_else_are_malformed() {
    let rig = Rig::start();
    let whole = serde_json::to_vec(&Machine::new(1).introduction()).unwrap();
    for body in [&b""[..], b"{}", b"[]", b"\xff", &whole[..whole.len() - 1]] {
        let heard = rig.caller.send("POST", AUTH_PATH, None, body).unwrap();
        assert_eq!(
            (heard.status, heard.problem().as_str()),
            (400, "SerdeError")
        );
        assert_eq!(rig.last()["check"], "body");
    }
    let heard = rig.caller.send("POST", AUTH_PATH, None, &whole).unwrap();
    assert_eq!(heard.status, 200);
}
