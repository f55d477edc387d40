// SPDX-License-Identifier: Apache-2.0
//! A program of UEFI: the headers of a portable executable (Microsoft PE format; UEFI, section 2.1.1).

use crate::error::{Error, Result};

/// Where the offset of the PE header is.
const PE_OFFSET: usize = 0x3c;
/// What it starts with.
const PE_SIGNATURE: &[u8] = b"PE\0\0";
/// Bytes of the signature and the COFF header after it.
const COFF_END: usize = 24;
/// Within these, the number of sections and the length of the optional header.
pub(super) const SECTION_COUNT: usize = 6;
const OPTIONAL_LEN: usize = 20;
/// What the optional header of a 32-bit and of a 64-bit program starts with.
const PE32: u16 = 0x10b;
const PE32_PLUS: u16 = 0x20b;
/// Within the optional header: the length of all headers, the checksum, and the number of data directories with the first of
/// them behind it, for both kinds.
const HEADERS_LEN: usize = 60;
const CHECKSUM: usize = 64;
const DIRECTORIES_32: usize = 92;
const DIRECTORIES_64: usize = 108;
/// Which of the directories says where the signatures are.
const SECURITY: usize = 4;
/// Bytes of a directory, and of a section's entry.
pub(super) const DIRECTORY_LEN: usize = 8;
pub(super) const SECTION_LEN: usize = 40;
/// Within a section's entry: its name, length and address in memory, length and offset in the file.
pub(super) const NAME_LEN: usize = 8;
pub(super) const MEMORY_LEN: usize = 8;
pub(super) const MEMORY_ADDRESS: usize = 12;
pub(super) const FILE_LEN: usize = 16;
pub(super) const FILE_OFFSET: usize = 20;
/// The most sections a program may have. A unified kernel image has some fifteen.
const SECTIONS_MAX: u16 = 96;

/// A program, taken apart.
#[derive(Clone, Debug)]
pub struct Pe<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the PE header, the optional header and the table of sections begin.
    pub(super) headers: Headers,
    /// Where the checksum is, which no hash covers.
    pub(super) checksum: usize,
    /// Where the directory of signatures is, which no hash covers; a program may have too few directories.
    pub(super) security: Option<usize>,
    pub(super) headers_len: usize,
    /// The table of signatures: its offset and length. Nothing where there is none.
    pub(super) signatures: Option<(usize, usize)>,
    pub(super) sections: Vec<Section<'a>>,
}

/// Where the parts of a program's headers begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    pub(super) pe: usize,
    pub(super) optional: usize,
    pub(super) sections: usize,
}

/// A section of a program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Section<'a> {
    /// Its name, without the zeros that fill it up.
    pub(super) name: &'a [u8],
    /// Its bytes in the file.
    pub(super) bytes: &'a [u8],
    pub(super) offset: usize,
    /// Where it is in memory.
    pub(super) address: usize,
    /// How many bytes it has in memory.
    pub(super) memory_len: usize,
}

impl<'a> Pe<'a> {
    /// Takes a program apart.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        if bytes.get(..2) != Some(b"MZ") {
            return Err(broken("it does not start as a program does"));
        }
        let pe = size(le32(bytes, PE_OFFSET)?);
        if part(bytes, pe, PE_SIGNATURE.len())? != PE_SIGNATURE {
            return Err(broken("it has no PE header"));
        }
        let optional = add(pe, COFF_END)?;
        let optional_len = usize::from(le16(bytes, add(pe, OPTIONAL_LEN)?)?);
        let directories = add(
            optional,
            match le16(bytes, optional)? {
                PE32 => DIRECTORIES_32,
                PE32_PLUS => DIRECTORIES_64,
                other => {
                    return Err(broken(&format!(
                        "its optional header is of kind {other:#x}"
                    )));
                }
            },
        )?;
        let sections = add(optional, optional_len)?;
        let security = security(bytes, directories, sections)?;
        let signatures = match security {
            Some(at) => (
                size(le32(bytes, at)?),
                size(le32(bytes, add(at, DIRECTORY_LEN / 2)?)?),
            ),
            None => (0, 0),
        };
        let count = le16(bytes, add(pe, SECTION_COUNT)?)?;
        let program = Self {
            bytes,
            headers: Headers {
                pe,
                optional,
                sections,
            },
            checksum: add(optional, CHECKSUM)?,
            security,
            headers_len: size(le32(bytes, add(optional, HEADERS_LEN)?)?),
            signatures: (signatures.1 != 0).then_some(signatures),
            sections: Section::all(bytes, sections, count)?,
        };
        program.check()?;
        Ok(program)
    }

    /// The bytes of its signatures.
    pub(super) fn signature_table(&self) -> &'a [u8] {
        self.signatures
            .and_then(|(offset, len)| part(self.bytes, offset, len).ok())
            .unwrap_or_default()
    }

    /// What hashing relies on: the parts are there, one behind the other, and the signatures are the end of the file.
    fn check(&self) -> Result<()> {
        let security_end = match self.security {
            Some(at) => add(at, DIRECTORY_LEN)?,
            None => add(self.checksum, 4)?,
        };
        if self.headers_len < security_end || self.headers_len > self.bytes.len() {
            return Err(broken("its headers are cut short"));
        }
        match self.signatures {
            Some((offset, len)) if add(offset, len)? != self.bytes.len() => {
                Err(broken("its signatures are not at its end"))
            }
            _ => Ok(()),
        }
    }
}

/// Where the directory of signatures is, among those before the sections.
fn security(bytes: &[u8], directories: usize, sections: usize) -> Result<Option<usize>> {
    let count = size(le32(bytes, directories)?);
    let at = add(directories, 4 + SECURITY * DIRECTORY_LEN)?;
    let is_there = count > SECURITY && add(at, DIRECTORY_LEN)? <= sections;
    Ok(is_there.then_some(at))
}

impl<'a> Section<'a> {
    fn all(bytes: &'a [u8], at: usize, count: u16) -> Result<Vec<Self>> {
        if count > SECTIONS_MAX {
            return Err(broken(&format!("it has {count} sections")));
        }
        let table = part(bytes, at, usize::from(count).saturating_mul(SECTION_LEN))?;
        table
            .chunks_exact(SECTION_LEN)
            .map(|entry| Self::parse(bytes, entry))
            .collect()
    }

    fn parse(bytes: &'a [u8], entry: &'a [u8]) -> Result<Self> {
        let name = part(entry, 0, NAME_LEN)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN);
        let (offset, len) = (
            size(le32(entry, FILE_OFFSET)?),
            size(le32(entry, FILE_LEN)?),
        );
        Ok(Self {
            name: part(name, 0, end)?,
            // One without bytes in the file may say any offset.
            bytes: if len == 0 {
                &[]
            } else {
                part(bytes, offset, len)?
            },
            offset,
            address: size(le32(entry, MEMORY_ADDRESS)?),
            memory_len: size(le32(entry, MEMORY_LEN)?),
        })
    }
}

/// A file that is no program of UEFI.
pub(super) fn broken(why: &str) -> Error {
    Error::refused(format_args!("no unified kernel image: {why}"))
}

pub(super) fn part(bytes: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    bytes
        .get(at..add(at, len)?)
        .ok_or_else(|| broken("it is cut short"))
}

pub(super) fn add(at: usize, len: usize) -> Result<usize> {
    at.checked_add(len).ok_or_else(|| broken("it is cut short"))
}

pub(super) fn le16(bytes: &[u8], at: usize) -> Result<u16> {
    let mut value = [0; 2];
    value.copy_from_slice(part(bytes, at, 2)?);
    Ok(u16::from_le_bytes(value))
}

pub(super) fn le32(bytes: &[u8], at: usize) -> Result<u32> {
    let mut value = [0; 4];
    value.copy_from_slice(part(bytes, at, 4)?);
    Ok(u32::from_le_bytes(value))
}

pub(super) fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
