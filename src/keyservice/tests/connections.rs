// SPDX-License-Identifier: Apache-2.0
//! Callers that are slow, long-winded or too many.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::clock::limit;
use crate::config::Role;
use crate::keyservice::limits::audit_quota::{LINES_MAX, PERIOD};
use crate::keyservice::tests::UUID;
use crate::keyservice::tests::rig::Rig;
use crate::protocol::{AUTH_PATH, COOKIE};
use crate::support::caller::{hear, record_path, request};
use crate::support::machine::{Machine, volume};

/// Longer than the limits of the tests by far, shorter than the caller's patience on a quiet machine.
fn soon() -> Duration {
    limit(Duration::from_secs(15))
}

/// A configuration whose limit for a request is short, and still enough for one that is served at once.
fn short() -> String {
    format!(
        "request-s = {}\n",
        limit(Duration::from_secs(1)).as_secs() + 1
    )
}

#[test]
fn a_peer_has_so_many_connections_and_no_more() {
    let rig = Rig::with("peer-connections = 2\n");
    let open = || {
        let mut stream = rig.caller.connect().unwrap();
        let is_open = stream.conn.complete_io(&mut stream.sock).is_ok();
        is_open.then_some(stream)
    };
    let (one, two) = (open(), open());
    assert!(one.is_some() && two.is_some());
    assert!(open().is_none());
    assert_eq!(rig.service.metrics.refused_connections.get(), 1);
    drop(one);
    let deadline = Instant::now() + soon();
    while open().is_none() {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn connections_of_a_machine_that_has_proven_its_key_are_not_its_addresses() {
    let rig = Rig::with("peer-connections = 8\n");
    let claims = [volume(UUID, Role::State, None)];
    let (session, _) = rig.caller.admitted(&Machine::new(1), &claims);
    let path = record_path(UUID);
    let shown = || {
        let mut stream = rig.caller.connect().unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {COOKIE}={session}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.flush().unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        stream
    };
    // As many as a machine may have stay open, and its address may have as many.
    let open: Vec<_> = (0..8).map(|_| shown()).collect();
    let refused = rig.service.metrics.refused_connections.get();
    let mut another = rig.caller.connect().unwrap();
    another.conn.complete_io(&mut another.sock).unwrap();
    assert_eq!(rig.service.metrics.refused_connections.get(), refused);
    drop(open);
}

#[test]
fn a_machine_that_has_proven_its_key_is_counted_by_it_and_not_by_its_address() {
    let rig = Rig::with("peer-requests-per-s = 1\n");
    let service = &rig.service;
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    // Many at once are too many, however slow this machine is.
    let is_used_up =
        |ek: Option<&str>| (0..10_000).any(|_| service.count_request(address, ek).is_err());
    assert!(is_used_up(None));
    service.count_request(address, Some("a")).unwrap();
    assert!(is_used_up(Some("a")));
    service.count_request(address, Some("b")).unwrap();
}

#[test]
fn only_a_session_that_was_admitted_proves_a_key() {
    let rig = Rig::start();
    let machine = Machine::new(1);
    let proven = |session: Option<String>| {
        let presented = rig.service.open_session(session.as_deref());
        presented.proven_ek().map(str::to_owned)
    };
    let claims = [volume(UUID, Role::State, None)];
    let (session, _) = rig.caller.admitted(&machine, &claims);
    assert_eq!(proven(Some(session.clone())), Some(machine.ek_id()));
    let (_, challenged) = rig.caller.auth(&machine);
    assert_eq!(proven(Some(challenged)), None);
    assert_eq!(proven(Some(format!("{session}x"))), None);
    assert_eq!(proven(None), None);
}

#[test]
fn who_has_proven_nothing_writes_few_lines_and_the_rest_is_counted() {
    let rig = Rig::start();
    let many = usize::try_from(LINES_MAX).unwrap() + 8;
    for _ in 0..many {
        rig.caller.send("POST", AUTH_PATH, None, b"{}").unwrap();
    }
    assert_eq!(rig.audit().len(), many - 8);
    // Who has shown his TPM is not meant.
    let claims = [volume(UUID, Role::State, None)];
    let (_, _) = rig
        .caller
        .attest(&Machine::new(1), &claims, |draft| draft.magic = 0);
    assert_eq!(rig.last()["check"], "magic");
    rig.service.write_left_out(Instant::now() + PERIOD);
    let line = rig.last();
    assert_eq!(
        (&line["check"], &line["peer"], &line["why"]),
        (
            &"line-rate".into(),
            &"127.0.0.1".into(),
            &"8 more requests within a minute".into()
        )
    );
    rig.caller.send("POST", AUTH_PATH, None, b"{}").unwrap();
    assert_eq!(rig.last()["check"], "body");
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
    let rig = Rig::with(&short());
    let start = Instant::now();
    // No handshake; a handshake and nothing else; half a head; half a body.
    let mut silent = TcpStream::connect(rig.caller.at).unwrap();
    silent.set_read_timeout(Some(soon())).unwrap();
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
    assert!(start.elapsed() < soon(), "{:?}", start.elapsed());
}

#[test]
fn a_request_that_drips_is_cut_off_however_steadily() {
    let rig = Rig::with(&short());
    let introduction = serde_json::to_vec(&Machine::new(1).introduction()).unwrap();
    let whole = request("POST", AUTH_PATH, None, &introduction);
    let head_len = whole.len() - introduction.len();
    // At once as far as `from`, then byte by byte, which would take more than two minutes.
    let drip = |from: usize| {
        let mut stream = rig.caller.connect().unwrap();
        stream.write_all(&whole[..from]).unwrap();
        stream.flush().unwrap();
        let start = Instant::now();
        for byte in &whole[from..] {
            let sent = stream.write_all(&[*byte]).and_then(|()| stream.flush());
            if sent.is_err() || start.elapsed() > soon() {
                break;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        assert!(start.elapsed() < soon(), "{from}: {:?}", start.elapsed());
    };
    std::thread::scope(|scope| {
        // The head, the body, and the body's last bytes.
        scope.spawn(|| drip(10));
        scope.spawn(|| drip(head_len));
        scope.spawn(|| drip(whole.len() - 40));
    });
    let slow = rig.audit();
    assert_eq!(slow.len(), 2, "{slow:?}");
    assert!(slow.iter().all(|line| line["check"] == "body-time"));
    // The control: in two parts, in time.
    let mut stream = rig.caller.connect().unwrap();
    stream.write_all(&whole[..head_len]).unwrap();
    stream.flush().unwrap();
    std::thread::sleep(Duration::from_millis(250));
    stream.write_all(&whole[head_len..]).unwrap();
    stream.flush().unwrap();
    assert_eq!(hear(&mut stream).unwrap().status, 200);
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
    let deadline = Instant::now() + soon();
    while rig
        .caller
        .send("GET", "/healthz", None, &[])
        .map_or(0, |heard| heard.status)
        != 200
    {
        assert!(Instant::now() < deadline);
        // Each try counts: as many as it may have are due again by then.
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn to_be_asked_how_it_is_counts_as_well() {
    let rig = Rig::with("peer-requests-per-s = 3\n");
    for path in ["/healthz", "/readyz"] {
        let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\n");
        let all = format!(
            "{}{ask}Connection: close\r\n\r\n",
            format!("{ask}\r\n").repeat(20)
        );
        let deadline = Instant::now() + soon();
        let heard = loop {
            // The connection itself may be too much.
            if let Ok(heard) = rig.caller.raw(all.as_bytes()) {
                break heard;
            }
            assert!(Instant::now() < deadline);
        };
        let rest = String::from_utf8(heard.body).unwrap().to_lowercase();
        assert!(rest.contains("http/1.1 429"), "{rest}");
    }
}

#[test]
fn an_endorsement_key_that_attests_too_often_waits_and_no_other_does() {
    let rig = Rig::with("ek-attestations-per-min = 2\n");
    let attest = |number, change: fn(&mut crate::support::machine::Draft)| {
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

#[test]
fn a_service_whose_places_are_all_taken_stops_all_the_same() {
    let rig = Rig::with("connections = 1\nrequest-s = 60\n");
    let mut open = rig.caller.connect().unwrap();
    open.conn.complete_io(&mut open.sock).unwrap();
    let start = Instant::now();
    drop(rig);
    assert!(start.elapsed() < soon(), "{:?}", start.elapsed());
}
