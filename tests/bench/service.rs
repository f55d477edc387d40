// SPDX-License-Identifier: Apache-2.0
//! What `tests/bench/service` runs: storms of boots against `nightlatchd`, each with real signatures and by a machine
//! with keys of its own, made beforehand.
//!
//! A release is a whole boot of a node: one connection, `auth`, `attest` and one volume's key. Clients and service share
//! the machine, so beside the rate that was reached stands what a release costs the service in processor time, and the
//! machine's own rate of P-256 verifications, measured in processor time as well: those hold on a busy machine too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement that cannot be taken fails by panicking"
)]

#[path = "service_rig/client.rs"]
mod client;
#[path = "service_rig/daemon.rs"]
mod daemon;
#[path = "service_rig/storm.rs"]
mod storm;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use daemon::{Daemon, Kind};
use storm::Storm;
use support::machine::Machine;

/// The budget (design, section 13).
const RATE_MIN: f64 = 1000.0;
const P99_MAX_MS: f64 = 100.0;
const BUDGET_CLIENTS: usize = 64;

const CLIENTS: [usize; 3] = [1, 64, 512];

/// The size of a small fleet, and how many machines take part in a storm.
const FEW: u32 = 100;
const TALKING: u32 = 1000;

/// How many machines behind one address have to come up, and within how many seconds (the usual limits are in force).
const BEHIND_ONE_ADDRESS: u32 = 3000;
const BEHIND_ONE_ADDRESS_MAX_S: f64 = 60.0;

struct Options {
    daemon: PathBuf,
    seconds: u64,
    nodes: u32,
    stores: Vec<Kind>,
}

fn options() -> Options {
    let mut words = std::env::args().skip(1);
    let mut options = Options {
        daemon: words.next().expect("the program to measure").into(),
        seconds: 5,
        nodes: 100_000,
        stores: Vec::new(),
    };
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_default();
        match word.as_str() {
            "--seconds" => options.seconds = value.parse().unwrap(),
            "--nodes" => options.nodes = value.parse().unwrap(),
            "--store" => options.stores.push(Kind::named(&value)),
            _ => panic!("unknown option {word}"),
        }
    }
    if options.stores.is_empty() {
        options.stores = vec![Kind::Sqlite, Kind::Etcd];
    }
    options
}

fn main() {
    let options = options();
    let machines: Vec<Machine> = (0..TALKING).map(Machine::new).collect();
    let verification_us = verification_us();
    println!(
        "one P-256 verification: {verification_us:.0} µs of processor time, {:.0}/s a core; load {}",
        1e6 / verification_us,
        load()
    );
    let length = Duration::from_secs(options.seconds);
    let mut runs = Vec::new();
    for kind in &options.stores {
        let mut daemon = Daemon::start(&options.daemon, *kind, &machines, TALKING);
        // The first boots register; the storms are what a fleet does every day.
        storm::register(&daemon, &machines);
        for clients in CLIENTS {
            runs.push(storm::run(&mut daemon, &machines, clients, length));
        }
        daemon.stop();
    }
    storms(&runs, verification_us);
    let fleets: Vec<Storm> = [FEW, options.nodes]
        .into_iter()
        .map(|nodes| {
            let talking = &machines[..FEW as usize];
            let mut daemon = Daemon::start(&options.daemon, Kind::Sqlite, talking, nodes);
            storm::register(&daemon, talking);
            let run = storm::run(&mut daemon, talking, BUDGET_CLIENTS, length);
            daemon.stop();
            run
        })
        .collect();
    by_fleet(&fleets);
    budgets(&runs, &fleets);
    behind_one_address(&options);
}

/// One address stands for many machines where these are behind a gateway: the limits for addresses are about whoever has
/// proven nothing.
fn behind_one_address(options: &Options) {
    let machines: Vec<Machine> = (0..BEHIND_ONE_ADDRESS).map(Machine::new).collect();
    let limits = daemon::USUAL_LIMITS;
    let nodes = BEHIND_ONE_ADDRESS;
    let daemon = Daemon::limited(&options.daemon, Kind::Sqlite, &machines, nodes, limits);
    let took = storm::behind_one_address(&daemon, &machines, BUDGET_CLIENTS).as_secs_f64();
    daemon.stop();
    let name = format!("seconds for {nodes} nodes behind one address");
    verdict(
        &name,
        took,
        BEHIND_ONE_ADDRESS_MAX_S,
        took <= BEHIND_ONE_ADDRESS_MAX_S,
    );
}

/// Processor time of one verification, in microseconds, by the same code as the service's.
fn verification_us() -> f64 {
    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let message = [0xa5; 145];
    let signature: Signature = key.sign(&message);
    let signature = signature.to_bytes();
    let verifying = key.verifying_key().to_sec1_point(false);
    let verifying = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, verifying);
    let count = 5000_u32;
    let start = daemon::own_seconds();
    for _ in 0..count {
        verifying.verify(&message, &signature).unwrap();
    }
    (daemon::own_seconds() - start) * 1e6 / f64::from(count)
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().unwrap().to_owned()
}

fn storms(runs: &[Storm], verification_us: f64) {
    println!("\nattested releases: auth, attest and one key, a connection each");
    let mut rows = vec![
        [
            "store",
            "clients",
            "releases",
            "per s",
            "p50 ms",
            "p99 ms",
            "service µs",
            "verifications",
            "2 cores: per s",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(runs.iter().map(|run| {
        vec![
            run.store.clone(),
            run.clients.to_string(),
            run.releases().to_string(),
            format!("{:.0}", run.per_second()),
            format!("{:.1}", run.quantile_ms(0.5)),
            format!("{:.1}", run.quantile_ms(0.99)),
            format!("{:.0}", run.service_us()),
            format!("{:.1}", run.service_us() / verification_us),
            format!("{:.0}", 2e6 / run.service_us()),
        ]
    }));
    table(&rows);
    println!(
        "  service µs: processor time of nightlatchd for one release; verifications: the same in\n  \
         P-256 verifications; 2 cores: what two cores of this machine do for nightlatchd alone"
    );
}

fn by_fleet(fleets: &[Storm]) {
    println!("\nthe same with fleets of two sizes (sqlite, {BUDGET_CLIENTS} clients)");
    let mut rows = vec![
        [
            "registered and enrolled",
            "service µs",
            "p50 ms",
            "p99 ms",
            "memory MiB",
            "peak MiB",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(fleets.iter().map(|run| {
        vec![
            format!("{} nodes", run.nodes),
            format!("{:.0}", run.service_us()),
            format!("{:.1}", run.quantile_ms(0.5)),
            format!("{:.1}", run.quantile_ms(0.99)),
            format!("{:.1}", run.memory_mib),
            format!("{:.1}", run.peak_mib),
        ]
    }));
    table(&rows);
}

fn budgets(runs: &[Storm], fleets: &[Storm]) {
    println!("\nbudgets (clients and service on one machine)");
    for run in runs.iter().filter(|run| run.clients == BUDGET_CLIENTS) {
        let store = &run.store;
        let (rate, p99) = (run.per_second(), run.quantile_ms(0.99));
        verdict(
            &format!("releases per second, {store}"),
            rate,
            RATE_MIN,
            rate >= RATE_MIN,
        );
        verdict(
            &format!("p99 in ms, {store}"),
            p99,
            P99_MAX_MS,
            p99 <= P99_MAX_MS,
        );
    }
    if let [few, many] = fleets {
        let ratio = many.service_us() / few.service_us();
        let name = format!("a release with {} nodes : with {}", many.nodes, few.nodes);
        verdict(&name, ratio, 1.2, ratio <= 1.2);
    }
}

fn verdict(what: &str, value: f64, limit: f64, is_met: bool) {
    let met = if is_met { "met" } else { "missed" };
    println!("  {what:44} {value:>9.1}  of {limit:<6} {met}");
}

/// Columns; the first is text, the others numbers.
fn table(rows: &[Vec<String>]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column).unwrap();
            if column == 0 {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        println!("  {}", cells.collect::<Vec<_>>().join("  "));
    }
}
