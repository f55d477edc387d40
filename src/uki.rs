// SPDX-License-Identifier: Apache-2.0
//! A unified kernel image as a file, and what its boots will measure: so that a policy can be written before anything is booted.
//!
//! [`Pe`] takes the file apart and has its Authenticode hash, which is what the firmware measures of a program. [`Uki`] has its
//! parts as systemd-stub finds them, and the values of PCRs 11 to 13 that follow; [`Uki::sign`] signs these. The file is hostile bytes here: nothing panics,
//! and nothing is read that the file does not have.
//!
//! **Never:** a file is opened, a TPM asked or a signature taken for good here.

mod authenticode;
mod measured;
mod pcr_signature;
mod pe;
mod section;
mod signers;
mod stub;

pub use measured::{Addition, INITRD_PHASE, Uki};
pub use pcr_signature::{PUBLIC_KEY, SIGNATURES};
pub use pe::Pe;

#[cfg(test)]
mod tests;
