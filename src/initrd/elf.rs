// SPDX-License-Identifier: Apache-2.0
//! What a program or a library asks the dynamic loader for (System V ABI, chapters 4 and 5; ld.so(8)).

use crate::error::{Error, Result};

const MAGIC: &[u8] = b"\x7fELF";
/// In the bytes after it: 64 bits, and the least significant byte first.
const CLASS_AND_DATA: [u8; 2] = [2, 1];
/// Offsets in the header: the machine, the table of program headers, the length of one, and how many there are.
const MACHINE: usize = 0x12;
const TABLE: usize = 0x20;
const HEADER_LEN: usize = 0x36;
const HEADER_COUNT: usize = 0x38;
/// Offsets in a program header: where the segment is in the file, at which address, and how long it is.
const OFFSET: usize = 0x8;
const ADDRESS: usize = 0x10;
const FILE_LEN: usize = 0x20;
/// Kinds of segments.
const LOADED: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;
/// Bytes of an entry of the dynamic section, and the tags of those that are looked at.
const DYNAMIC_LEN: usize = 16;
const NEEDED: u64 = 1;
const STRINGS: u64 = 5;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;
/// The longest name of a library or list of places, with its zero: that of a path.
const STRING_LEN_MAX: usize = 4096;
/// The most segments and libraries that are looked at. Programs have some ten of both.
const ENTRIES_MAX: usize = 4096;

/// The processors whose programs the initrd can be of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Machine {
    /// x86-64 (`EM_X86_64`).
    X86,
    /// 64-bit Arm (`EM_AARCH64`).
    Arm,
    /// Any other.
    Other,
}

/// What a file of ELF needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Elf<'a> {
    /// Which processor it is for.
    pub machine: Machine,
    /// The dynamic loader, where it is a program that has one.
    pub interpreter: Option<&'a str>,
    /// The libraries that it names.
    pub needed: Vec<&'a str>,
    /// Where it wants them looked for first, directories separated by colons.
    pub search: Vec<&'a str>,
}

impl<'a> Elf<'a> {
    /// Takes a file apart. Nothing where it is no file of ELF, such as a script.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>> {
        if !bytes.starts_with(MAGIC) {
            return Ok(None);
        }
        if bytes.get(4..6) != Some(&CLASS_AND_DATA) {
            return Err(broken("it is not one of 64 bits, little endian"));
        }
        let segments = Segment::all(bytes)?;
        let find = |kind| segments.iter().find(|segment| segment.kind == kind);
        let mut elf = Self {
            machine: match le16(bytes, MACHINE)? {
                62 => Machine::X86,
                183 => Machine::Arm,
                _ => Machine::Other,
            },
            interpreter: None,
            needed: Vec::new(),
            search: Vec::new(),
        };
        if let Some(segment) = find(INTERPRETER) {
            elf.interpreter = Some(string(segment.bytes)?);
        }
        if let Some(dynamic) = find(DYNAMIC) {
            elf.read(dynamic, &segments)?;
        }
        Ok(Some(elf))
    }

    fn read(&mut self, dynamic: &Segment<'a>, segments: &[Segment<'a>]) -> Result<()> {
        let mut entries = Vec::new();
        for entry in dynamic.bytes.chunks_exact(DYNAMIC_LEN).take(ENTRIES_MAX) {
            entries.push((le64(entry, 0)?, le64(entry, 8)?));
        }
        let Some((_, address)) = entries.iter().find(|(tag, _)| *tag == STRINGS) else {
            return Ok(());
        };
        let strings = Segment::from(segments, *address)?;
        for (tag, value) in entries {
            if matches!(tag, NEEDED | RPATH | RUNPATH) {
                let text = usize::try_from(value).ok().and_then(|at| strings.get(at..));
                let text = string(text.ok_or_else(|| broken("it is cut short"))?)?;
                if tag == NEEDED {
                    self.needed.push(text);
                } else {
                    self.search.push(text);
                }
            }
        }
        Ok(())
    }
}

/// A part of the file that becomes one of the memory.
#[derive(Clone, Copy, Debug)]
struct Segment<'a> {
    kind: u32,
    address: u64,
    bytes: &'a [u8],
}

impl<'a> Segment<'a> {
    fn all(bytes: &'a [u8]) -> Result<Vec<Self>> {
        let table = size(le64(bytes, TABLE)?);
        let len = usize::from(le16(bytes, HEADER_LEN)?);
        let count = usize::from(le16(bytes, HEADER_COUNT)?);
        let headers = part(bytes, table, len.saturating_mul(count))?;
        let mut segments = Vec::new();
        for header in headers.chunks_exact(len.max(1)).take(ENTRIES_MAX) {
            let kind = le32(header, 0)?;
            if matches!(kind, LOADED | DYNAMIC | INTERPRETER) {
                segments.push(Self {
                    kind,
                    address: le64(header, ADDRESS)?,
                    bytes: part(
                        bytes,
                        size(le64(header, OFFSET)?),
                        size(le64(header, FILE_LEN)?),
                    )?,
                });
            }
        }
        Ok(segments)
    }

    /// What is at an address, to the end of its segment.
    fn from(segments: &[Self], address: u64) -> Result<&'a [u8]> {
        let mut loaded = segments.iter().filter(|it| it.kind == LOADED);
        let found = loaded.find_map(|segment| {
            let at = usize::try_from(address.checked_sub(segment.address)?).ok()?;
            segment.bytes.get(at..).filter(|bytes| !bytes.is_empty())
        });
        found.ok_or_else(|| broken("its strings are at no address of it"))
    }
}

fn broken(why: &str) -> Error {
    Error::refused(format_args!("no program that can be read: {why}"))
}

/// The text up to the zero that ends it.
fn string(bytes: &[u8]) -> Result<&str> {
    let mut first = bytes.iter().take(STRING_LEN_MAX);
    let end = first.position(|byte| *byte == 0);
    let text = end.and_then(|end| bytes.get(..end));
    text.and_then(|text| std::str::from_utf8(text).ok())
        .ok_or_else(|| broken("a name in it is no text"))
}

fn part(bytes: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    let end = at.checked_add(len);
    end.and_then(|end| bytes.get(at..end))
        .ok_or_else(|| broken("it is cut short"))
}

fn le16(bytes: &[u8], at: usize) -> Result<u16> {
    let mut value = [0; 2];
    value.copy_from_slice(part(bytes, at, 2)?);
    Ok(u16::from_le_bytes(value))
}

fn le32(bytes: &[u8], at: usize) -> Result<u32> {
    let mut value = [0; 4];
    value.copy_from_slice(part(bytes, at, 4)?);
    Ok(u32::from_le_bytes(value))
}

fn le64(bytes: &[u8], at: usize) -> Result<u64> {
    let mut value = [0; 8];
    value.copy_from_slice(part(bytes, at, 8)?);
    Ok(u64::from_le_bytes(value))
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
