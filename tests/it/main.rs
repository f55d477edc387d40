// SPDX-License-Identifier: Apache-2.0
//! Tests from outside: the documentation against the programs it describes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod build_glue;
mod check_hooks;
mod closed_initrd;
mod command_lines;
mod config_keys;
mod daemon;
mod daemon_docs;
mod device_nodes;
mod docs;
mod glossary;
mod layers;
mod manuals;
mod markdown;
mod modules;
mod operators;
mod pages;
#[path = "../support/programs/mod.rs"]
mod programs;
mod replicas;
mod scenarios;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod synopsis;
mod tour;
