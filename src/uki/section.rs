// SPDX-License-Identifier: Apache-2.0
//! A program with one section more (Microsoft PE format, "Section Table" and "Optional Header").

use super::pe::{
    FILE_LEN, FILE_OFFSET, MEMORY_ADDRESS, MEMORY_LEN, NAME_LEN, Pe, SECTION_COUNT, SECTION_LEN,
    add, broken, le16, le32, part, size,
};
use crate::error::{Error, Result};

/// Within the optional header, for both kinds: the length of initialised data, what sections begin at a multiple of in
/// memory and in the file, and the length of the program in memory.
const DATA_LEN: usize = 8;
const MEMORY_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const PROGRAM_LEN: usize = 56;
/// The most that sections may be apart in the file ("Optional Header Windows-Specific Fields": 64 KiB).
const FILE_ALIGNMENT_MAX: usize = 0x1_0000;
/// Bytes of the checksum, which no firmware compares; zero says that there is none.
const NO_CHECKSUM: [u8; 4] = [0; 4];
/// Where a section's entry says what it is: `IMAGE_SCN_CNT_INITIALIZED_DATA` and `IMAGE_SCN_MEM_READ`.
const FLAGS: usize = 36;
const READ_ONLY_DATA: u32 = 0x4000_0040;

/// Where a new section goes, and what the headers say then.
struct Place {
    /// Its entry in the table, and how many that has with it.
    entry: usize,
    count: u16,
    /// Its bytes in the file.
    offset: usize,
    file_len: usize,
    address: usize,
    program_len: usize,
    data_len: usize,
}

impl Pe<'_> {
    /// The program with a section more, behind all others in the table, in the file and in memory. What was there stays
    /// where it is.
    ///
    /// Refused where the table has no room left for its entry, and where the file carries signatures, which would not be
    /// good any more.
    pub fn with_section(&self, name: &str, contents: &[u8]) -> Result<Vec<u8>> {
        if self.signatures.is_some() {
            return Err(Error::refused(
                "the file is signed for Secure Boot already, and what is added breaks that signature: add it first",
            ));
        }
        let place = self.place(name, contents.len())?;
        let (at, optional) = (place.entry, self.headers.optional);
        let mut made = self.bytes.to_vec();
        made.resize(place.offset, 0);
        made.extend(contents);
        made.resize(add(place.offset, place.file_len)?, 0);
        put(&mut made, at, name.as_bytes())?;
        put(&mut made, add(at, FLAGS)?, &READ_ONLY_DATA.to_le_bytes())?;
        put(&mut made, self.checksum, &NO_CHECKSUM)?;
        let count = add(self.headers.pe, SECTION_COUNT)?;
        put(&mut made, count, &place.count.to_le_bytes())?;
        for (at, value) in [
            (add(at, MEMORY_LEN)?, contents.len()),
            (add(at, MEMORY_ADDRESS)?, place.address),
            (add(at, FILE_LEN)?, place.file_len),
            (add(at, FILE_OFFSET)?, place.offset),
            (add(optional, DATA_LEN)?, place.data_len),
            (add(optional, PROGRAM_LEN)?, place.program_len),
        ] {
            put(&mut made, at, &long(value)?)?;
        }
        // Headers may overlap what they describe: so what was written is read.
        let read = Pe::parse(&made)?;
        match read.sections.split_last() {
            Some((last, others))
                if last.bytes.starts_with(contents) && *others == self.sections =>
            {
                Ok(made)
            }
            _ => Err(broken("its headers overlap")),
        }
    }

    /// Where a section of that length goes.
    fn place(&self, name: &str, len: usize) -> Result<Place> {
        let field = |at| Ok::<_, Error>(size(le32(self.bytes, add(self.headers.optional, at)?)?));
        let (in_file, in_memory) = (field(FILE_ALIGNMENT)?, field(MEMORY_ALIGNMENT)?);
        if in_file > FILE_ALIGNMENT_MAX {
            return Err(broken("its sections are further apart than they may be"));
        }
        let count = le16(self.bytes, add(self.headers.pe, SECTION_COUNT)?)?;
        let file_len = up(len, in_file)?;
        let address = up(self.memory_end()?, in_memory)?;
        Ok(Place {
            entry: self.free_entry(name)?,
            count: count
                .checked_add(1)
                .ok_or_else(|| broken("it has too many sections"))?,
            offset: up(self.bytes.len(), in_file)?,
            file_len,
            address,
            program_len: up(add(address, len)?, in_memory)?,
            data_len: add(field(DATA_LEN)?, file_len)?,
        })
    }

    /// Whether it has a section of that name, be it empty.
    #[must_use]
    pub fn has_section(&self, name: &str) -> bool {
        self.sections.iter().any(|it| it.name == name.as_bytes())
    }

    /// Where the entry of the next section goes: behind the table, in what is zero there and belongs to nothing.
    fn free_entry(&self, name: &str) -> Result<usize> {
        if name.is_empty() || name.len() > NAME_LEN || self.has_section(name) {
            return Err(Error::refused(format_args!(
                "section {name}: it is there already, or its name has more than {NAME_LEN} bytes"
            )));
        }
        let table_len = self.sections.len().saturating_mul(SECTION_LEN);
        let at = add(self.headers.sections, table_len)?;
        let end = add(at, SECTION_LEN)?;
        let used = self.sections.iter().filter(|it| !it.bytes.is_empty());
        let first_used = used.map(|it| it.offset).min().unwrap_or(usize::MAX);
        let is_free = end <= self.headers_len.min(first_used)
            && part(self.bytes, at, SECTION_LEN)?.iter().all(|it| *it == 0);
        if is_free {
            return Ok(at);
        }
        Err(Error::refused(format_args!(
            "section {name}: the headers have no room for one section more: build the image with a stub of systemd's \
             whose headers have, or without a section that nobody needs"
        )))
    }

    /// Where the last section ends in memory.
    fn memory_end(&self) -> Result<usize> {
        let ends = self
            .sections
            .iter()
            .map(|it| add(it.address, it.memory_len.max(it.bytes.len())));
        let ends: Vec<usize> = ends.collect::<Result<_>>()?;
        Ok(ends
            .into_iter()
            .max()
            .unwrap_or(self.headers_len)
            .max(self.headers_len))
    }
}

/// The next multiple, of what may not be zero.
fn up(len: usize, to: usize) -> Result<usize> {
    len.checked_next_multiple_of(to)
        .ok_or_else(|| broken("its sections are not aligned, or it is too long"))
}

fn long(value: usize) -> Result<[u8; 4]> {
    u32::try_from(value)
        .map(u32::to_le_bytes)
        .map_err(|error| broken(&format!("it is too long for one section more: {error}")))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<()> {
    bytes
        .get_mut(at..add(at, value.len())?)
        .ok_or_else(|| broken("it is cut short"))?
        .copy_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests;
