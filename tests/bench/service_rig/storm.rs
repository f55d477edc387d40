// SPDX-License-Identifier: Apache-2.0
//! Many boots at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{boot, boot_patiently};
use crate::daemon::{Daemon, uuid};
use crate::support::machine::Machine;

/// Each client does at least so many boots, however short the time is.
const BOOTS_MIN: usize = 2;

pub(crate) struct Storm {
    pub(crate) store: String,
    pub(crate) nodes: u32,
    pub(crate) clients: usize,
    pub(crate) memory_mib: f64,
    pub(crate) peak_mib: f64,
    /// How long each boot took, in order.
    took: Vec<Duration>,
    seconds: f64,
    service_seconds: f64,
}

impl Storm {
    pub(crate) fn releases(&self) -> usize {
        self.took.len()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.seconds
    }

    pub(crate) fn service_us(&self) -> f64 {
        self.service_seconds * 1e6 / self.took.len() as f64
    }

    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let place = (self.took.len() as f64 * share) as usize;
        self.took[place.min(self.took.len() - 1)].as_secs_f64() * 1e3
    }
}

/// The first boot of each machine.
pub(crate) fn register(daemon: &Daemon, machines: &[Machine]) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(machine) = machines.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(daemon, machine, number(machines, machine));
                }
            });
        }
    });
}

/// How long all machines take that start at once behind one address, `clients` at a time.
pub(crate) fn behind_one_address(
    daemon: &Daemon,
    machines: &[Machine],
    clients: usize,
) -> Duration {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(machine) = machines.get(number) else {
                        return;
                    };
                    let secret = boot_patiently(&daemon.caller, machine, &uuid(number as u64));
                    assert_eq!(secret.len(), 32);
                }
            });
        }
    });
    start.elapsed()
}

fn number(machines: &[Machine], machine: &Machine) -> usize {
    machines
        .iter()
        .position(|other| std::ptr::eq(other, machine))
        .unwrap()
}

fn one(daemon: &Daemon, machine: &Machine, number: usize) {
    let secret = boot(&daemon.caller, machine, &uuid(number as u64));
    assert_eq!(secret.len(), 32);
}

/// For so long, `clients` boot one after the other, each with machines of its own. Every boot has to succeed, and
/// the audit log has to have each.
pub(crate) fn run(
    daemon: &mut Daemon,
    machines: &[Machine],
    clients: usize,
    length: Duration,
) -> Storm {
    let logged = daemon.count("release");
    let service = daemon.seconds();
    let start = Instant::now();
    let mut took: Vec<Duration> = thread::scope(|scope| {
        let daemon = &*daemon;
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                let own = (0..machines.len())
                    .cycle()
                    .skip(client)
                    .step_by(clients.min(machines.len()));
                scope.spawn(move || {
                    let mut took = Vec::new();
                    for number in own {
                        if took.len() >= BOOTS_MIN && start.elapsed() >= length {
                            break;
                        }
                        let begun = Instant::now();
                        one(daemon, &machines[number], number);
                        took.push(begun.elapsed());
                    }
                    took
                })
            })
            .collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let service_seconds = daemon.seconds() - service;
    assert_eq!(daemon.count("release") - logged, took.len());
    took.sort_unstable();
    Storm {
        store: daemon.kind.name().to_owned(),
        nodes: daemon.nodes,
        clients,
        memory_mib: daemon.memory_mib("VmRSS:"),
        peak_mib: daemon.memory_mib("VmHWM:"),
        took,
        seconds,
        service_seconds,
    }
}
