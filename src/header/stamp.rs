// SPDX-License-Identifier: Apache-2.0
//! Which boot wrote a header.
//!
//! A count alone does not say: two boots that were cut off after their headers, and the one that went on, have the same. The
//! nonce does, where such a thing can be: see `Count` in `src/anchor/count.rs`.

pub use crate::key::{BootNonce, NONCE_LEN};

/// What a header says of the boot that wrote it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// The value that the TPM's counter has at the end of that boot, and how far the volume's epochs are ahead of it.
    pub epoch: u64,
    /// Headers of before, and those of volumes whose boots nobody counts, have none.
    pub nonce: Option<BootNonce>,
}
