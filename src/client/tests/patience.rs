// SPDX-License-Identifier: Apache-2.0
//! When a node tries again, and when it gives up.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use super::*;

/// An address where nobody listens.
fn dead() -> String {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("https://{}", closed.local_addr().unwrap())
}

/// Somebody on the way: the first `count` connections lead to `stranger`, all others to `service`.
fn on_the_way(count: usize, stranger: &Mock, service: &Mock) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = [stranger, service].map(|mock| mock.url.replace("https://", ""));
    thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            let server = TcpStream::connect(&to[usize::from(number >= count)]).unwrap();
            relay(&client, &server);
            relay(&server, &client);
        }
    });
    format!("https://localhost:{port}")
}

fn relay(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        // Either side may hang up at any time.
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
}

#[test]
fn trouble_on_the_way_is_tried_again_until_the_deadline() {
    for twist in [Twist::Slow, Twist::Truncated, Twist::Busy(1000)] {
        let (error, seen) = refusal(twist);
        assert_eq!(error.exit(), Exit::Temporary, "{twist:?}: {error}");
        let within = format!("no key service within {} s", haste().as_secs());
        assert!(error.to_string().starts_with(&within), "{error}");
        // Pauses grow, so there are several tries and not very many.
        assert!((2..30).contains(&seen.len()), "{twist:?}: {seen:?}");
        assert!(seen.iter().all(|line| line == AUTH));
    }
}

#[test]
fn a_busy_service_is_waited_for() {
    let mock = mock(Twist::Busy(2));
    let (_swtpm, mut tpm) = tpm();
    let given = to(&mock).ask(&mut tpm, &wanted()).unwrap();
    assert_eq!(given.volume(UUID).unwrap().key.expose(), [7; 32]);
    assert_eq!(mock.requests()[..4], [AUTH, AUTH, AUTH, ATTEST]);
}

#[test]
fn the_next_address_is_tried_at_once_and_a_denial_by_one_is_not_the_others() {
    let dead = dead();
    let good = mock(Twist::Nothing);
    let (_swtpm, mut tpm) = tpm();
    let ca = || Trust::Ca(good.ca.clone().into_bytes());
    let given = client(ca(), &[&dead, &good.url])
        .ask(&mut tpm, &wanted())
        .unwrap();
    assert_eq!(given.url, good.url);

    let denying = mock(Twist::Deny);
    let both = format!("{}{}", good.ca, denying.ca);
    let mut client = client(Trust::Ca(both.into_bytes()), &[&denying.url, &good.url]);
    assert_eq!(client.ask(&mut tpm, &wanted()).unwrap().url, good.url);
    assert_eq!(client.ask(&mut tpm, &wanted()).unwrap().url, good.url);
    assert_eq!(denying.requests(), [AUTH, ATTEST]);
}

#[test]
fn whoever_is_on_the_way_cannot_make_a_node_give_up() {
    let (good, stranger) = (mock(Twist::Nothing), mock(Twist::Nothing));
    let (_swtpm, mut tpm) = tpm();
    let ca = || Trust::Ca(good.ca.clone().into_bytes());
    // It is there for a while, and then gone.
    let url = on_the_way(3, &stranger, &good);
    let given = client(ca(), &[&url]).ask(&mut tpm, &wanted()).unwrap();
    assert_eq!(given.volume(UUID).unwrap().key.expose(), [7; 32]);
    // It is there at one address only.
    let given = client(ca(), &[&stranger.url, &good.url]).ask(&mut tpm, &wanted());
    assert_eq!(given.unwrap().url, good.url);
    // It stays: the node waits until the deadline, and says why.
    let mut client = hasty(client(ca(), &[&stranger.url]));
    let start = Instant::now();
    let error = client.ask(&mut tpm, &wanted()).unwrap_err();
    assert!(start.elapsed() > Duration::from_millis(500));
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    assert!(
        error.to_string().contains("its certificate is not"),
        "{error}"
    );
    assert!(stranger.connections() > 6);
    assert_eq!(stranger.requests(), [""; 0]);
}

#[test]
fn a_stranger_and_an_address_that_is_down_are_trouble_that_may_pass() {
    let (good, stranger) = (mock(Twist::Nothing), mock(Twist::Nothing));
    let (_swtpm, mut tpm) = tpm();
    let ca = Trust::Ca(good.ca.clone().into_bytes());
    let mut client = hasty(client(ca, &[&stranger.url, &dead()]));
    let error = client.ask(&mut tpm, &wanted()).unwrap_err();
    assert_eq!(error.exit(), Exit::Temporary, "{error}");
}

#[test]
fn after_a_denial_the_other_addresses_are_tried_a_few_times_more() {
    let denying = mock(Twist::Deny);
    let (_swtpm, mut tpm) = tpm();
    let dead = dead();
    let ca = Trust::Ca(denying.ca.clone().into_bytes());
    let mut refused = client(ca, &[&denying.url, &dead]);
    let start = Instant::now();
    let error = refused.ask(&mut tpm, &wanted()).unwrap_err();
    assert!(start.elapsed() < refused.deadline / 2);
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    let said = error.to_string();
    assert!(
        said.contains(&format!("{}: it denied this machine", denying.url)),
        "{said}"
    );
    assert!(said.contains(&format!("; {dead}: ")), "{said}");
    assert_eq!(denying.requests(), [AUTH, ATTEST]);

    // The control: one that was only starting gives what was asked for.
    let last = usize::try_from(TRIES_AFTER_DENIAL).unwrap();
    for (busy, is_given) in [(last, true), (last + 1, false)] {
        let starting = mock(Twist::Busy(busy));
        let both = format!("{}{}", starting.ca, denying.ca);
        let trust = Trust::Ca(both.into_bytes());
        let mut client = client(trust, &[&denying.url, &starting.url]);
        assert_eq!(client.ask(&mut tpm, &wanted()).is_ok(), is_given, "{busy}");
    }
}

#[test]
fn a_denial_is_not_forgotten_where_the_deadline_comes_first() {
    let denying = mock(Twist::Deny);
    let (_swtpm, mut tpm) = tpm();
    let ca = Trust::Ca(denying.ca.clone().into_bytes());
    let mut client = client(ca, &[&denying.url, &dead()]);
    // There is time for one try and no pause.
    client.timeouts.first_pause = Duration::from_secs(60);
    let error = client.ask(&mut tpm, &wanted()).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
}

#[test]
fn a_service_that_says_when_to_come_back_is_left_alone_until_then() {
    let mock = mock(Twist::TooOften);
    let (_swtpm, mut tpm) = tpm();
    let start = Instant::now();
    let given = to(&mock).ask(&mut tpm, &wanted()).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(given.volume(UUID).unwrap().key.expose(), [7; 32]);
    // Not once before.
    assert_eq!(mock.requests()[..3], [AUTH, AUTH, ATTEST]);
}

#[test]
fn all_reports_have_one_time_and_none_is_begun_after_one_that_ran_out_of_it() {
    let mock = mock(Twist::Nothing);
    let (_swtpm, mut tpm) = tpm();
    let mut given = to(&mock).ask(&mut tpm, &wanted()).unwrap();
    let time = limit(Duration::from_secs(2));
    given.timeouts.report = time;
    let record = VolumeRecord {
        key_id: None,
        epoch: 7,
        nonce: None,
    };
    let news = [UUID, OTHER].map(|uuid| (uuid.to_owned(), told_of(record.clone())));
    let path = |uuid: &str| format!("POST /kbs/v0/nightlatch/volume/{uuid}");
    // The control, and one that is denied: the next volume is told of all the same.
    for (twist, failures) in [(Twist::Nothing, 0), (Twist::Never, 2)] {
        let before = mock.requests().len();
        mock.change(|script| script.twist = twist);
        assert_eq!(given.report(&news).len(), failures, "{twist:?}");
        assert_eq!(mock.requests()[before..], [path(UUID), path(OTHER)]);
    }
    let before = mock.requests().len();
    mock.change(|script| script.twist = Twist::Busy(usize::MAX));
    let start = Instant::now();
    let failed = given.report(&news);
    assert!(start.elapsed() < 2 * time);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].exit(), Exit::Temporary, "{failed:?}");
    let requests = mock.requests().split_off(before);
    assert!(requests.len() > 1);
    assert!(
        requests.iter().all(|line| *line == path(UUID)),
        "{requests:?}"
    );
}

/// The last try before the deadline may begin without time for an answer.
#[test]
fn a_try_that_the_deadline_cut_short_does_not_make_a_stranger_the_service() {
    let (now, never) = (later(Duration::ZERO), later(Duration::from_secs(3600)));
    let cut = || Failure::Later("there was no time left".into());
    let mut endpoint = Endpoint::new("https://localhost");
    // Before it has shown anything, and while there is time, that is all there is to tell.
    assert!(endpoint.note(cut(), now).contains("no time left"));
    assert!(!endpoint.is_strange());
    endpoint.note(Failure::Untrusted("it is another".into()), never);
    assert!(endpoint.note(cut(), now).contains("it is another"));
    assert!(endpoint.is_strange());
    assert!(endpoint.note(cut(), never).contains("no time left"));
    assert!(!endpoint.is_strange());
}
