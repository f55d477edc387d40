// SPDX-License-Identifier: Apache-2.0
//! An initrd as a file, unpacked as the kernel unpacks it: so that what is in an image is known before anything is booted.
//!
//! [`Part::all`] finds the archives behind each other and takes the compression off; [`Tree`] has their files, with links followed
//! as the kernel follows them; [`Elf`] says which libraries a program among them needs. The file is hostile bytes here: nothing
//! panics, nothing is read that the file does not have, and what it unpacks to is bounded.
//!
//! **Never:** a file is written or opened here, and no program of the initrd is run.

mod archive;
mod elf;
mod parts;
mod tree;

pub use elf::{Elf, Machine};
pub use parts::{Compression, Part};
pub use tree::{Node, Tree};

#[cfg(test)]
pub(crate) mod tests;
