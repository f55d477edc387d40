// SPDX-License-Identifier: Apache-2.0
//! Callers that are slow, long-winded or too many.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::UUID;
use super::caller::{hear, request};
use super::machine::{Machine, volume};
use super::rig::Rig;
use crate::config::Role;
use crate::protocol::AUTH_PATH;

/// Longer than the limits of the tests by far, shorter than the caller's patience.
const SOON: Duration = Duration::from_secs(15);

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

#[test]
fn a_head_that_is_too_long_is_refused() {
    let rig = Rig::start();
    let long = |len| {
        let text = format!(
            "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n",
            "x".repeat(len)
        );
        rig.caller
            .raw(text.as_bytes())
            .map_or(0, |heard| heard.status)
    };
    assert_eq!(long(1000), 200);
    assert_ne!(long(100_000), 200);
}

#[test]
fn whoever_is_slow_is_cut_off_and_others_are_served_meanwhile() {
    let rig = Rig::with("request-s = 1\n");
    let start = Instant::now();
    // No handshake; a handshake and nothing else; half a head; half a body.
    let mut silent = TcpStream::connect(rig.caller.at).unwrap();
    silent.set_read_timeout(Some(SOON)).unwrap();
    let mut idle = rig.caller.connect().unwrap();
    idle.conn.complete_io(&mut idle.sock).unwrap();
    let mut half_head = rig.caller.connect().unwrap();
    half_head
        .write_all(b"POST /kbs/v0/auth HTTP/1.1\r\nHost:")
        .unwrap();
    half_head.flush().unwrap();
    let mut half_body = rig.caller.connect().unwrap();
    let whole = request("POST", AUTH_PATH, None, &[b' '; 100]);
    half_body.write_all(&whole[..whole.len() - 1]).unwrap();
    half_body.flush().unwrap();

    rig.caller
        .admitted(&Machine::new(1), &[volume(UUID, Role::State, None)]);
    assert_eq!(hear(&mut half_body).unwrap().status, 408);
    assert_eq!(rig.last()["check"], "body-time");
    let answer = hear(&mut half_head);
    assert!(answer.is_err() || answer.unwrap().status == 408);
    hear(&mut idle).unwrap_err();
    assert!(matches!(silent.read(&mut [0; 1]), Ok(0)));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_peer_that_asks_too_often_is_told_when_to_come_back() {
    let rig = Rig::with("peer-requests-per-s = 3\n");
    // One connection and many requests at once: the first is answered, the last is too much.
    let ask = "GET /kbs/v0/nightlatch/volume/x HTTP/1.1\r\nHost: x\r\n";
    let all = format!(
        "{}{ask}Connection: close\r\n\r\n",
        format!("{ask}\r\n").repeat(20)
    );
    let heard = rig.caller.raw(all.as_bytes()).unwrap();
    assert_eq!(heard.status, 401);
    let rest = String::from_utf8(heard.body).unwrap().to_lowercase();
    assert!(rest.contains("http/1.1 429"), "{rest}");
    assert!(rest.contains("retry-after: 1\r\n") && rest.contains("toomanyrequests"));
    // These are counted and not written down.
    assert!(rig.audit().iter().all(|line| line["check"] == "session"));
    // It may go on after a while.
    let deadline = Instant::now() + SOON;
    while rig
        .caller
        .send("GET", "/healthz", None, &[])
        .map_or(0, |heard| heard.status)
        != 200
    {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn an_endorsement_key_that_attests_too_often_waits_and_no_other_does() {
    let rig = Rig::with("ek-attestations-per-min = 2\n");
    let attest = |number, change: fn(&mut super::machine::Draft)| {
        let claim = [volume(
            &UUID.replace("a6c7", &format!("a6{number:02x}")),
            Role::State,
            None,
        )];
        rig.caller.attest(&Machine::new(number), &claim, change).0
    };
    // Whoever does not open the credential cannot use up a machine's share.
    for _ in 0..3 {
        assert_eq!(
            attest(1, |draft| draft.claims.credential.0.clear()).status,
            401
        );
    }
    assert_eq!(
        [attest(1, |_| ()).status, attest(1, |_| ()).status],
        [200, 200]
    );
    let heard = attest(1, |_| ());
    assert_eq!(
        (heard.status, heard.problem().as_str()),
        (429, "TooManyRequests")
    );
    assert!(
        heard.head.to_lowercase().contains("retry-after: "),
        "{heard:?}"
    );
    assert_eq!(attest(2, |_| ()).status, 200);
}
