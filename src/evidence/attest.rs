// SPDX-License-Identifier: Apache-2.0
//! The statement of a quote, a `TPMS_ATTEST` (TPM 2.0 part 2, section 10.12.12).
//!
//! **Never:** a length or a place from the bytes is trusted before it was compared with what is there.

use super::bytes::Bytes;
use super::registers::{self, Registers};
use super::{Check, Refusal};
use crate::pcr::Bank;

/// What every statement of a TPM starts with (`TPM_GENERATED_VALUE`, part 2, section 6.2).
const GENERATED: u32 = 0xff54_4347;
/// The statement is a quote (`TPM_ST_ATTEST_QUOTE`, part 2, section 6.9).
const ATTEST_QUOTE: u16 = 0x8018;
/// The longest qualifying data, a digest with its algorithm (`TPM2B_DATA`, part 2, section 10.4.3).
const EXTRA_DATA_MAX: usize = 66;
/// The most banks a TPM has (`HASH_COUNT` of any TPM there is, with room).
const BANKS_MAX: u32 = 16;

/// A quote, taken apart. It is as good as the signature over it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attest {
    /// The qualified name of the key that signed.
    pub signer: Vec<u8>,
    /// What the quote was asked to be about.
    pub extra_data: Vec<u8>,
    /// The TPM's clock.
    pub clock: Clock,
    /// The version of the TPM's firmware, as the vendor counts.
    pub firmware_version: u64,
    /// The PCRs of each bank, as they were selected.
    pub selections: Vec<Selection>,
    /// The digest over their values, by the algorithm of the signature.
    pub pcr_digest: Vec<u8>,
}

/// A TPM's clock (`TPMS_CLOCK_INFO`, part 2, section 10.11.1). A hint at freshness: a host may let it stand still.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Clock {
    /// Milliseconds the TPM has been powered since it was last cleared.
    pub milliseconds: u64,
    /// Resets since then.
    pub resets: u32,
    /// Resumes and restarts since the last reset.
    pub restarts: u32,
    /// Whether no later value was ever told before.
    pub safe: bool,
}

/// PCRs of one bank.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Selection {
    /// The `TPM_ALG_ID` of the bank; this program need not know it.
    pub algorithm: u16,
    /// The PCRs.
    pub pcrs: Registers,
}

impl Selection {
    /// The bank, where this program can compute it.
    #[must_use]
    pub fn bank(self) -> Option<Bank> {
        registers::bank(self.algorithm)
    }
}

impl Attest {
    /// Takes a `TPMS_ATTEST` of a quote apart.
    ///
    /// Fails [`Check::Magic`] or [`Check::Kind`] where a TPM did not make it or it is no quote, else [`Check::Encoding`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut bytes = Bytes::new(bytes, "statement", Check::Encoding);
        let magic = bytes.be32()?;
        if magic != GENERATED {
            return Err(Refusal::new(
                Check::Magic,
                format_args!("no TPM made this statement: it starts with {magic:#010x}"),
            ));
        }
        let kind = bytes.be16()?;
        if kind != ATTEST_QUOTE {
            return Err(Refusal::new(
                Check::Kind,
                format_args!("expected a quote ({ATTEST_QUOTE:#06x}), found {kind:#06x}"),
            ));
        }
        let attest = Self {
            signer: bytes.sized()?.to_vec(),
            extra_data: extra_data(&mut bytes)?,
            clock: clock(&mut bytes)?,
            firmware_version: bytes.be64()?,
            selections: selections(&mut bytes)?,
            pcr_digest: bytes.sized()?.to_vec(),
        };
        bytes.finish()?;
        Ok(attest)
    }

    /// The bank and its PCRs, where the quote is over one bank.
    #[must_use]
    pub fn selection(&self) -> Option<(Bank, Registers)> {
        match self.selections[..] {
            [only] => Some((only.bank()?, only.pcrs)),
            _ => None,
        }
    }
}

fn extra_data(bytes: &mut Bytes<'_>) -> Result<Vec<u8>, Refusal> {
    let data = bytes.sized()?;
    if data.len() > EXTRA_DATA_MAX {
        let len = data.len();
        return Err(bytes.refusal(format_args!("{len} bytes of qualifying data")));
    }
    Ok(data.to_vec())
}

fn clock(bytes: &mut Bytes<'_>) -> Result<Clock, Refusal> {
    Ok(Clock {
        milliseconds: bytes.be64()?,
        resets: bytes.be32()?,
        restarts: bytes.be32()?,
        safe: match bytes.u8()? {
            0 => false,
            1 => true,
            other => return Err(bytes.refusal(format_args!("{other} is no yes or no"))),
        },
    })
}

/// A `TPML_PCR_SELECTION` (part 2, section 10.9.7).
fn selections(bytes: &mut Bytes<'_>) -> Result<Vec<Selection>, Refusal> {
    let count = bytes.be32()?;
    if count > BANKS_MAX {
        return Err(bytes.refusal(format_args!("{count} selections of PCRs")));
    }
    (0..count).map(|_| selection(bytes)).collect()
}

fn selection(bytes: &mut Bytes<'_>) -> Result<Selection, Refusal> {
    let algorithm = bytes.be16()?;
    let len = bytes.u8()?;
    if !(1..=4).contains(&len) {
        return Err(bytes.refusal(format_args!("a selection of {len} octets")));
    }
    let octets = bytes.take(usize::from(len))?;
    let bits = octets
        .iter()
        .rev()
        .fold(0_u32, |bits, octet| (bits << 8) | u32::from(*octet));
    let pcrs =
        Registers::from_bits(bits).ok_or_else(|| bytes.refusal("it selects a PCR above 23"))?;
    Ok(Selection { algorithm, pcrs })
}

#[cfg(test)]
mod tests;
