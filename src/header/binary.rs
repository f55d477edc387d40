// SPDX-License-Identifier: Apache-2.0
//! The binary part of a header: two copies of 4 KiB, each in front of its JSON (LUKS2 On-Disk Format Specification 1.1,
//! section 2.1; rules B5 to B7).

use sha2::{Digest, Sha256};

use super::reader::{Reader, is_zero, text};
use super::uuid;
use super::violation::{equal, unexpected, violation};
use crate::error::{Error, Result};

/// Length of one copy with its JSON. LUKS2 allows larger ones; libcryptsetup makes this one by default.
pub(super) const COPY_LEN: usize = 16384;
/// Length of the binary part.
pub(super) const BINARY_LEN: usize = 4096;
/// Length of the JSON area.
pub(super) const JSON_LEN: usize = COPY_LEN - BINARY_LEN;
/// What is between the magic and the UUID in the binary part, in bytes.
const UP_TO_UUID_LEN: usize = 162;
/// Where the sequence number, the salt and the header's own offset are in the binary part.
const SEQID_OFFSET: usize = 16;
const SALT_OFFSET: usize = 104;
const HEADER_OFFSET_OFFSET: usize = 256;
/// Where the checksum is in the binary part, and how long its field is.
const CHECKSUM_OFFSET: usize = 448;
const CHECKSUM_LEN: usize = 64;

/// What the first copy starts with.
pub(super) const PRIMARY_MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
/// What the second copy starts with.
pub(super) const SECONDARY_MAGIC: [u8; 6] = *b"SKUL\xba\xbe";

/// What a copy says.
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

/// One of the two copies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    /// At the start of the device.
    Primary,
    /// Behind it.
    Secondary,
}

impl Side {
    /// Where it is in the header area, in bytes.
    pub(super) fn offset(self) -> usize {
        match self {
            Self::Primary => 0,
            Self::Secondary => COPY_LEN,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary header",
            Self::Secondary => "secondary header",
        }
    }

    fn magic(self) -> [u8; 6] {
        match self {
            Self::Primary => PRIMARY_MAGIC,
            Self::Secondary => SECONDARY_MAGIC,
        }
    }
}

/// Reads one copy, whatever the other one says.
pub(super) fn parse(area: &[u8], side: Side) -> Result<Binary<'_>> {
    let bytes = area
        .get(side.offset()..)
        .and_then(|rest| rest.get(..COPY_LEN));
    let bytes =
        bytes.ok_or_else(|| violation("B5", side.as_str(), "expected 16 KiB, found less"))?;
    copy(side.as_str(), side.magic(), side.offset(), bytes)
}

/// Compares the copies, both valid by themselves (rule B6).
pub(super) fn compare(area: &[u8]) -> Result<()> {
    let first = parse(area, Side::Primary)?;
    let second = parse(area, Side::Secondary)?;
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
        None => Ok(()),
        Some(at) => Err(violation(
            "B6",
            "secondary header: metadata",
            format_args!("expected the bytes of the primary header's, found others from byte {at}"),
        )),
    }
}

/// Makes the other copy say what the one at `side` does.
pub(super) fn mirror(area: &mut [u8], side: Side) -> Result<()> {
    let start = side.offset();
    let copy = area.get(start..start.saturating_add(COPY_LEN));
    let copy = copy.ok_or_else(too_short)?.to_vec();
    place(area, &copy)
}

/// Gives both copies a sequence number and a JSON text. They were the same before.
pub(super) fn rewrite(area: &mut [u8], seqid: u64, json: &[u8]) -> Result<()> {
    let mut copy = area.get(..COPY_LEN).ok_or_else(too_short)?.to_vec();
    // The last byte stays zero: libcryptsetup wants the text terminated.
    if json.len() >= JSON_LEN {
        return Err(Error::failure("the metadata has no room for the new token"));
    }
    put(&mut copy, SEQID_OFFSET, &seqid.to_be_bytes())?;
    copy.get_mut(BINARY_LEN..).unwrap_or_default().fill(0);
    put(&mut copy, BINARY_LEN, json)?;
    place(area, &copy)
}

/// The binary header without what is not the same in both copies: magic, salt, offset and checksum are zeros.
pub(super) fn without_copy(area: &[u8]) -> Result<Vec<u8>> {
    let mut binary = area.get(..BINARY_LEN).ok_or_else(too_short)?.to_vec();
    put(&mut binary, 0, &[0; 6])?;
    put(&mut binary, SALT_OFFSET, &[0; 64])?;
    put(&mut binary, HEADER_OFFSET_OFFSET, &[0; 8])?;
    put(&mut binary, CHECKSUM_OFFSET, &[0; CHECKSUM_LEN])?;
    Ok(binary)
}

/// Puts `copy` at both places, each time with its magic, offset and checksum. They share a salt, which is of no effect: it
/// makes checksums differ.
fn place(area: &mut [u8], copy: &[u8]) -> Result<()> {
    let mut copy = copy.to_vec();
    for side in [Side::Primary, Side::Secondary] {
        put(&mut copy, 0, &side.magic())?;
        put(
            &mut copy,
            HEADER_OFFSET_OFFSET,
            &(side.offset() as u64).to_be_bytes(),
        )?;
        put(&mut copy, CHECKSUM_OFFSET, &[0; CHECKSUM_LEN])?;
        let sum = Sha256::digest(&copy);
        put(&mut copy, CHECKSUM_OFFSET, &sum)?;
        put(area, side.offset(), &copy)?;
    }
    Ok(())
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) -> Result<()> {
    let end = at.saturating_add(what.len());
    bytes
        .get_mut(at..end)
        .ok_or_else(too_short)?
        .copy_from_slice(what);
    Ok(())
}

fn too_short() -> Error {
    Error::failure("the header area is shorter than a header")
}

/// Reads one copy. Its salt may be anything: it only makes checksums differ.
fn copy<'a>(name: &str, magic: [u8; 6], offset: usize, copy: &'a [u8]) -> Result<Binary<'a>> {
    let field = |field: &str| format!("{name}: {field}");
    let mut reader = Reader::new(copy);
    let short = || violation("B5", name, "expected 16 KiB, found less");
    let number = |reader: &mut Reader<'_>| reader.array().map(u64::from_be_bytes);

    if reader.array() != Some(magic) {
        return Err(violation(
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
        return Err(violation(
            "B5",
            name,
            "expected the checksum of this copy, found another",
        ));
    }
    zero(name, Some(field.rest()))
}

fn words<'a>(name: &str, field: Option<&'a [u8]>) -> Result<&'a str> {
    let words = field.and_then(text);
    words.ok_or_else(|| violation("B7", name, "expected ASCII and zeros, found something else"))
}

fn zero(name: &str, field: Option<&[u8]>) -> Result<()> {
    match field {
        Some(field) if is_zero(field) => Ok(()),
        _ => Err(nonzero(name)),
    }
}

fn nonzero(name: &str) -> Error {
    violation("B5", name, "expected zeros, found something else")
}
