// SPDX-License-Identifier: Apache-2.0
//! The binary part of a header: two copies of 4 KiB, each in front of its JSON (LUKS2 On-Disk Format Specification 1.1,
//! section 2.1; rules B5 to B7).

use sha2::{Digest, Sha256};

use super::broken::{broken, equal, unexpected};
use super::reader::{Reader, is_zero, text};
use super::uuid;
use crate::error::{Error, Result};

/// Length of one copy with its JSON. LUKS2 allows larger ones; libcryptsetup makes this one by default.
pub(super) const COPY_LEN: usize = 16384;
/// Length of the binary part.
pub(super) const BINARY_LEN: usize = 4096;
/// Length of the JSON area.
pub(super) const JSON_LEN: usize = COPY_LEN - BINARY_LEN;
/// What is between the magic and the UUID in the binary part, in bytes.
const UP_TO_UUID_LEN: usize = 162;
/// Where the checksum is in the binary part, and how long its field is.
const CHECKSUM_OFFSET: usize = 448;
const CHECKSUM_LEN: usize = 64;

/// What the first copy starts with.
pub(super) const PRIMARY_MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
/// What the second copy starts with.
pub(super) const SECONDARY_MAGIC: [u8; 6] = *b"SKUL\xba\xbe";

/// What both copies say.
#[derive(Debug)]
pub(super) struct Binary<'a> {
    pub(super) seqid: u64,
    pub(super) label: &'a str,
    pub(super) subsystem: &'a str,
    pub(super) uuid: String,
    pub(super) json: &'a [u8],
}

/// How a copy begins, by its first sector alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// Zeros.
    Blank,
    /// The magic, and the UUID that was asked for.
    Named,
    /// Anything else.
    Foreign,
}

/// How the copy with `magic` begins in `sector`, where a volume `uuid` is meant.
pub(super) fn start(sector: &[u8], magic: [u8; 6], uuid: &str) -> Start {
    if is_zero(sector) {
        return Start::Blank;
    }
    let mut reader = Reader::new(sector);
    let is_magic = reader.array() == Some(magic);
    let _up_to_uuid = reader.take(UP_TO_UUID_LEN);
    if is_magic && reader.take(40).and_then(text) == Some(uuid) {
        Start::Named
    } else {
        Start::Foreign
    }
}

/// Reads and compares both copies.
pub(super) fn parse(area: &[u8]) -> Result<Binary<'_>> {
    let mut reader = Reader::new(area);
    let (Some(first), Some(second)) = (reader.take(COPY_LEN), reader.take(COPY_LEN)) else {
        return Err(broken(
            "B5",
            "header",
            "expected two copies of 16 KiB, found less",
        ));
    };
    let first = copy("primary header", PRIMARY_MAGIC, 0, first)?;
    let second = copy("secondary header", SECONDARY_MAGIC, COPY_LEN, second)?;
    equal("B6", "secondary header: seqid", second.seqid, first.seqid)?;
    equal("B6", "secondary header: uuid", &second.uuid, &first.uuid)?;
    equal("B6", "secondary header: label", second.label, first.label)?;
    equal(
        "B6",
        "secondary header: subsystem",
        second.subsystem,
        first.subsystem,
    )?;
    let differs = first.json.iter().zip(second.json).position(|(a, b)| a != b);
    match differs {
        None => Ok(first),
        Some(at) => Err(broken(
            "B6",
            "secondary header: metadata",
            format_args!("expected the bytes of the primary header's, found others from byte {at}"),
        )),
    }
}

/// Reads one copy. Its salt may be anything: it only makes checksums differ.
fn copy<'a>(name: &str, magic: [u8; 6], offset: usize, copy: &'a [u8]) -> Result<Binary<'a>> {
    let field = |field: &str| format!("{name}: {field}");
    let mut reader = Reader::new(copy);
    let short = || broken("B5", name, "expected 16 KiB, found less");
    let number = |reader: &mut Reader<'_>| reader.array().map(u64::from_be_bytes);

    if reader.array() != Some(magic) {
        return Err(broken(
            "B5",
            field("magic"),
            format_args!(
                "expected \"{}\", found something else",
                magic.escape_ascii()
            ),
        ));
    }
    let version = reader.array().map(u16::from_be_bytes).ok_or_else(short)?;
    equal("B5", field("version"), version, 2)?;
    let header_len = number(&mut reader).ok_or_else(short)?;
    equal("B5", field("hdr_size"), header_len, COPY_LEN as u64)?;
    let seqid = number(&mut reader).ok_or_else(short)?;
    let label = words(&field("label"), reader.take(48))?;
    let algorithm = words(&field("csum_alg"), reader.take(32))?;
    equal("B5", field("csum_alg"), algorithm, "sha256")?;
    let _salt: [u8; 64] = reader.array().ok_or_else(short)?;
    let id = words(&field("uuid"), reader.take(40))?;
    let id = uuid(id).ok_or_else(|| unexpected("B7", field("uuid"), "a lower-case UUID", id))?;
    let subsystem = words(&field("subsystem"), reader.take(48))?;
    let header_offset = number(&mut reader).ok_or_else(short)?;
    equal("B5", field("hdr_offset"), header_offset, offset as u64)?;
    zero(&field("reserved bytes"), reader.take(184))?;
    checksum(&field("csum"), copy, reader.take(CHECKSUM_LEN))?;
    zero(&field("reserved bytes"), reader.take(7 * 512))?;
    Ok(Binary {
        seqid,
        label,
        subsystem,
        uuid: id,
        json: reader.rest(),
    })
}

/// SHA-256 over the copy with the checksum's field taken as zeros.
fn checksum(name: &str, copy: &[u8], field: Option<&[u8]>) -> Result<()> {
    let mut reader = Reader::new(copy);
    let before = reader.take(CHECKSUM_OFFSET).unwrap_or_default();
    let _field = reader.take(CHECKSUM_LEN);
    let sum = Sha256::new()
        .chain_update(before)
        .chain_update([0; CHECKSUM_LEN])
        .chain_update(reader.rest())
        .finalize();
    let mut field = Reader::new(field.unwrap_or_default());
    if field.array() != Some(<[u8; 32]>::from(sum)) {
        return Err(broken(
            "B5",
            name,
            "expected the checksum of this copy, found another",
        ));
    }
    zero(name, Some(field.rest()))
}

fn words<'a>(name: &str, field: Option<&'a [u8]>) -> Result<&'a str> {
    let words = field.and_then(text);
    words.ok_or_else(|| broken("B7", name, "expected ASCII and zeros, found something else"))
}

fn zero(name: &str, field: Option<&[u8]>) -> Result<()> {
    match field {
        Some(field) if is_zero(field) => Ok(()),
        _ => Err(nonzero(name)),
    }
}

fn nonzero(name: &str) -> Error {
    broken("B5", name, "expected zeros, found something else")
}
