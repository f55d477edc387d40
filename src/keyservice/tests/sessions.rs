// SPDX-License-Identifier: Apache-2.0
//! Sessions: who they are good for, for what and for how long.

use crate::config::Role;
use crate::keyservice::audit::now_s;
use crate::keyservice::limits::audit_quota::LINES_MAX;
use crate::keyservice::session::{Session, open, seal};
use crate::keyservice::tests::UUID;
use crate::keyservice::tests::rig::Rig;
use crate::protocol::{ATTEST_PATH, RESOURCE_PATH};
use crate::support::caller::record_path;
use crate::support::machine::{Machine, volume};

fn key_path() -> String {
    format!("{RESOURCE_PATH}/nightlatch/volume-key/{UUID}")
}

#[test]
fn a_session_is_good_for_its_own_step_only() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let volumes = [volume(UUID, Role::State, None)];
    let (challenge, challenged) = rig.caller.auth(&machine);
    let request = machine.draft(&challenge, &volumes).request();
    let (admitted, _) = rig.caller.admitted(&machine, &volumes);
    let mut tampered = challenged.clone();
    let last = tampered.pop().unwrap();
    tampered.push(if last == 'A' { 'B' } else { 'A' });
    for wrong in [
        None,
        Some(""),
        Some("x"),
        Some(&tampered[..]),
        Some(&admitted),
    ] {
        let heard = rig.caller.post(ATTEST_PATH, wrong, &request);
        assert_eq!(
            (heard.status, heard.problem().as_str()),
            (401, "TokenNotFound")
        );
        assert_eq!(rig.last()["check"], "session");
    }
    for wrong in [None, Some(&challenged[..])] {
        for path in [key_path(), record_path(UUID)] {
            let heard = rig.caller.get(&path, wrong);
            assert_eq!(
                (heard.status, heard.problem().as_str()),
                (401, "TokenNotFound")
            );
        }
    }
    assert_eq!(
        rig.caller
            .post(ATTEST_PATH, Some(&challenged), &request)
            .status,
        200
    );
    assert_eq!(rig.caller.get(&key_path(), Some(&admitted)).status, 200);
}

#[test]
fn a_session_that_has_ended_is_good_for_nothing() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let volumes = [volume(UUID, Role::State, None)];
    let master = rig.service.keys.master().unwrap();
    let key = master.session_key();
    // The same session, with its end moved.
    let until = |text: &str, until_s: u64| {
        let mut session = open(key, text).unwrap();
        match &mut session {
            Session::Challenged(session) => session.until_s = until_s,
            Session::Admitted(session) => session.until_s = until_s,
        }
        seal(key, &session).unwrap()
    };
    let (challenge, session) = rig.caller.auth(&machine);
    let request = machine.draft(&challenge, &volumes).request();
    let post = |text: &str| rig.caller.post(ATTEST_PATH, Some(text), &request).status;
    assert_eq!(post(&until(&session, now_s() - 1)), 401);
    assert_eq!(rig.last()["check"], "session-expired");
    assert_eq!(post(&until(&session, now_s() + 60)), 200);

    let (session, _) = rig.caller.admitted(&machine, &volumes);
    let get = |text: &str| rig.caller.get(&key_path(), Some(text)).status;
    assert_eq!(get(&until(&session, now_s() - 1)), 401);
    assert_eq!(rig.last()["check"], "session-expired");
    assert_eq!(get(&until(&session, now_s() + 60)), 200);
}

#[test]
fn who_was_admitted_once_has_no_lines_without_end() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let (session, _) = rig
        .caller
        .admitted(&machine, &[volume(UUID, Role::State, None)]);
    let master = rig.service.keys.master().unwrap();
    let key = master.session_key();
    let mut ended = open(key, &session).unwrap();
    match &mut ended {
        Session::Challenged(session) => session.until_s = now_s() - 1,
        Session::Admitted(session) => session.until_s = now_s() - 1,
    }
    let ended = seal(key, &ended).unwrap();
    let asked = usize::try_from(LINES_MAX).unwrap() + 4;
    let lines = |check: &str| {
        let audit = rig.audit();
        audit.iter().filter(|line| line["check"] == check).count()
    };
    for _ in 0..asked {
        assert_eq!(rig.caller.get(&key_path(), Some(&ended)).status, 401);
    }
    assert_eq!(lines("session-expired"), asked - 4);
    // The control: what a machine does in its session is written down, all of it.
    let other = format!(
        "{RESOURCE_PATH}/nightlatch/volume-key/{}",
        UUID.replace('5', "6")
    );
    for _ in 0..asked {
        assert_ne!(rig.caller.get(&other, Some(&session)).status, 200);
    }
    assert_eq!(lines("volume-claim"), asked);
}

#[test]
fn any_replica_takes_any_step() {
    let (one, strange) = (Rig::start(), Rig::start());
    let two = one.replica();
    let machine = Machine::new(1);
    let volumes = [volume(UUID, Role::State, None)];
    let (challenge, session) = one.caller.auth(&machine);
    let draft = machine.draft(&challenge, &volumes);
    let attest = |rig: &Rig| {
        rig.caller
            .post(ATTEST_PATH, Some(&session), &draft.request())
    };
    // A service with another secret does not.
    assert_eq!(attest(&strange).status, 401);
    let heard = attest(&two);
    assert_eq!(heard.status, 200);
    let secret = one.caller.resource(
        &heard.session(),
        &draft,
        &format!("nightlatch/volume-key/{UUID}"),
    );
    let expected = one.master_secret().derive(&one.salt(), UUID).unwrap();
    assert_eq!(secret, expected.expose());
    drop(two);
}
