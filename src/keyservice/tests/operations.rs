// SPDX-License-Identifier: Apache-2.0
//! What whoever runs the service sees and changes while it runs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::UUID;
use super::rig::{Rig, policy};
use crate::clock::limit;
use crate::config::Role;
use crate::support::caller::{Caller, certificate};
use crate::support::machine::{Machine, USUAL, volume};

/// Longer than the service takes to notice a change by far.
fn soon() -> Duration {
    limit(Duration::from_secs(30))
}

pub(crate) fn plain(rig: &Rig, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(rig.operations.unwrap()).unwrap();
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    let status = heard.split(' ').nth(1).unwrap().parse().unwrap();
    (status, heard)
}

/// Waits for something that the service does by itself.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + soon();
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn health_and_readiness_are_told_in_both_places_and_metrics_in_one() {
    let rig = Rig::start();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(plain(&rig, path).0, 200);
        assert_eq!(rig.caller.get(path, None).status, 200);
    }
    assert_eq!(rig.caller.get("/metrics", None).status, 404);
    assert_eq!(plain(&rig, "/kbs/v0/auth").0, 404);
    let store = rusqlite::Connection::open(rig.path("store.sqlite")).unwrap();
    store
        .execute_batch("ALTER TABLE entry RENAME TO gone")
        .unwrap();
    eventually("that it is not ready", || plain(&rig, "/readyz").0 == 503);
    assert_eq!(rig.caller.get("/readyz", None).status, 503);
    assert_eq!(plain(&rig, "/healthz").0, 200);
    // Nobody is admitted, and nobody is told that it is their fault.
    let (heard, _) =
        rig.caller
            .attest(&Machine::new(1), &[volume(UUID, Role::State, None)], |_| ());
    assert_eq!(
        (heard.status, heard.problem().as_str()),
        (503, "PluginInternalError")
    );
    assert!(
        heard.head.to_lowercase().contains("retry-after: 5"),
        "{heard:?}"
    );
    assert_eq!(rig.last()["event"], "failure");
    store
        .execute_batch("ALTER TABLE gone RENAME TO entry")
        .unwrap();
    eventually("that it is ready", || plain(&rig, "/readyz").0 == 200);
    rig.caller
        .admitted(&Machine::new(1), &[volume(UUID, Role::State, None)]);
}

#[test]
fn what_happened_is_counted_by_step_outcome_and_reason() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let volumes = [volume(UUID, Role::State, None)];
    rig.caller
        .attest(&machine, &volumes, |draft| draft.magic = 0);
    let (session, draft) = rig.caller.admitted(&machine, &volumes);
    rig.caller
        .resource(&session, &draft, &format!("nightlatch/volume-key/{UUID}"));
    let (_, text) = plain(&rig, "/metrics");
    for line in [
        r#"nightlatchd_requests_total{step="auth",outcome="ok",reason=""} 2"#,
        r#"nightlatchd_requests_total{step="attest",outcome="denied",reason="magic"} 1"#,
        r#"nightlatchd_requests_total{step="attest",outcome="ok",reason=""} 1"#,
        r#"nightlatchd_requests_total{step="resource",outcome="ok",reason=""} 1"#,
        r#"nightlatchd_request_seconds_count{step="attest"} 2"#,
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn without_its_audit_log_the_service_gives_nothing_away() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let volumes = [volume(UUID, Role::State, None)];
    let (session, _) = rig.caller.admitted(&machine, &volumes);
    let path = format!("/kbs/v0/resource/nightlatch/volume-key/{UUID}");
    assert_eq!(rig.caller.get(&path, Some(&session)).status, 200);
    // A device on which every write fails, as on a full disk.
    let log = rig.path("audit.jsonl");
    fs::rename(&log, rig.path("audit.old")).unwrap();
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    rig.service.audit.reopen().unwrap();
    let heard = rig.caller.get(&path, Some(&session));
    assert_eq!(
        (heard.status, heard.problem().as_str()),
        (503, "PluginInternalError")
    );
    fs::remove_file(&log).unwrap();
    rig.service.audit.reopen().unwrap();
    assert_eq!(rig.caller.get(&path, Some(&session)).status, 200);
}

#[test]
fn a_changed_policy_is_in_force_soon_and_a_broken_one_never() {
    let rig = Rig::start();
    let (old, new) = (Machine::new(1), Machine::new(50));
    let file = rig.path("policy.toml");
    let auth = |machine: &Machine| {
        let heard = rig
            .caller
            .post("/kbs/v0/auth", None, &machine.introduction());
        heard.status
    };
    assert_eq!((auth(&old), auth(&new)), (200, 401));
    fs::write(&file, policy(&[new.ek_id()], &USUAL)).unwrap();
    eventually("the new policy", || (auth(&old), auth(&new)) == (401, 200));
    fs::write(&file, "[[image]]\n").unwrap();
    let failed = r#"nightlatchd_reloads_total{what="policy",outcome="failed"} 1"#;
    eventually("a failure", || plain(&rig, "/metrics").1.contains(failed));
    assert_eq!((auth(&old), auth(&new)), (401, 200));
}

#[test]
fn a_changed_certificate_is_used_soon() {
    let rig = Rig::start();
    let (certificate, key) = certificate();
    let caller = Caller::new(rig.caller.at, &certificate);
    let is_served = |caller: &Caller| caller.send("GET", "/healthz", None, &[]).is_ok();
    assert!(is_served(&rig.caller) && !is_served(&caller));
    fs::write(rig.path("key.pem"), key).unwrap();
    fs::write(rig.path("cert.pem"), certificate).unwrap();
    eventually("the new certificate", || is_served(&caller));
    assert!(!is_served(&rig.caller));
}

#[test]
fn http_2_is_spoken_and_older_tls_is_not() {
    let rig = Rig::start();
    let openssl = |args: &[&str]| {
        let at = rig.caller.at.to_string();
        let output = std::process::Command::new("openssl")
            .args(["s_client", "-connect", &at])
            .args(args)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(openssl(&["-alpn", "h2"]).contains("ALPN protocol: h2"));
    assert!(openssl(&["-tls1_3"]).contains("TLSv1.3, Cipher is TLS_"));
    assert!(openssl(&["-tls1_2"]).contains("Cipher is (NONE)"));
}
