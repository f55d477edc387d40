// SPDX-License-Identifier: Apache-2.0
//! A cursor over bytes from outside. It never reads past the end and never panics.
//!
//! **Never:** the process ends because of what they say.

use super::{Check, Refusal};

/// What is left of some bytes, what they are called, and the check that fails where they end too early.
#[derive(Clone, Debug)]
pub(super) struct Bytes<'a> {
    left: &'a [u8],
    what: &'static str,
    check: Check,
}

/// A result whose error names the check.
type Result<T> = std::result::Result<T, Refusal>;

impl<'a> Bytes<'a> {
    pub(super) fn new(bytes: &'a [u8], what: &'static str, check: Check) -> Self {
        Self {
            left: bytes,
            what,
            check,
        }
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, left) = self
            .left
            .split_at_checked(len)
            .ok_or_else(|| self.refusal("it is cut short"))?;
        self.left = left;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Big-endian, as the TPM writes.
    pub(super) fn be16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn be32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn be64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Little-endian, as firmware writes.
    pub(super) fn le16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn le32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn le64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The contents of a `TPM2B`: two bytes of length, then as many.
    pub(super) fn sized(&mut self) -> Result<&'a [u8]> {
        let len = self.be16()?;
        self.take(usize::from(len))
    }

    /// All that is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.left
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Refuses anything that follows.
    pub(super) fn finish(self) -> Result<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        let len = self.left.len();
        Err(self.refusal(format_args!("{len} bytes follow it")))
    }

    /// A refusal about these bytes.
    pub(super) fn refusal(&self, why: impl std::fmt::Display) -> Refusal {
        Refusal::new(self.check, format_args!("{}: {why}", self.what))
    }
}
