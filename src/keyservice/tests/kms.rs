// SPDX-License-Identifier: Apache-2.0
//! A running service whose master secret a KMS unwraps: what nodes, operators and the log see of its answers. The clock of
//! the rechecks is the test's: the service itself asks for the first time after ten minutes.

use std::time::{Duration, Instant};

use super::UUID;
use super::operations::plain;
use super::rig::Rig;
use crate::config::Role;
use crate::keyservice::kms::tests::{Engine, errors};
use crate::keyservice::kms::watch::ANSWER_MAX;
use crate::protocol::AUTH_PATH;
use crate::support::machine::{Machine, volume};

const RECHECK_S: u64 = 600;
const GRACE_S: u64 = 3600;

/// A service with an engine of its own, and the time of its start.
struct Served {
    rig: Rig,
    engine: Engine,
    start: Instant,
    session: String,
}

impl Served {
    fn start() -> Self {
        let engine = Engine::start();
        let lines = format!("recheck-s = {RECHECK_S}\ngrace-s = {GRACE_S}\ndeadline-s = 20");
        let rig = Rig::wrapped(&engine, &lines);
        let volumes = [volume(UUID, Role::State, None)];
        let (session, _) = rig.caller.admitted(&Machine::new(1), &volumes);
        Self {
            rig,
            engine,
            start: Instant::now(),
            session,
        }
    }

    /// What the engine answers from now on.
    fn always(&self, status: u16, error: &str) {
        self.engine.always(status, &errors(status, error).1);
    }

    /// Rechecks so many seconds after the start, which is not before the first one is due.
    fn recheck(&self, second: u64) {
        let now = self.start + Duration::from_secs(second);
        self.rig.service.recheck(now);
    }

    /// Whether all that a node may ask for is given, the session being one of before; else whether it is told to come back.
    fn gives(&self) -> bool {
        let path = format!("/kbs/v0/resource/nightlatch/volume-key/{UUID}");
        let caller = &self.rig.caller;
        let key = caller.get(&path, Some(&self.session));
        let nonce = caller.post(AUTH_PATH, None, &Machine::new(1).introduction());
        let ready = plain(&self.rig, "/readyz").0;
        match [key.status, nonce.status, ready] {
            [200, 200, 200] => true,
            [503, 503, 503] => {
                for heard in [key, nonce] {
                    assert!(
                        heard.head.to_lowercase().contains("retry-after: 30"),
                        "{heard:?}"
                    );
                }
                false
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the audit log has of the KMS.
    fn events(&self) -> Vec<String> {
        let word =
            |line: &serde_json::Value, name: &str| line[name].as_str().unwrap_or("-").to_owned();
        let lines = self.rig.audit().into_iter();
        let lines = lines.filter(|line| line["step"] == "kms");
        lines
            .map(|line| format!("{} {}", word(&line, "event"), word(&line, "check")))
            .collect()
    }
}

#[test]
fn a_key_that_is_gone_ends_releases_when_it_is_said_twice_and_its_return_begins_them() {
    let served = Served::start();
    assert!(served.gives());
    served.always(400, "encryption key not found");
    served.recheck(RECHECK_S);
    // Once is no proof, nor twice within a minute.
    assert!(served.gives());
    served.recheck(RECHECK_S + 59);
    assert!(served.gives());
    let before = served.rig.service.keys.master().unwrap();
    served.recheck(RECHECK_S + 90);
    assert!(!served.gives());
    // Nobody but this test has what was held: with the last of it the bytes are wiped.
    assert_eq!(std::sync::Arc::strong_count(&before), 1);
    let failure = served.rig.last();
    assert_eq!(failure["event"], "failure");
    assert_eq!(failure["check"], "kms-gone");

    served.engine.restore();
    served.recheck(RECHECK_S + 150);
    assert!(served.gives());
    assert_eq!(
        served.events(),
        ["kms-failure kms-gone", "kms-stop kms-gone", "kms-resume -"]
    );
}

#[test]
fn a_kms_that_is_away_ends_releases_when_the_grace_is_over() {
    let served = Served::start();
    served.always(503, "Vault is sealed");
    served.recheck(RECHECK_S);
    served.recheck(GRACE_S - 60);
    assert!(served.gives());
    served.recheck(GRACE_S);
    assert!(!served.gives());
    served.engine.restore();
    served.recheck(GRACE_S + 60);
    assert!(served.gives());
    assert_eq!(
        served.events(),
        ["kms-failure kms-away", "kms-stop kms-away", "kms-resume -"]
    );
}

#[test]
fn a_question_without_an_end_ends_releases_and_its_answer_begins_them() {
    let served = Served::start();
    let end = GRACE_S + ANSWER_MAX.as_secs();
    let watch = |second| {
        let now = served.start + Duration::from_secs(second);
        served.rig.service.watch_rechecks(now);
    };
    watch(end - 60);
    assert!(served.gives());
    // Nothing was heard since the start, which was a moment before the test's.
    watch(end);
    assert!(!served.gives());
    served.recheck(end + 1);
    assert!(served.gives());
    assert_eq!(served.events(), ["kms-stop kms-away", "kms-resume -"]);
}

#[test]
fn what_the_kms_is_asked_is_counted() {
    let served = Served::start();
    served.always(403, "permission denied");
    served.recheck(RECHECK_S);
    served.engine.restore();
    served.recheck(RECHECK_S + 61);
    let (_, text) = plain(&served.rig, "/metrics");
    for line in [
        r#"nightlatchd_kms_calls_total{outcome="denied"} 1"#,
        r#"nightlatchd_kms_calls_total{outcome="ok"} 1"#,
        r#"nightlatchd_kms_calls_total{outcome="gone"} 0"#,
        "nightlatchd_kms_call_seconds_count 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(
        text.contains("\nnightlatchd_kms_unwrap_age_seconds "),
        "{text}"
    );
    // The control: a service without a KMS has none of it.
    assert!(!plain(&Rig::start(), "/metrics").1.contains("kms_"));
}

#[test]
fn a_store_that_has_seen_the_fleet_does_not_start_with_another_master_secret() {
    let engine = Engine::start();
    let lines = "recheck-s = 0\ndeadline-s = 20";
    let (rig, other) = (Rig::wrapped(&engine, lines), Rig::wrapped(&engine, lines));
    rig.reopen().unwrap();
    let name = "mastersecret.wrapped.json";
    std::fs::copy(other.path(name), rig.path(name)).unwrap();
    let error = rig.reopen().unwrap_err();
    assert_eq!(error.exit(), crate::error::Exit::Refused);
    let told = error.to_string();
    assert!(
        told.contains("the store has seen another master secret"),
        "{told}"
    );
}
