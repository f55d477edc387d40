// SPDX-License-Identifier: Apache-2.0
//! Peers that say too much, or nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::error::Error;
use crate::https::raw_key::connect;
use crate::key::openssh::OpensshKey;
use crate::protocol::Bytes;
use crate::protocol::recovery::{Hello, TO_NODE_LEN_MAX, VERSION, send};

const OPERATOR: &str = include_str!("../../tests/fixtures/openssh/operator.pub");

fn listener() -> Listener {
    Listener::open(0, vec![OpensshKey::parse(OPERATOR.trim()).unwrap()]).unwrap()
}

fn peer(listener: &Listener) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, listener.port())).unwrap()
}

/// Whether the node asks for what it is within a while; it is told that there is nothing.
fn is_asked(listener: &mut Listener) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        if let Some(Request::Present { answer, .. }) = listener.next() {
            answer
                .send(Err(Error::refused("as the test says")))
                .unwrap();
            return true;
        }
    }
    false
}

fn greet(socket: TcpStream) {
    let hello = Hello {
        version: VERSION,
        nonce: Bytes(vec![1; 32]),
    };
    let (mut stream, _) = connect(socket, Duration::from_secs(20)).unwrap();
    send(&mut stream, &hello).unwrap();
}

/// Waits for the end of a connection, while the node goes on.
fn ends(listener: &mut Listener, mut socket: TcpStream) -> bool {
    let started = Instant::now();
    socket.set_nonblocking(true).unwrap();
    while started.elapsed() < Duration::from_secs(20) {
        listener.next();
        match socket.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return true,
        }
    }
    false
}

#[test]
fn a_peer_that_says_nothing_holds_up_nobody() {
    let mut listener = listener();
    let _silent = peer(&listener);
    let other = peer(&listener);
    let greeting = thread::spawn(move || greet(other));
    assert!(is_asked(&mut listener));
    greeting.join().unwrap();
}

#[test]
fn more_connections_than_an_address_may_have_are_closed() {
    let mut listener = listener();
    let _kept = [peer(&listener), peer(&listener)];
    listener.next();
    let third = peer(&listener);
    assert!(ends(&mut listener, third));
}

#[test]
fn a_message_that_is_too_long_ends_the_connection_before_it_is_read() {
    let mut listener = listener();
    let socket = peer(&listener);
    let talking = thread::spawn(move || {
        let (mut stream, _) = connect(socket, Duration::from_secs(5)).unwrap();
        let len = u32::try_from(TO_NODE_LEN_MAX + 1).unwrap();
        stream.write_all(&len.to_be_bytes()).unwrap();
        stream.flush().unwrap();
        // Nothing more: a node that waited for the rest would be waited for.
        let ended = stream.read(&mut [0; 1]);
        assert!(!matches!(ended, Err(error) if error.kind() == ErrorKind::TimedOut));
    });
    while !talking.is_finished() {
        listener.next();
    }
    talking.join().unwrap();
}

#[test]
fn nothing_is_left_of_a_port_that_is_closed() {
    let mut listener = listener();
    let port = listener.port();
    let mut silent = peer(&listener);
    listener.next();
    let started = Instant::now();
    drop(listener);
    assert!(started.elapsed() < Duration::from_secs(5));
    silent
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert!(matches!(silent.read(&mut [0; 1]), Ok(0) | Err(_)));
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
}
