// SPDX-License-Identifier: Apache-2.0
use lzma_rust2::CheckType;

use super::*;
use crate::error::Exit;
use crate::support::initrd::{self as made, Made, archive, bare_archive, elf, xz};

/// The archive in each compression.
pub(crate) fn compressed(bytes: &[u8]) -> Vec<(Compression, Vec<u8>)> {
    let kinds = [
        Compression::None,
        Compression::Gzip,
        Compression::Xz,
        Compression::Zstd,
    ];
    kinds.into_iter().zip(made::compressed(bytes)).collect()
}

fn one(path: &str, contents: &str) -> Vec<u8> {
    archive([(path, &Made::file(contents))])
}

fn refusal(bytes: &[u8]) -> String {
    let error = match Part::all(bytes) {
        Ok(parts) => Tree::of(&parts).err().unwrap(),
        Err(error) => error,
    };
    assert_eq!(error.exit(), Exit::Refused);
    error.to_string()
}

#[test]
fn archives_of_every_compression_follow_each_other_and_the_last_file_counts() {
    let mut whole = Vec::new();
    for number in 0..4 {
        let made = archive([
            ("etc/last", &Made::file(number.to_string())),
            (format!("etc/{number}").as_str(), &Made::file("here")),
        ]);
        let (_, packed) = compressed(&made).into_iter().nth(number).unwrap();
        whole.extend(packed);
        whole.resize(whole.len().next_multiple_of(4) + 4 * number, 0);
    }
    let parts = Part::all(&whole).unwrap();
    let kinds: Vec<Compression> = parts.iter().map(|part| part.compression).collect();
    let expected = [
        Compression::None,
        Compression::Gzip,
        Compression::Xz,
        Compression::Zstd,
    ];
    assert_eq!(kinds, expected);
    let tree = Tree::of(&parts).unwrap();
    assert_eq!(tree.file("etc/last"), Some(&b"3"[..]));
    for number in 0..4 {
        assert_eq!(tree.file(&format!("/etc/{number}")), Some(&b"here"[..]));
    }
    let names: Vec<&str> = tree.below("etc").map(|(path, _)| path).collect();
    assert_eq!(names, ["0", "1", "2", "3", "last"]);
}

#[test]
fn what_the_kernel_does_not_take_is_refused_with_what_to_do() {
    let good = one("init", "x");
    Part::all(&good).unwrap();
    let mut odd = good.clone();
    odd.extend([0; 3]);
    odd.extend(&good);
    assert!(refusal(&odd).contains("has to begin at a multiple of four"));
    odd.insert(good.len(), 0);
    assert_eq!(Part::all(&odd).unwrap().len(), 2);

    Part::all(&xz(&good, CheckType::Crc32)).unwrap();
    assert!(refusal(&xz(&good, CheckType::Crc64)).contains("xz --check=crc32"));
    assert!(refusal(b"\x02\x21\x4c\x18").contains("compressed with lz4, which is not read here"));
    assert!(refusal(b"GIF89a").contains("expected an archive of cpio"));
    for empty in [&b""[..], &[0; 8]] {
        assert!(refusal(empty).contains("it is empty"));
    }
    // A byte behind the archive that the compression has within.
    let mut junk = good.clone();
    junk.extend(b"0x");
    let (_, packed) = &compressed(&junk)[1];
    assert!(refusal(packed).contains("cut short"));
}

#[test]
fn a_small_file_cannot_fill_the_memory() {
    let made = one("zeros", &"0".repeat(100_000));
    for (compression, packed) in compressed(&made) {
        let len = u64::try_from(made.len()).unwrap();
        assert!(Part::within(&packed, len).is_ok(), "{compression:?}");
        let error = Part::within(&packed, len - 1).unwrap_err().to_string();
        assert!(error.contains("unpacks to more than may be"), "{error}");
    }
}

#[test]
fn every_truncation_of_an_archive_is_refused() {
    let made = one("etc/a", "contents");
    for (compression, packed) in compressed(&made) {
        Part::all(&packed).unwrap();
        for len in 0..packed.len() {
            assert!(Part::all(&packed[..len]).is_err(), "{compression:?}: {len}");
        }
    }
}

#[test]
fn no_change_of_a_byte_panics() {
    let files = [
        ("bin", Made::link("usr/bin")),
        ("usr/bin/a", Made::Program(elf(&["libc.so.6"], "/x"))),
        ("usr/bin/b", Made::Name(7, b"shared".to_vec())),
        ("usr/bin/c", Made::Name(7, Vec::new())),
    ];
    let made = archive(files.iter().map(|(path, file)| (*path, file)));
    let look = |bytes: &[u8]| {
        let Ok(parts) = Part::all(bytes) else { return };
        let Ok(tree) = Tree::of(&parts) else { return };
        for (path, _) in tree.all() {
            let _found = tree.file(path).map(Elf::parse);
        }
    };
    for (_, mut packed) in compressed(&made) {
        for at in 0..packed.len() {
            let before = packed[at];
            for value in [0, 0xff, b'0', before ^ 1, before ^ 0x80] {
                packed[at] = value;
                look(&packed);
            }
            packed[at] = before;
        }
    }
}

#[test]
fn links_are_followed_as_the_kernel_follows_them() {
    let files = [
        ("usr/lib/systemd/systemd", Made::file("pid 1")),
        ("lib", Made::link("usr/lib")),
        ("init", Made::link("/lib/systemd/systemd")),
        ("etc/up", Made::link("../../usr/./lib")),
        ("etc/a", Made::link("b")),
        ("etc/b", Made::link("a")),
        ("etc/nowhere", Made::link("/dev/null")),
        // Below the link: it lies where that leads.
        ("lib/more", Made::file("more")),
    ];
    let mut made = archive(files[..7].iter().map(|(path, file)| (*path, file)));
    made.extend(bare_archive(&files[7..]));
    let parts = Part::all(&made).unwrap();
    let tree = Tree::of(&parts).unwrap();
    let (place, _) = tree.find("init").unwrap();
    assert_eq!(place, "usr/lib/systemd/systemd");
    assert_eq!(tree.file("/etc/up/systemd/systemd"), Some(&b"pid 1"[..]));
    assert_eq!(tree.file("usr/lib/more"), Some(&b"more"[..]));
    assert_eq!(tree.find("etc/a"), None);
    assert_eq!(tree.link("etc/nowhere"), Some("/dev/null"));
    assert!(tree.has("etc/nowhere") && tree.file("etc/nowhere").is_none());
    assert!(!tree.has("etc/other"));
}

#[test]
fn all_names_of_a_file_have_its_contents_whichever_entry_has_them() {
    let contents = b"shared".to_vec();
    for order in [[true, false], [false, true]] {
        let of = |has: bool| Made::Name(9, if has { contents.clone() } else { Vec::new() });
        let made = bare_archive(&[("a", of(order[0])), ("b", of(order[1]))]);
        let parts = Part::all(&made).unwrap();
        let tree = Tree::of(&parts).unwrap();
        assert_eq!(tree.file("a"), Some(&contents[..]), "{order:?}");
        assert_eq!(tree.file("b"), Some(&contents[..]), "{order:?}");
    }
}

#[test]
fn a_file_without_a_directory_is_left_out_as_by_the_kernel() {
    let files = [("usr/lib/a", Made::file("a")), ("b", Made::file("b"))];
    for (made, is_there) in [
        (
            archive(files.iter().map(|(path, file)| (*path, file))),
            true,
        ),
        (bare_archive(&files), false),
    ] {
        let parts = Part::all(&made).unwrap();
        let tree = Tree::of(&parts).unwrap();
        assert_eq!(tree.has("usr/lib/a"), is_there);
        assert!(tree.has("b"));
    }
}

#[test]
fn a_program_says_what_it_needs() {
    let made = elf(&["liba.so.1", "libb.so.2"], "$ORIGIN/own:/other");
    let elf = Elf::parse(&made).unwrap().unwrap();
    assert_eq!(elf.needed, ["liba.so.1", "libb.so.2"]);
    assert_eq!(elf.search, ["$ORIGIN/own:/other"]);
    assert_eq!((elf.machine, elf.interpreter), (Machine::X86, None));
    assert_eq!(Elf::parse(b"#!/bin/sh\n").unwrap(), None);
    for len in 4..made.len() {
        assert!(Elf::parse(&made[..len]).is_err(), "{len} bytes");
    }
    // One that a linker made.
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let elf = Elf::parse(&own).unwrap().unwrap();
    assert!(elf.needed.contains(&"libc.so.6"), "{:?}", elf.needed);
    assert!(
        elf.interpreter
            .is_some_and(|path| path.contains("ld-linux"))
    );
}
