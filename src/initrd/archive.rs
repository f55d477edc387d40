// SPDX-License-Identifier: Apache-2.0
//! Archives of cpio in its format newc (Linux, Documentation/driver-api/early-userspace/buffer-format.rst; `init/initramfs.c`).

use crate::error::{Error, Result};

/// What a header starts with: without a checksum, and with one, which the kernel does not look at.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// Bytes of a header: the magic, and numbers of eight hexadecimal digits each.
const HEADER_LEN: usize = 110;
const MAGIC_LEN: usize = 6;
const NUMBER_LEN: usize = 8;
/// Which of the numbers are of use.
const INODE: usize = 0;
const MODE: usize = 1;
const LINKS: usize = 4;
const FILE_LEN: usize = 6;
const MAJOR: usize = 7;
const MINOR: usize = 8;
const NAME_LEN: usize = 11;
/// The name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";
/// What headers and contents begin at a multiple of.
pub(super) const ALIGNMENT: usize = 4;
/// The longest name, with its zero (Linux, `PATH_MAX`).
const NAME_LEN_MAX: usize = 4096;

/// An entry of an archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) mode: u32,
    /// How many names the file has.
    pub(super) links: u32,
    /// What names of the same file have in common: the device's numbers and the inode's.
    pub(super) id: (u32, u32, u32),
    pub(super) contents: &'a [u8],
}

impl Entry<'_> {
    /// Whether it is the entry that ends an archive.
    pub(super) fn is_trailer(&self) -> bool {
        self.name == TRAILER
    }
}

/// The entry that `bytes` begin with, and what follows it.
pub(super) fn entry(bytes: &[u8]) -> Result<(Entry<'_>, &[u8])> {
    let header = bytes.get(..HEADER_LEN).ok_or_else(cut)?;
    if !MAGICS.iter().any(|magic| header.starts_with(magic)) {
        return Err(broken("expected an entry of cpio's format newc"));
    }
    let len = |index| number(header, index).map(size);
    let name_len = len(NAME_LEN)?;
    if name_len > NAME_LEN_MAX {
        return Err(broken("a name in it is longer than a path can be"));
    }
    let name_end = HEADER_LEN.checked_add(name_len).ok_or_else(cut)?;
    let name = bytes.get(HEADER_LEN..name_end).ok_or_else(cut)?;
    if name.last() != Some(&0) {
        return Err(broken("a name in it has no end"));
    }
    let start = aligned(name_end)?;
    let end = start.checked_add(len(FILE_LEN)?).ok_or_else(cut)?;
    let entry = Entry {
        // Padded with zeros by archivers that align contents.
        name: to_zero(name),
        mode: number(header, MODE)?,
        links: number(header, LINKS)?,
        id: (
            number(header, MAJOR)?,
            number(header, MINOR)?,
            number(header, INODE)?,
        ),
        contents: bytes.get(start..end).ok_or_else(cut)?,
    };
    // The end of a file need not be filled up.
    let rest = bytes.get(aligned(end)?..).unwrap_or_default();
    Ok((entry, rest))
}

/// How long the archive is that `bytes` begin with, up to and with the entry that ends it.
pub(super) fn len(bytes: &[u8]) -> Result<usize> {
    let mut rest = bytes;
    loop {
        let (entry, after) = entry(rest)?;
        rest = after;
        if entry.is_trailer() {
            return Ok(bytes.len().saturating_sub(rest.len()));
        }
    }
}

/// What `bytes` have behind zeros.
pub(super) fn behind_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// What comes before the first zero, which ends a name.
pub(super) fn to_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    end.and_then(|end| bytes.get(..end)).unwrap_or(bytes)
}

pub(super) fn broken(why: &str) -> Error {
    Error::refused(format_args!("no initrd that the kernel takes: {why}"))
}

pub(super) fn cut() -> Error {
    broken("it is cut short")
}

fn aligned(len: usize) -> Result<usize> {
    len.checked_next_multiple_of(ALIGNMENT).ok_or_else(cut)
}

fn number(header: &[u8], index: usize) -> Result<u32> {
    let start = index.saturating_mul(NUMBER_LEN).saturating_add(MAGIC_LEN);
    let digits = header.get(start..start.saturating_add(NUMBER_LEN));
    let digits = digits.filter(|it| it.iter().all(u8::is_ascii_hexdigit));
    let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    text.and_then(|text| u32::from_str_radix(text, 16).ok())
        .ok_or_else(|| broken("a number in it is none"))
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
