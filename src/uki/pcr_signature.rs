// SPDX-License-Identifier: Apache-2.0
//! Which values of PCR 11 an image gets signatures of, and the sections that have to do with them.

use super::measured::{INITRD_PHASE, Uki};
use crate::error::Result;
use crate::key::pcr::PcrKey;
use crate::pcr::Bank;
use crate::sealed::signature::{PcrSignature, PcrSignatures};

/// The section that has the signatures, which is measured into no PCR.
pub const SIGNATURES: &str = ".pcrsig";
/// The section that may have the public key, and is measured.
pub const PUBLIC_KEY: &str = ".pcrpkey";

impl Uki<'_> {
    /// Signs what PCR 11 is when the initrd asks for keys: before any phase, which is what it stays without the firmware's
    /// variables, and in the phase `enter-initrd`. Nothing later: the running system is to open nothing.
    pub fn sign(&self, key: &PcrKey, banks: &[Bank]) -> Result<PcrSignatures> {
        let of = |bank: &Bank| {
            let values = self.signed_values(*bank).into_iter();
            let signed = values.map(|(_, value)| PcrSignature::new(key, *bank, &value));
            Ok((*bank, signed.collect::<Result<_>>()?))
        };
        let all: Vec<_> = banks.iter().map(of).collect::<Result<_>>()?;
        Ok(PcrSignatures::new(all))
    }

    /// The values that are signed, each with the phase it belongs to, if there is one.
    #[must_use]
    pub fn signed_values(&self, bank: Bank) -> [(Option<&'static str>, Vec<u8>); 2] {
        [
            (None, self.before_phases(bank)),
            (Some(INITRD_PHASE), self.in_initrd(bank)),
        ]
    }
}

#[cfg(test)]
mod tests;
