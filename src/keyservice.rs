// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd`: gives keys to machines that prove what they booted.
//!
//! A request comes in through `listener` and `http`, and is answered by one pure step of the protocol: `auth`, `attest`
//! or `release`. What the steps share is a [`Service`]: the secret, the policy, the store, the audit log. `run` starts
//! it, watches its files and stops it.

pub mod answer;
pub mod audit;
pub mod config;
pub mod init;
pub mod limits;
pub mod master;
pub mod metrics;
pub mod records;
pub mod session;
pub mod store;
pub mod volume_id;

/// x
pub fn main(_: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
