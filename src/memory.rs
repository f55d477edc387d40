// SPDX-License-Identifier: Apache-2.0
//! Where this program's memory may not go.
//!
//! **Never:** a way back: what is kept from swap and core files stays so until the program ends.

use log::warn;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;

/// Keeps secrets out of swap and core files. Where neither exists a refusal harms nobody, so it is not fatal.
pub fn protect() {
    forbid_core_dumps();
    // On fault: stacks and arenas are mostly never touched, and memory is scarce.
    let on_fault = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault;
    if let Err(error) = mlockall(flags) {
        warn!("locking memory: {}", error.desc());
    }
}

/// Keeps secrets out of core files alone. For commands that a person runs: memory that may be locked is scarce for him, and
/// where the lock holds but the limit is near, a thread more could not be started.
pub fn forbid_core_dumps() {
    if let Err(error) = prctl::set_dumpable(false) {
        warn!("forbidding core dumps: {}", error.desc());
    }
}
