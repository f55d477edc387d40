// SPDX-License-Identifier: Apache-2.0
//! The archives of an initrd, behind each other with zeros between them, each compressed or not (Linux,
//! Documentation/driver-api/early-userspace/buffer-format.rst; `init/initramfs.c`, `unpack_to_rootfs`; `lib/decompress.c`).

use std::borrow::Cow;
use std::io::{self, Read};

use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use super::archive::{self, ALIGNMENT, behind_zeros, broken, cut};
use crate::error::{Doing, Error, Result};

/// The most that all parts may unpack to, in bytes. It lies in the machine's memory.
const UNPACKED_LEN_MAX: u64 = 1 << 30;
/// The most memory that an archive may ask to be unpacked with: what the kernel gives (Linux, `lib/decompress_unzstd.c`,
/// `ZSTD_WINDOWSIZE_MAX`, in bytes).
const WINDOW_LEN_MAX: u64 = 1 << 27;
/// The same in KiB, with what the decoder has beside its dictionary.
const XZ_MEMORY_KIB_MAX: u32 = 1 << 18;
/// Where xz says which check its data has, and the last of those that the kernel takes: none, or CRC32 (Linux,
/// `lib/xz/xz_dec_stream.c`).
const XZ_CHECK_AT: usize = 7;
const XZ_CRC32: u8 = 1;
/// The compressions that the kernel may take beside those that are read here.
const OTHERS: [(&[u8], &str); 4] = [
    (b"BZh", "bzip2"),
    (b"\x5d\0", "lzma"),
    (b"\x89LZ", "lzo"),
    (b"\x02\x21", "lz4"),
];

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// It is not.
    None,
    /// RFC 1952.
    Gzip,
    /// The format of XZ Utils.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Its usual name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "not compressed",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// Archives that the initrd has in one piece.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part<'a> {
    /// How they are compressed.
    pub compression: Compression,
    /// How long they are in the file, in bytes.
    pub packed_len: usize,
    /// The archives, not compressed.
    pub unpacked: Cow<'a, [u8]>,
}

impl<'a> Part<'a> {
    /// All parts of an initrd.
    pub fn all(bytes: &'a [u8]) -> Result<Vec<Self>> {
        Self::within(bytes, UNPACKED_LEN_MAX)
    }

    /// All parts of an initrd, if they unpack to no more than `left` bytes.
    pub fn within(bytes: &'a [u8], mut left: u64) -> Result<Vec<Self>> {
        let mut parts = Vec::new();
        let mut rest = behind_zeros(bytes);
        while !rest.is_empty() {
            let at = bytes.len().saturating_sub(rest.len());
            let part = Self::first(rest, at, left).doing(format_args!("byte {at}"))?;
            let len = u64::try_from(part.unpacked.len()).unwrap_or(u64::MAX);
            left = left.checked_sub(len).ok_or_else(too_long)?;
            rest = behind_zeros(rest.get(part.packed_len..).unwrap_or_default());
            parts.push(part);
        }
        if parts.is_empty() {
            return Err(broken("it is empty"));
        }
        Ok(parts)
    }

    /// The part that `bytes` begin with, which is at `at` of the file.
    fn first(bytes: &'a [u8], at: usize, left: u64) -> Result<Self> {
        let compression = match bytes {
            [b'0', ..] if at.is_multiple_of(ALIGNMENT) => Compression::None,
            [b'0', ..] => {
                return Err(broken(
                    "an archive that is not compressed has to begin at a multiple of four",
                ));
            }
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            other => return Err(unknown(other)),
        };
        let mut rest = bytes;
        let unpacked = match compression {
            Compression::None => {
                let len = archive::len(bytes)?;
                rest = bytes.get(len..).unwrap_or_default();
                Ok(Cow::Borrowed(bytes.get(..len).ok_or_else(cut)?))
            }
            Compression::Gzip => gzip(&mut rest, left).map(Cow::Owned),
            Compression::Xz => xz(&mut rest, left).map(Cow::Owned),
            Compression::Zstd => zstd(&mut rest, left).map(Cow::Owned),
        };
        Ok(Self {
            compression,
            packed_len: bytes.len().saturating_sub(rest.len()),
            unpacked: unpacked.doing(compression.as_str())?,
        })
    }
}

/// What begins as nothing that is read here does.
fn unknown(bytes: &[u8]) -> Error {
    let known = OTHERS.iter().find(|(magic, _)| bytes.starts_with(magic));
    match known {
        Some((_, name)) => Error::refused(format_args!(
            "an archive is compressed with {name}, which is not read here: make the initrd with zstd, xz or gzip"
        )),
        None => broken("expected an archive of cpio, or one compressed with zstd, xz or gzip"),
    }
}

fn gzip(rest: &mut &[u8], left: u64) -> Result<Vec<u8>> {
    let mut decoder = GzDecoder::new(*rest);
    let unpacked = bounded(&mut decoder, left)?;
    *rest = decoder.into_inner();
    Ok(unpacked)
}

fn xz(rest: &mut &[u8], left: u64) -> Result<Vec<u8>> {
    if rest.get(XZ_CHECK_AT).is_some_and(|check| *check > XZ_CRC32) {
        return Err(broken(
            "the kernel takes no check of xz but CRC32: compress it with xz --check=crc32",
        ));
    }
    let mut decoder = XzReader::new_mem_limit(*rest, false, XZ_MEMORY_KIB_MAX);
    let unpacked = bounded(&mut decoder, left)?;
    *rest = decoder.into_inner();
    Ok(unpacked)
}

fn zstd(rest: &mut &[u8], left: u64) -> Result<Vec<u8>> {
    let mut decoder = StreamingDecoder::new_with_max_window_size(&mut *rest, WINDOW_LEN_MAX)
        .map_err(|_why| damaged())?;
    let unpacked = bounded(&mut decoder, left)?;
    let decoder = decoder.into_frame_decoder();
    let is_whole = match decoder.get_checksum_from_data() {
        Some(expected) => decoder.get_calculated_checksum() == Some(expected),
        None => true,
    };
    if !is_whole {
        return Err(broken("its checksum is another one"));
    }
    Ok(unpacked)
}

/// Unpacks to the end of the stream, or to more than `left` bytes, which is an error.
fn bounded(from: &mut impl Read, left: u64) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let read: io::Result<usize> = from.take(left.saturating_add(1)).read_to_end(&mut unpacked);
    read.map_err(|_why| damaged())?;
    if u64::try_from(unpacked.len()).unwrap_or(u64::MAX) > left {
        return Err(too_long());
    }
    Ok(unpacked)
}

/// The decoders' own words are about their insides.
fn damaged() -> Error {
    broken("what is compressed is damaged or cut short, or wants more memory than the kernel gives")
}

fn too_long() -> Error {
    Error::refused(format_args!(
        "no initrd that is read here: it unpacks to more than may be, {UNPACKED_LEN_MAX} bytes at most"
    ))
}
