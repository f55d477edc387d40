// SPDX-License-Identifier: Apache-2.0
//! Two replicas that share an etcd, and a proxy before them as a cluster has one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use nightlatch::config::Role;

use crate::programs::daemon::{Daemon, MACHINES, is_admitted, patience, uuid};
use crate::support::caller::Caller;
use crate::support::etcd;
use crate::support::machine::{Machine, volume};

/// How many boots there are in all, and before one replica is killed.
const BOOTS: u32 = 120;
const BOOTS_BEFORE: usize = 40;

/// What makes two services replicas of each other.
const SHARED: [&str; 4] = [
    "mastersecret.json",
    "measurement-salt",
    "cert.pem",
    "key.pem",
];

/// Two replicas, not started yet.
fn replicas(server: &etcd::Server) -> [Daemon; 2] {
    let [one, mut two] = [(); 2].map(|()| {
        let daemon = Daemon::prepared();
        let text = fs::read_to_string(daemon.config()).unwrap();
        let sqlite = daemon.directory.join("store.sqlite");
        let sqlite = format!("sqlite = \"{}\"", sqlite.display());
        assert!(text.contains(&sqlite));
        let etcd = format!("etcd = {{ endpoints = [\"{}\"] }}", server.url());
        fs::write(daemon.config(), text.replace(&sqlite, &etcd)).unwrap();
        daemon
    });
    for name in SHARED {
        fs::copy(one.directory.join(name), two.directory.join(name)).unwrap();
    }
    two.caller = at(&one, two.at);
    [one, two]
}

/// Somebody who talks to `address`, where a replica of `daemon` is.
fn at(daemon: &Daemon, address: SocketAddr) -> Caller {
    let certificate = fs::read_to_string(daemon.directory.join("cert.pem")).unwrap();
    Caller::new(address, &certificate)
}

/// Hands connections to the backends in turn, and to another one where one does not answer.
fn proxy(backends: [SocketAddr; 2]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let turn = AtomicUsize::new(0);
        for client in listener.incoming().flatten() {
            let first = turn.fetch_add(1, Ordering::Relaxed);
            let order = [backends[first % 2], backends[(first + 1) % 2]];
            // Where both are gone the client is hung up on.
            if let Some(server) = order.iter().find_map(|at| TcpStream::connect(at).ok()) {
                relay(&client, &server);
                relay(&server, &client);
            }
        }
    });
    address
}

fn relay(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        // However it ends, both sides learn that it has.
        let copied = io::copy(&mut from, &mut to);
        let ended = to.shutdown(Shutdown::Write);
        if copied.is_err() || ended.is_err() {
            drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
        }
    });
}

#[test]
fn a_session_that_began_at_one_replica_ends_at_the_other() {
    let server = etcd::Server::start();
    let [mut one, mut two] = replicas(&server);
    one.start();
    two.start();
    let machine = Machine::new(1);
    let volumes = [volume(&uuid(1), Role::State, None)];
    let (challenge, session) = one.caller.auth(&machine);
    one.signal("KILL");
    assert!(!one.wait().success());
    let draft = machine.draft(&challenge, &volumes);
    let heard = two
        .caller
        .post("/kbs/v0/attest", Some(&session), &draft.request());
    assert_eq!(heard.status, 200, "{heard:?}");
    // And the other way round, for the last step.
    one.start();
    let path = format!("nightlatch/volume-key/{}", uuid(1));
    let secret = one.caller.resource(&heard.session(), &draft, &path);
    assert_eq!(secret, two.caller.resource(&heard.session(), &draft, &path));
    assert_eq!(secret.len(), 32);
}

#[test]
fn two_replicas_with_one_killed_in_the_storm_lose_nothing() {
    let server = etcd::Server::start();
    let [mut one, mut two] = replicas(&server);
    one.start();
    two.start();
    let caller = at(&one, proxy([one.at, two.at]));
    let next = AtomicU32::new(0);
    let owners = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= BOOTS {
                        return;
                    }
                    let owner = boot(&caller, number);
                    owners.lock().unwrap().insert(number, owner);
                }
            });
        }
        let deadline = Instant::now() + 4 * patience();
        while owners.lock().unwrap().len() < BOOTS_BEFORE {
            assert!(Instant::now() < deadline, "the storm does not get on");
            thread::yield_now();
        }
        one.signal("KILL");
    });
    assert!(!one.wait().success());
    let owners = owners.into_inner().unwrap();
    assert_eq!(owners.len(), usize::try_from(BOOTS).unwrap());
    for (number, owner) in owners {
        let other = (owner + 1) % MACHINES;
        let admitted = |machine| is_admitted(&two.caller, machine, number);
        assert_eq!(admitted(other), Some(false), "volume {number}");
        assert_eq!(admitted(owner), Some(true), "volume {number}");
    }
}

/// Two machines ask for the same new volume through the proxy, each until it has an answer. Exactly one gets it.
fn boot(caller: &Caller, number: u32) -> u32 {
    let machines = [number % MACHINES, (number + 7) % MACHINES];
    let ask = |machine: u32| {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(is_admitted) = is_admitted(caller, machine, number) {
                return is_admitted;
            }
            assert!(Instant::now() < deadline, "machine {machine} has no answer");
        }
    };
    let got: Vec<u32> = thread::scope(|scope| {
        let asking = machines.map(|machine| (machine, scope.spawn(move || ask(machine))));
        let answers = asking.map(|(machine, asking)| (machine, asking.join().unwrap()));
        answers
            .into_iter()
            .filter_map(|(machine, is_admitted)| is_admitted.then_some(machine))
            .collect()
    });
    assert_eq!(got.len(), 1, "volume {number}: {got:?}");
    got[0]
}
