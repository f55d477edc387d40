// SPDX-License-Identifier: Apache-2.0
//! Bodies that are too long, cut short, too many, or sent by somebody who may send none.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::UUID;
use super::rig::Rig;
use crate::clock::limit;
use crate::config::Role;
use crate::protocol::{ATTEST_PATH, AUTH_PATH};
use crate::support::caller::{hear, record_path, request};
use crate::support::machine::{Machine, volume};

/// Longer than anything here takes by far, shorter than the caller's patience.
fn soon() -> Duration {
    limit(Duration::from_secs(15))
}

#[test]
fn a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() {
    let rig = Rig::with("body-bytes = 4096\n");
    let said = request("POST", AUTH_PATH, None, &[b' '; 4097]);
    let heard = rig.caller.raw(&said).unwrap();
    assert_eq!(
        (heard.status, heard.problem().as_str()),
        (413, "SerdeError")
    );
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
    let unsaid = format!(
        "POST {AUTH_PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         {chunk}1\r\n \r\n0\r\n\r\n"
    );
    assert_eq!(rig.caller.raw(unsaid.as_bytes()).unwrap().status, 413);
    assert_eq!(rig.last()["check"], "body-length");
    let mut body = serde_json::to_vec(&Machine::new(1).introduction()).unwrap();
    body.resize(4096, b' ');
    let heard = rig.caller.send("POST", AUTH_PATH, None, &body).unwrap();
    assert_eq!(heard.status, 200);
}

#[test]
fn only_evidence_may_be_long() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let claims = [volume(UUID, Role::State, None)];
    let (session, _) = rig.caller.admitted(&machine, &claims);
    let send = |path: &str, session: Option<&str>, body: &[u8], len: usize| {
        let mut body = body.to_vec();
        body.resize(len, b' ');
        rig.caller.send("POST", path, session, &body).unwrap()
    };
    let introduction = serde_json::to_vec(&machine.introduction()).unwrap();
    let record = record_path(UUID);
    for (path, session, body) in [
        (AUTH_PATH, None, &introduction[..]),
        (&record, Some(&session[..]), br#"{"epoch":0}"#),
    ] {
        assert_eq!(send(path, session, body, (16 << 10) + 1).status, 413);
        assert_eq!(rig.last()["check"], "body-length");
        assert_eq!(send(path, session, body, 16 << 10).status, 200);
    }
    let (challenge, session) = rig.caller.auth(&machine);
    let evidence = serde_json::to_vec(&machine.draft(&challenge, &claims).request()).unwrap();
    let heard = send(ATTEST_PATH, Some(&session), &evidence, 1 << 20);
    assert_eq!(heard.status, 200);
}

#[test]
fn without_a_session_for_it_no_body_is_read() {
    let rig = Rig::with("request-s = 100\n");
    let machine = Machine::new(1);
    let claims = [volume(UUID, Role::State, None)];
    let (challenge, challenged) = rig.caller.auth(&machine);
    let (admitted, _) = rig.caller.admitted(&machine, &claims);
    let record = record_path(UUID);
    let start = Instant::now();
    for (path, session) in [
        (ATTEST_PATH, None),
        (ATTEST_PATH, Some("x")),
        (ATTEST_PATH, Some(&admitted[..])),
        (&record, None),
        (&record, Some(&challenged[..])),
    ] {
        // The head alone: a body is promised and never comes.
        let whole = request("POST", path, session, &[b' '; 1000]);
        let heard = rig.caller.raw(&whole[..whole.len() - 1000]).unwrap();
        assert_eq!(heard.status, 401, "{path} {session:?}");
        assert_eq!(rig.last()["check"], "session");
    }
    // Sooner than a body that is waited for would have been given up.
    assert!(start.elapsed() < Duration::from_secs(90));
    let evidence = machine.draft(&challenge, &claims).request();
    let heard = rig.caller.post(ATTEST_PATH, Some(&challenged), &evidence);
    assert_eq!(heard.status, 200);
}

#[test]
fn where_there_is_no_room_for_a_body_it_may_come_later() {
    let rig = Rig::with("body-bytes = 4096\nbodies-bytes = 4096\n");
    let introduction = serde_json::to_vec(&Machine::new(1).introduction()).unwrap();
    let mut waiting = rig.caller.connect().unwrap();
    let whole = request("POST", AUTH_PATH, None, &[b' '; 4096]);
    waiting.write_all(&whole[..whole.len() - 1]).unwrap();
    waiting.flush().unwrap();
    // Where the body of a request is left unread its connection may be reset before the answer is heard: RFC 9112, section 9.6.
    let send = || {
        let sent = rig.caller.send("POST", AUTH_PATH, None, &introduction);
        sent.ok()
    };
    let deadline = Instant::now() + soon();
    let busy = loop {
        let heard = send();
        match heard {
            Some(heard) if heard.status == 503 => break heard,
            _ => assert!(Instant::now() < deadline, "{heard:?}"),
        }
    };
    assert!(busy.head.to_lowercase().contains("retry-after: 2"));
    assert_eq!(rig.audit().len(), 0);
    waiting.sock.shutdown(std::net::Shutdown::Both).unwrap();
    while send().is_none_or(|heard| heard.status != 200) {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn a_body_that_ends_too_early_is_no_request() {
    let rig = Rig::start();
    let whole = request(
        "POST",
        AUTH_PATH,
        None,
        &serde_json::to_vec(&Machine::new(1).introduction()).unwrap(),
    );
    let mut stream = rig.caller.connect().unwrap();
    stream.write_all(&whole[..whole.len() - 1]).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    if let Ok(heard) = hear(&mut stream) {
        assert_eq!(heard.status, 400);
    }
    assert_eq!(rig.caller.raw(&whole).unwrap().status, 200);
}
