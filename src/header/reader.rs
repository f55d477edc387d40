// SPDX-License-Identifier: Apache-2.0
//! Fields out of bytes, one after the other. Nothing here can index out of bounds.

/// What is left of a byte string.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    /// Everything not read yet.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// A text with zeros up to the end of its field, printable ASCII only.
pub(super) fn text(field: &[u8]) -> Option<&str> {
    let len = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    let (text, padding) = field.split_at_checked(len)?;
    let clean = text.iter().all(|byte| matches!(byte, b' '..=b'~')) && is_zero(padding);
    str::from_utf8(text).ok().filter(|_| clean)
}

/// Whether every byte is zero. Compares block-wise, which stays fast in builds without optimisation.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    first_nonzero(bytes).is_none()
}

/// Where the first byte that is not zero is.
pub(super) fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut position = 0_usize;
    for block in bytes.chunks(ZEROS.len()) {
        if ZEROS.get(..block.len()) != Some(block) {
            let within = block.iter().position(|byte| *byte != 0)?;
            return position.checked_add(within);
        }
        position = position.checked_add(block.len())?;
    }
    None
}
