// SPDX-License-Identifier: Apache-2.0
//! dm-integrity's superblock: 4 KiB at the start of the data, written by the kernel, read by it again on every
//! activation, and authenticated by nothing (rule E21).
//!
//! The kernel computes every field from the device's length and the options of the first activation
//! (drivers/md/dm-integrity.c, `initialize_superblock`), so there is one right answer and it is computed here again.

use std::fmt::Display;

use super::DATA_OFFSET;
use super::reader::{Reader, is_zero};
use super::violation::{equal, violation};
use crate::error::Result;

/// Length of the superblock (`SB_SECTORS`).
pub const SUPERBLOCK_LEN: usize = 4096;

/// `SB_MAGIC`.
const MAGIC: &[u8; 8] = b"integrt\0";
/// `SB_VERSION_4`, what the kernel writes where the only flag is `SB_FLAG_FIXED_PADDING`.
const VERSION: u8 = 4;
/// `SB_FLAG_FIXED_PADDING`. Any other flag asks for recalculation, a bitmap, a journal MAC or inline tags.
const FLAGS: u32 = 0x8;
/// log2 of `DEFAULT_INTERLEAVE_SECTORS`.
const LOG2_INTERLEAVE_SECTORS: u8 = 15;
/// Bytes of an HMAC-SHA256.
const TAG_LEN: u16 = 32;
/// log2 of 512-byte sectors in a block of 4096.
const LOG2_BLOCK_SECTORS: u8 = 3;
const BLOCK_SECTORS: u64 = 1 << LOG2_BLOCK_SECTORS;
/// Sectors of a journal section: 32 entries of a block each, and `JOURNAL_BLOCK_SECTORS` for the entries themselves. A
/// sector of 504 usable bytes takes 4 entries of 8 + 8 × 8 + 32 bytes (`calculate_journal_section_size`).
const SECTION_SECTORS: u64 = 32 * BLOCK_SECTORS + 8;
/// `DEFAULT_MAX_JOURNAL_SECTORS` and `DEFAULT_JOURNAL_SIZE_FACTOR`.
const MAX_JOURNAL_SECTORS: u64 = 131_072;
const JOURNAL_SIZE_FACTOR: u32 = 7;
/// Sectors of the tags of one interleave run of 32768 sectors, a multiple of `METADATA_PADDING_SECTORS`.
const METADATA_RUN: u64 = (TAG_LEN as u64) << (LOG2_INTERLEAVE_SECTORS - LOG2_BLOCK_SECTORS) >> 9;
/// `SB_SECTORS`.
const SUPERBLOCK_SECTORS: u64 = 8;

/// Compares a superblock with what the kernel writes on a device of `device_len` bytes for our segment.
///
/// A device that was resized after provisioning is refused by its `journal_sections` or `provided_data_sectors`:
/// libcryptsetup cannot resize a segment with integrity either.
pub fn check(bytes: &[u8; SUPERBLOCK_LEN], device_len: u64) -> Result<()> {
    let expected = Layout::of(device_len);
    let mut reader = Reader::new(bytes);
    if reader.array().as_ref() != Some(MAGIC) {
        return Err(violation(
            "E21",
            "integrity superblock: magic",
            "expected \"integrt\", found something else",
        ));
    }
    same("version", reader.array().map(u8::from_le_bytes), VERSION)?;
    let interleave = reader.array().map(u8::from_le_bytes);
    same(
        "log2_interleave_sectors",
        interleave,
        LOG2_INTERLEAVE_SECTORS,
    )?;
    same(
        "integrity_tag_size",
        reader.array().map(u16::from_le_bytes),
        TAG_LEN,
    )?;
    let sections = reader.array().map(u32::from_le_bytes).map(u64::from);
    same("journal_sections", sections, expected.journal_sections)?;
    let sectors = reader.array().map(u64::from_le_bytes);
    same("provided_data_sectors", sectors, expected.data_sectors)?;
    same("flags", reader.array().map(u32::from_le_bytes), FLAGS)?;
    let block = reader.array().map(u8::from_le_bytes);
    same("log2_sectors_per_block", block, LOG2_BLOCK_SECTORS)?;
    let bitmap = reader.array().map(u8::from_le_bytes);
    same(
        "log2_blocks_per_bitmap_bit",
        bitmap,
        expected.log2_blocks_per_bit,
    )?;
    if !is_zero(reader.rest()) {
        return Err(violation(
            "E21",
            "integrity superblock: padding, recalc_sector and salt",
            "expected zeros, found something else",
        ));
    }
    Ok(())
}

/// Bytes of the volume's mapping on a device of `device_len` bytes.
#[must_use]
pub fn data_len(device_len: u64) -> u64 {
    Layout::of(device_len).data_sectors.saturating_mul(512)
}

fn same<T: std::fmt::Debug + PartialEq + Display>(
    field: &str,
    found: Option<T>,
    expected: T,
) -> Result<()> {
    let field = format_args!("integrity superblock: {field}");
    match found {
        Some(found) => equal("E21", field, found, expected),
        None => Err(violation("E21", field, "expected more bytes")),
    }
}

/// What follows from a device's length.
struct Layout {
    journal_sections: u64,
    data_sectors: u64,
    log2_blocks_per_bit: u8,
}

impl Layout {
    fn of(device_len: u64) -> Self {
        let device_sectors = device_len >> 9;
        let journal_sectors = (device_sectors >> JOURNAL_SIZE_FACTOR).min(MAX_JOURNAL_SECTORS);
        let journal_sections = (journal_sectors / SECTION_SECTORS).max(1);
        let journal_sectors = journal_sections.saturating_mul(SECTION_SECTORS);
        // `get_provided_data_sectors`: the largest size, bit by bit, whose last sector is still on the device.
        let first = (DATA_OFFSET >> 9)
            .saturating_add(SUPERBLOCK_SECTORS)
            .saturating_add(journal_sectors);
        let mut data_sectors = 0_u64;
        for bit in (LOG2_BLOCK_SECTORS..64).rev() {
            let more = data_sectors | 1_u64 << bit;
            if last_sector(first, more).is_some_and(|last| last < device_sectors) {
                data_sectors = more;
            }
        }
        Self {
            journal_sections,
            data_sectors,
            log2_blocks_per_bit: log2_blocks_per_bit(journal_sectors, data_sectors),
        }
    }
}

/// Where the last of `data_sectors` is (`get_data_sector`), if that number exists.
fn last_sector(first: u64, data_sectors: u64) -> Option<u64> {
    let last = data_sectors.checked_sub(1)?;
    let runs = (last >> LOG2_INTERLEAVE_SECTORS).checked_add(1)?;
    let tags = runs.checked_mul(METADATA_RUN)?;
    first.checked_add(last)?.checked_add(tags)
}

/// Kept in the superblock for mode B, of no effect in mode J.
fn log2_blocks_per_bit(journal_sectors: u64, data_sectors: u64) -> u8 {
    // DEFAULT_SECTORS_PER_BITMAP_BIT is 32768.
    let mut log2_sectors_per_bit = 15_u8;
    let bits = journal_sectors
        .saturating_mul(512 * 8)
        .min(u64::from(u32::MAX));
    let needed = |log2: u8| {
        let round = 1_u64.checked_shl(u32::from(log2))?.checked_sub(1)?;
        data_sectors
            .checked_add(round)?
            .checked_shr(u32::from(log2))
    };
    while needed(log2_sectors_per_bit).is_some_and(|needed| bits < needed) {
        log2_sectors_per_bit = log2_sectors_per_bit.saturating_add(1);
    }
    log2_sectors_per_bit.saturating_sub(LOG2_BLOCK_SECTORS)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::Exit;

    /// A superblock field by field, with sizes worked out by hand for a device of 64 MiB and data at 16 MiB:
    /// 131072 sectors, of which 32768 are header; 131072 / 128 = 1024 journal sectors = 3 sections; 3 runs of tags.
    pub(crate) fn superblock() -> [u8; SUPERBLOCK_LEN] {
        let fields: [&[u8]; 9] = [
            b"integrt\0",
            &[4, 15],
            &32_u16.to_le_bytes(),
            &3_u32.to_le_bytes(),
            &96_736_u64.to_le_bytes(),
            &8_u32.to_le_bytes(),
            &[3, 12],
            &[0; 2],
            &[0; 8],
        ];
        let mut bytes = [0; SUPERBLOCK_LEN];
        for (to, from) in bytes.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        bytes
    }

    /// What a 1 TiB disk was measured to give through libcryptsetup 2.6.1 with data at 16 MiB.
    #[test]
    fn the_length_of_a_volume_equals_the_measured_one() {
        assert_eq!(data_len(1 << 40), 1_090_904_977_408);
    }

    #[test]
    fn the_volume_fills_the_device_to_the_last_block() {
        // Header, superblock, 3 sections, 3 runs of tags, data: one block more would not fit.
        let used = 32_768 + 8 + 3 * 264 + 3 * 256 + 96_736;
        assert_eq!(used, 131_072);
        check(&superblock(), 64 << 20).unwrap();
        check(&superblock(), (64 << 20) + 4095).unwrap();
    }

    #[test]
    fn rule_e21_every_field_of_the_superblock_is_constant() {
        check(&superblock(), 64 << 20).unwrap();
        let zeros = "padding, recalc_sector and salt: expected zeros, found something else";
        for (at, what, expected) in [
            (0, b'x', "magic: expected \"integrt\", found something else"),
            (8, 5, "version: expected 4, found 5"),
            (9, 3, "log2_interleave_sectors: expected 15, found 3"),
            (10, 16, "integrity_tag_size: expected 32, found 16"),
            (12, 4, "journal_sections: expected 3, found 4"),
            (16, 0, "provided_data_sectors: expected 96736, found 96512"),
            (24, 0x0a, "flags: expected 8, found 10"),
            (24, 0, "flags: expected 8, found 0"),
            (28, 0, "log2_sectors_per_block: expected 3, found 0"),
            (29, 13, "log2_blocks_per_bitmap_bit: expected 12, found 13"),
            (30, 1, zeros),
            (32, 1, zeros),
            (48, 1, zeros),
            (4095, 1, zeros),
        ] {
            let mut bytes = superblock();
            bytes[at] = what;
            let error = check(&bytes, 64 << 20).unwrap_err();
            assert_eq!(error.exit(), Exit::Refused);
            assert_eq!(
                error.to_string(),
                format!("rule E21: integrity superblock: {expected}")
            );
        }
    }

    #[test]
    fn rule_e21_a_superblock_of_a_device_of_another_length_is_refused() {
        assert_eq!(
            check(&superblock(), 65 << 20).unwrap_err().to_string(),
            "rule E21: integrity superblock: provided_data_sectors: expected 98528, found 96736"
        );
        assert_eq!(
            check(&superblock(), 1 << 40).unwrap_err().to_string(),
            "rule E21: integrity superblock: journal_sections: expected 496, found 3"
        );
    }
}
