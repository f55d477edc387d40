// SPDX-License-Identifier: Apache-2.0
//! systemd: what it is told before the volumes are open, and how they are handed over to it when they are.
//!
//! [`generator`] orders and masks before anything is open, [`handoff`] has the volumes mounted afterwards, [`mod@unit`] is
//! their text. A hand-over is done when the job's result says so, and not when it was asked for.
//!
//! **Never:** a key, or a unit that comes from a disk: all of them follow from the configuration.

pub mod generator;
pub mod handoff;
pub(crate) mod manager;
pub(crate) mod mounts;
pub(crate) mod relay;
pub mod unit;
