// SPDX-License-Identifier: Apache-2.0
//! Which boot wrote a header.
//!
//! A count alone does not say: two boots that were cut off after their headers, and the one that went on, have the same. The
//! nonce does, where such a thing can be: see `Count` in `src/anchor/count.rs`.

use crate::error::Result;
use crate::key::fill_random;

/// Length of a nonce in bytes: what the record of the anchor had left in front of its authorisation value. A host that keeps
/// the headers of n boots it has cut off hits the next nonce with a chance of n in 2^56.
pub const NONCE_LEN: usize = 7;

/// What a header says of the boot that wrote it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// The value that the TPM's counter has at the end of that boot, and how far the volume's epochs are ahead of it.
    pub epoch: u64,
    /// Headers of before, and those of volumes whose boots nobody counts, have none.
    pub nonce: Option<BootNonce>,
}

/// Random bytes that headers and record have in common. They are not secret. Never zeros, which stand for none.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct BootNonce([u8; NONCE_LEN]);

impl BootNonce {
    /// A new one.
    pub fn draw() -> Result<Self> {
        loop {
            let mut bytes = [0; NONCE_LEN];
            fill_random(&mut bytes)?;
            if let Some(nonce) = Self::from_bytes(bytes) {
                return Ok(nonce);
            }
        }
    }

    /// `None` where there are only zeros.
    #[must_use]
    pub fn from_bytes(bytes: [u8; NONCE_LEN]) -> Option<Self> {
        (bytes != [0; NONCE_LEN]).then_some(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; NONCE_LEN] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_boots_draw_two_nonces_and_zeros_are_none() {
        let [one, other] = [(); 2].map(|()| BootNonce::draw().unwrap());
        assert_ne!(one, other);
        assert_eq!(BootNonce::from_bytes(one.bytes()), Some(one));
        assert_eq!(BootNonce::from_bytes([0; NONCE_LEN]), None);
    }
}
