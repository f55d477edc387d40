// SPDX-License-Identifier: Apache-2.0
//! Initrds, made byte by byte: what the room `initrd` and `image check` are tested and fuzzed with.

use std::collections::BTreeSet;
use std::io::Write as _;

use flate2::write::GzEncoder;
use lzma_rust2::{CheckType, XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// A file of an archive.
#[derive(Clone, Debug)]
pub(crate) enum Made {
    Directory,
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(String),
    /// One of several names of a file, which has the number.
    Name(u32, Vec<u8>),
}

impl Made {
    pub(crate) fn file(bytes: impl Into<Vec<u8>>) -> Self {
        Self::File(bytes.into())
    }

    pub(crate) fn link(target: &str) -> Self {
        Self::Link(target.to_owned())
    }
}

/// An archive of cpio with these files, and the directories that they are in before them.
pub(crate) fn archive<'a>(files: impl IntoIterator<Item = (&'a str, &'a Made)>) -> Vec<u8> {
    let (mut bytes, mut made) = (Vec::new(), BTreeSet::new());
    for (path, file) in files {
        for (at, _) in path.match_indices('/') {
            if made.insert(path[..at].to_owned()) {
                entry(&mut bytes, &path[..at], &Made::Directory);
            }
        }
        made.insert(path.to_owned());
        entry(&mut bytes, path, file);
    }
    entry(&mut bytes, "TRAILER!!!", &Made::file(""));
    bytes
}

/// The archive without the directories.
pub(crate) fn bare_archive(files: &[(&str, Made)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, file) in files {
        entry(&mut bytes, path, file);
    }
    entry(&mut bytes, "TRAILER!!!", &Made::file(""));
    bytes
}

fn entry(bytes: &mut Vec<u8>, path: &str, file: &Made) {
    let (mode, inode, links, contents): (u32, u32, u32, &[u8]) = match file {
        Made::Directory => (0o040_755, 0, 2, b""),
        Made::File(contents) => (0o100_644, 0, 1, contents),
        Made::Program(contents) => (0o100_755, 0, 1, contents),
        Made::Link(target) => (0o120_777, 0, 1, target.as_bytes()),
        Made::Name(inode, contents) => (0o100_644, *inode, 2, contents),
    };
    let long = |len: usize| u32::try_from(len).unwrap();
    let (len, name_len) = (long(contents.len()), long(path.len() + 1));
    let numbers = [inode, mode, 0, 0, links, 0, len, 0, 0, 0, 0, name_len, 0];
    bytes.extend(b"070701");
    for number in numbers {
        bytes.extend(format!("{number:08X}").as_bytes());
    }
    bytes.extend(path.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(contents);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A program or a library for x86-64 that needs these libraries, and looks for them in `search` first.
pub(crate) fn elf(needed: &[&str], search: &str) -> Vec<u8> {
    let (mut strings, mut dynamic) = (vec![0], Vec::new());
    let mut named = |tag: u64, text: &str, dynamic: &mut Vec<u8>| {
        dynamic.extend(tag.to_le_bytes());
        dynamic.extend(u64::try_from(strings.len()).unwrap().to_le_bytes());
        strings.extend(text.as_bytes());
        strings.push(0);
    };
    for name in needed {
        named(1, name, &mut dynamic);
    }
    if !search.is_empty() {
        named(29, search, &mut dynamic);
    }
    // The header, and two program headers.
    let dynamic_at = 64 + 2 * 56;
    let strings_at = dynamic_at + dynamic.len() + 32;
    let long = |value: usize| u64::try_from(value).unwrap().to_le_bytes();
    dynamic.extend(5_u64.to_le_bytes());
    dynamic.extend(long(ADDRESS + strings_at));
    dynamic.extend([0; 16]);
    let len = strings_at + strings.len();
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend([[0; 8], long(64), [0; 8]].concat());
    bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, at, len) in [(1_u32, 0, len), (2, dynamic_at, dynamic.len())] {
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(
            [at, ADDRESS + at, ADDRESS + at, len, len, 8]
                .map(long)
                .concat(),
        );
    }
    bytes.extend(dynamic);
    bytes.extend(strings);
    bytes
}

/// The archive as it is, and in gzip, xz and zstd.
pub(crate) fn compressed(bytes: &[u8]) -> [Vec<u8>; 4] {
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    [
        bytes.to_vec(),
        gzip.finish().unwrap(),
        xz(bytes, CheckType::Crc32),
        compress_to_vec(bytes, CompressionLevel::Fastest),
    ]
}

/// In xz, with this check.
pub(crate) fn xz(bytes: &[u8], check: CheckType) -> Vec<u8> {
    let mut options = XzOptions::with_preset(0);
    options.set_check_sum_type(check);
    let mut writer = XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Where such a program is in memory.
const ADDRESS: usize = 0x1000;
