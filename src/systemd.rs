// SPDX-License-Identifier: Apache-2.0
//! systemd: what it is told before the volumes are open, and how they are handed over to it when they are.

pub mod generator;
pub mod handoff;
pub(crate) mod manager;
pub(crate) mod mounts;
pub(crate) mod relay;
pub mod unit;
