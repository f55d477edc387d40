// SPDX-License-Identifier: Apache-2.0
//! The cases that need root and device-mapper. `tests/run --layer 2` runs them in a machine of
//! their own; a plain `cargo test` leaves them out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod away;
mod boots;
mod checkpoint;
mod copies;
mod disk;
mod enrolment;
mod interrupted;
mod key_service;
mod log_writes;
mod lower;
mod mounted;
mod nbd;
mod node;
mod open;
mod power;
mod readmission;
mod recovery;
mod recovery_keys;
mod refusals;
mod rollback;
mod rotation;
mod round_trip;
mod signed;
mod stale;
mod stale_cuts;
mod start;
mod stock;
#[path = "../support/mod.rs"]
mod support;
mod surroundings;
mod tpm_device;
mod tpm_private;
mod tpm_watched;
mod two_faced;
