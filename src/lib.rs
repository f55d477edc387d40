// SPDX-License-Identifier: Apache-2.0
//! Opens the disks of a confidential VM from inside its initramfs.
//!
//! Data flows one way, a step a module: config → tpm → anchor → key → header → volume → measure → root → handoff.
//! [`boot`] tells the story in order; nothing else knows it.
//!
//! The host, its disks, network and console are the attacker. So nothing read from a disk selects code, relaxes policy
//! or is used before it is authenticated; configuration comes only from the measured initrd; an error is never a reason
//! to format. `unsafe` is forbidden in this crate; each C library is used by one module only (`tpm`, `volume`).

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "a test fails by panicking"
    )
)]

// So that a fixture names things in the same way here and in the tests of a machine.
#[cfg(test)]
extern crate self as nightlatch;

pub mod anchor;
pub mod boot;
pub mod client;
pub mod clock;
pub mod config;
pub mod ctl;
pub mod error;
pub mod evidence;
pub mod header;
mod https;
pub mod key;
#[cfg(feature = "daemon")]
pub mod keyservice;
pub mod logging;
pub mod measure;
pub mod memory;
mod parallel;
pub mod pcr;
pub mod protocol;
mod retry;
pub mod sealed;
mod sources;
pub mod status;
pub mod systemd;
pub mod tpm;
pub mod volume;
