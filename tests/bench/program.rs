// SPDX-License-Identifier: Apache-2.0
//! What `tests/bench/run` runs in its machine: `bench` measures, and each measured run of ours is a process of its own,
//! `bench provision CONFIG` or `bench unlock CONFIG`.
//!
//! Standard output is one JSON object a line; the host makes the tables.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot be taken fails by panicking"
)]

mod chip;
mod files;
mod guest;
mod ours;
mod rounds;
#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::path::Path;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => rounds::run(),
        ["provision", config] => println!("{}", ours::provision(Path::new(config))),
        ["unlock", config] => println!("{}", ours::unlock(Path::new(config))),
        _ => panic!("expected nothing, provision CONFIG or unlock CONFIG, found {words:?}"),
    }
}
