// SPDX-License-Identifier: Apache-2.0
//! The header area: read from a device once (rule A2), and what it is (rule F23).

use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::reader::{first_nonzero, is_zero};
use super::{
    AREA_LEN, Content, DATA_OFFSET, Header, KEYSLOTS_OFFSET, MARKER_LEN, MARKER_OFFSET,
    MIN_DEVICE_LEN, Marker, PROBE_HEAD_LEN, PROBE_TAIL_LEN, Probe, binary, foreign,
};
use crate::error::{Doing, Error, Result};

/// What the zeros at the end of an area are counted in, in bytes: as long as the block of a marker, the last one.
const BLOCK_LEN: usize = MARKER_LEN;
/// How much of the area is read at once: for disks far away, whose every answer takes its time.
const READ_LEN: usize = 512 << 10;
/// The same for the probed places behind it.
const PROBE_LEN: usize = 1 << 20;
/// Where what is read past the kernel's cache has to begin in memory: open(2), `O_DIRECT`, for any size of sector.
const PAGE_LEN: usize = 4096;

/// A private copy of the header area: whole blocks up to the last that is not zeros, and at least both header copies. Most
/// of an area is empty, and memory is scarce in an initrd.
pub struct Area(Vec<u8>);

impl std::fmt::Debug for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Area(..)")
    }
}

impl Area {
    /// Reads the header area of a device, once, and looks whether the rest is blank where that matters.
    ///
    /// No offset or length comes from the device's content. Whatever cannot be read is refused: an error is never taken
    /// for blank.
    pub fn read(device: &impl FileExt, device_len: u64) -> Result<(Self, Probe)> {
        if device_len < MIN_DEVICE_LEN {
            return Err(Error::refused(format_args!(
                "rule A2: device: expected at least {MIN_DEVICE_LEN} bytes, found {device_len}"
            )));
        }
        let mut bytes = Vec::new();
        let mut room = vec![0; READ_LEN + PAGE_LEN];
        let part = aligned(&mut room, READ_LEN)?;
        for at in (0..AREA_LEN).step_by(READ_LEN) {
            read_exact_at(device, part, at as u64)?;
            let used = part.get(..used_blocks(part)).unwrap_or_default();
            if at == 0 {
                bytes = used.to_vec();
            } else if !used.is_empty() {
                // Room for all at once: growing by and by would need it twice, and a hostile header may use all of it.
                if bytes.len() < AREA_LEN {
                    bytes = placed(vec![0; AREA_LEN], 0, &bytes);
                }
                bytes = placed(bytes, at, used);
            }
        }
        let area = Self::starting_with(bytes)?;
        let probe = if is_zero(area.bytes()) {
            probe(device, device_len)?
        } else {
            Probe::Skipped
        };
        Ok((area, probe))
    }

    /// Takes over a header area made in memory, all of it.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() != AREA_LEN {
            return Err(wrong_len(bytes.len()));
        }
        Self::starting_with(bytes)
    }

    /// Takes over the start of a header area made in memory. What follows are zeros.
    pub fn starting_with(mut bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() > AREA_LEN {
            return Err(wrong_len(bytes.len()));
        }
        let len = used_blocks(&bytes).max(KEYSLOTS_OFFSET);
        bytes.resize(len, 0);
        bytes.shrink_to_fit();
        Ok(Self(bytes))
    }

    /// The bytes up to the last block that is not zeros, and at least both header copies. What follows are zeros.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What is in `range` but for zeros at its end.
    pub(super) fn part(&self, range: Range<usize>) -> &[u8] {
        let end = range.end.min(self.0.len());
        self.0.get(range.start..end).unwrap_or_default()
    }

    /// The bytes in front of the provisioning marker, all of them: what is written before the marker is cleared.
    #[must_use]
    pub fn before_marker(&self) -> Vec<u8> {
        let mut bytes = self.part(0..MARKER_OFFSET).to_vec();
        bytes.resize(MARKER_OFFSET, 0);
        bytes
    }

    /// The binary parts of both copies and their offsets. They are written before the rest of a new header, so that an
    /// interruption leaves something that can be told from other uses of the disk.
    #[must_use]
    pub fn binary_headers(&self) -> [(u64, &[u8]); 2] {
        [0, binary::COPY_LEN].map(|offset| {
            let copy = self.bytes().get(offset..).unwrap_or_default();
            (
                offset as u64,
                copy.get(..binary::BINARY_LEN).unwrap_or_default(),
            )
        })
    }

    /// Decides what the device holds. What is neither blank nor interrupted nor a LUKS2 header that parses is refused.
    pub fn classify(&self, probe: Probe) -> Result<Content> {
        if is_zero(self.bytes()) {
            return match probe {
                Probe::Zero => Ok(Content::Blank),
                Probe::Skipped => Err(foreign("zeros in the header area only")),
                Probe::Written(at) => Err(foreign(format_args!(
                    "zeros in the header area, but something at byte {at}"
                ))),
            };
        }
        let rest = self.part(0..MARKER_OFFSET);
        // Blocks are stored whole, so the last one is there or it is zeros.
        let block = self.part(MARKER_OFFSET..AREA_LEN).first_chunk();
        if let Some(block) = block.filter(|block| Marker::is_in(block.as_slice())) {
            let marker = Marker::parse(block)?;
            return if marker.explains(rest) {
                Ok(Content::Interrupted(marker))
            } else {
                Err(foreign(
                    "a provisioning marker beside data that provisioning does not write",
                ))
            };
        }
        let luks = rest.starts_with(&binary::PRIMARY_MAGIC)
            || rest
                .get(binary::COPY_LEN..)
                .is_some_and(|copy| copy.starts_with(&binary::SECONDARY_MAGIC));
        if luks {
            return self.copies().map(|copies| Content::Luks(copies.into()));
        }
        match foreign::name(rest) {
            Some(name) => Err(foreign(name)),
            None => Err(foreign("data of no known kind")),
        }
    }

    /// Parses the LUKS2 header, where both copies are valid and say the same.
    pub fn header(&self) -> Result<Header> {
        self.copies()?.agreed()
    }

    /// Zeroes what no keyslot of `header` covers. libcryptsetup fills the keyslots area with random bytes when it formats;
    /// profile `nightlatch-1` wants zeros there, so that nothing can hide in it.
    pub fn clear_unused(&mut self, header: &Header) {
        let len = self.0.len();
        for Range { start, end } in header.unused() {
            let unused = self.0.get_mut(start..end.min(len));
            unused.unwrap_or_default().fill(0);
        }
    }
}

/// `area` with `bytes` at `at`.
fn placed(mut area: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    if let Some(place) = area.get_mut(at..at.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
    area
}

/// How long `bytes` are, in bytes, without the blocks of zeros at their end.
fn used_blocks(bytes: &[u8]) -> usize {
    let blocks = bytes.chunks(BLOCK_LEN).enumerate();
    let last = blocks.rev().find(|(_, block)| !is_zero(block));
    last.map_or(0, |(index, _)| {
        index.saturating_add(1).saturating_mul(BLOCK_LEN)
    })
}

fn wrong_len(len: usize) -> Error {
    Error::refused(format_args!(
        "rule A2: header area: expected {AREA_LEN} bytes, found {len}"
    ))
}

/// Looks at what programs that look for file systems read, so that nothing old can show up in a new volume's place.
fn probe(device: &impl FileExt, device_len: u64) -> Result<Probe> {
    let head_end = DATA_OFFSET.saturating_add(PROBE_HEAD_LEN);
    let tail = device_len.saturating_sub(PROBE_TAIL_LEN);
    let mut room = vec![0; PROBE_LEN + PAGE_LEN];
    let block = aligned(&mut room, PROBE_LEN)?;
    for (mut at, end) in [(DATA_OFFSET, head_end), (tail, device_len)] {
        while at < end {
            read_exact_at(device, block, at)?;
            if let Some(within) = first_nonzero(block) {
                return Ok(Probe::Written(at.saturating_add(within as u64)));
            }
            at = at.saturating_add(block.len() as u64);
        }
    }
    Ok(Probe::Zero)
}

/// `len` bytes of `room`, which has a page more, from where a page may begin.
fn aligned(room: &mut [u8], len: usize) -> Result<&mut [u8]> {
    let start = room.as_ptr().align_offset(PAGE_LEN);
    room.get_mut(start..start.saturating_add(len))
        .ok_or_else(|| Error::failure("memory for reading cannot be aligned"))
}

fn read_exact_at(device: &impl FileExt, mut rest: &mut [u8], mut at: u64) -> Result<()> {
    while !rest.is_empty() {
        let len = match device.read_at(rest, at) {
            Ok(0) => {
                return Err(Error::refused(format_args!(
                    "rule A2: device: it ends at byte {at}, before its stated length"
                )));
            }
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Error::refused(error))
                    .doing(format_args!("rule A2: reading the device at byte {at}"));
            }
        };
        at = at.saturating_add(len as u64);
        rest = rest.get_mut(len..).unwrap_or_default();
    }
    Ok(())
}

/// The refusal of a device that holds something else.
fn foreign(what: impl std::fmt::Display) -> Error {
    Error::refused(format_args!(
        "rule F23: expected a blank device or a LUKS2 volume, found {what}; \
         if nobody needs it, blank the device with \"blkdiscard --zeroout\" and start again"
    ))
}
