// SPDX-License-Identifier: Apache-2.0
//! Opens the disks of a confidential VM from inside its initramfs.
//!
//! Three programs stand on top: [`boot`] opens a machine's volumes, [`keyservice`] gives keys to machines, [`ctl`]
//! shows and changes what both remember. Each alone knows the order of its steps; what two of them need is a room below.
//!
//! Three walks lead through it, ten lines each: [a boot](boot#a-boot), [a request](keyservice#a-request),
//! [a status read](ctl#a-status-read). `units/doc/internals.md` says how the house is kept, and where coming work goes.
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
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the walks lead through what is private, and the documentation is made with it"
)]

// So that a fixture names things in the same way here and in the tests of a machine.
#[cfg(test)]
extern crate self as nightlatch;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

// The rooms, floor by floor from the top down: one imports only from the floors below its own (tests/it/layers.rs).

// The programs. Each tells its own story, and none knows another.
pub mod boot;
pub mod ctl;
#[cfg(feature = "daemon")]
pub mod keyservice;

// A volume opened, whichever program wants it: where its key comes from, what is told of it, its way to a mapping.
pub mod rescue;
mod sources;

pub mod status;

pub mod volume;

// What a volume is held against, who gives its key, what is said of the machine, who takes over.
pub mod anchor;
pub mod client;
pub mod evidence;
pub mod measure;
mod recovery;
pub mod systemd;

// The TPM, what is written on disks and on the wire, and what is mounted. How work is done beside other work, and again.
pub mod header;
pub mod initrd;
pub mod mounted;
mod parallel;
pub mod protocol;
mod retry;
pub mod tpm;
pub mod uki;

// What the administrator says.
pub mod config;

// What a TPM has sealed, and what an image's builder has signed for it.
pub mod sealed;

// Secrets, words and connections.
pub mod command_line;
mod https;
pub mod key;
pub mod logging;

// The ground.
pub mod clock;
pub mod error;
pub mod memory;
pub mod pcr;
