// SPDX-License-Identifier: Apache-2.0
//! The hash of a program that a signature is over, and that the firmware measures (Windows Authenticode Portable Executable
//! Signature Format, "Calculating the PE Image Hash"; EDK2's `MeasurePeImageAndExtend` takes the same).

use super::pe::{DIRECTORY_LEN, Pe, Section, add, broken, part};
use crate::error::Result;
use crate::pcr::Bank;

/// Bytes of the checksum.
const CHECKSUM_LEN: usize = 4;

impl Pe<'_> {
    /// The Authenticode hash. Signing a program does not change it, if the file had a length that is a multiple of eight.
    pub fn authenticode(&self, bank: Bank) -> Result<Vec<u8>> {
        Ok(bank.hash(&self.signed_bytes()?.concat()))
    }

    /// What the hash is over, in order.
    pub(crate) fn signed_bytes(&self) -> Result<Vec<&[u8]>> {
        let between = |from: usize, to: usize| {
            let len = to.checked_sub(from);
            part(
                self.bytes,
                from,
                len.ok_or_else(|| broken("its headers are cut short"))?,
            )
        };
        let mut parts = vec![between(0, self.checksum)?];
        let after = add(self.checksum, CHECKSUM_LEN)?;
        match self.security {
            Some(at) => {
                parts.push(between(after, at)?);
                parts.push(between(add(at, DIRECTORY_LEN)?, self.headers_len)?);
            }
            None => parts.push(between(after, self.headers_len)?),
        }
        let mut sections: Vec<&Section<'_>> = self
            .sections
            .iter()
            .filter(|section| !section.bytes.is_empty())
            .collect();
        sections.sort_by_key(|section| section.offset);
        let mut end = self.headers_len;
        for section in sections {
            parts.push(section.bytes);
            end = add(end, section.bytes.len())?;
        }
        // What follows the sections counts, its signatures do not.
        let signatures_len = self.signatures.map_or(0, |(_, len)| len);
        let signed_len = self.bytes.len().saturating_sub(signatures_len);
        if end < signed_len {
            parts.push(between(end, signed_len)?);
        }
        Ok(parts)
    }
}
