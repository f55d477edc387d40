// SPDX-License-Identifier: Apache-2.0
use super::super::Uki;
use super::*;
use crate::error::Exit;
use crate::pcr::Bank;
use crate::support::unified::{PE, SECTION_LEN, SECTIONS, image, program, signed};

/// Where the optional header begins, and where the entry of the section after `count` others is.
const OPTIONAL: usize = PE + 24;

fn entry(count: usize) -> usize {
    SECTIONS + count * SECTION_LEN
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn added(bytes: &[u8], name: &str, contents: &[u8]) -> Result<Vec<u8>> {
    Pe::parse(bytes).unwrap().with_section(name, contents)
}

#[test]
fn a_section_more_leaves_all_others_where_they_are() {
    let before = image(&[(".cmdline", b"quiet"), (".initrd", b"INITRD")]);
    let contents = vec![7; 0x1234];
    let after = added(&before, ".pcrsig", &contents).unwrap();
    let (old, new) = (Uki::parse(&before).unwrap(), Uki::parse(&after).unwrap());
    assert_eq!(new.section(".pcrsig").unwrap(), Some(&contents[..]));
    let count = old.program.sections.len();
    assert_eq!(new.program.sections.len(), count + 1);
    assert_eq!(new.program.sections[..count], old.program.sections[..]);
    assert_eq!(
        new.kernel_image(Bank::Sha256),
        old.kernel_image(Bank::Sha256)
    );
    // What was behind the headers stays, byte for byte.
    let headers = old.program.headers_len;
    assert_eq!(after[headers..before.len()], before[headers..]);
    let hash = |uki: &Uki<'_>| uki.program.authenticode(Bank::Sha256).unwrap();
    assert_ne!(hash(&new), hash(&old));
}

/// Each field of the new entry and of the optional header, by hand: one section of a page, then one of a few bytes.
#[test]
fn the_headers_say_where_it_is() {
    let before = program(&[(".linux", &[1; 0x1001])]);
    let after = added(&before, ".pcrsig", b"{}").unwrap();
    let fields: Vec<u32> = (8..24)
        .step_by(4)
        .map(|at| long(&after, entry(1) + at))
        .collect();
    // Two bytes, behind two pages at the second; one block of the file, behind headers of two and contents of nine.
    assert_eq!(fields, [2, 0x3000, 0x200, 0x200 * (1 + 9)]);
    assert_eq!(&after[entry(1)..entry(1) + 8], b".pcrsig\0");
    assert_eq!(long(&after, entry(1) + 36), READ_ONLY_DATA);
    assert_eq!(after[PE + 6], 2);
    assert_eq!(long(&after, OPTIONAL + PROGRAM_LEN), 0x4000);
    let data_len = |bytes| long(bytes, OPTIONAL + DATA_LEN);
    assert_eq!(data_len(&after), data_len(&before) + 0x200);
    assert_eq!(after.len(), before.len() + 0x200);
    // Old sums are no sums of this.
    let mut summed = before.clone();
    summed[OPTIONAL + 64] = 9;
    assert_eq!(added(&summed, ".pcrsig", b"{}").unwrap(), after);
}

/// What another program left behind the sections, a table of symbols say, is not covered.
#[test]
fn what_follows_the_sections_stays() {
    let plain = program(&[(".linux", b"LINUX")]);
    let before = [&plain[..], b"symbols"].concat();
    let after = added(&before, ".pcrsig", b"{}").unwrap();
    assert_eq!(after[plain.len()..before.len()], *b"symbols");
    let made = Pe::parse(&after).unwrap();
    assert_eq!(made.sections[1].offset, plain.len() + 0x200);
}

#[test]
fn a_table_without_room_is_refused() {
    let sections = |count: usize| -> Vec<u8> {
        let names: Vec<String> = (0..count).map(|it| format!(".s{it}")).collect();
        let parts: Vec<(&str, &[u8])> = names.iter().map(|it| (it.as_str(), &b"x"[..])).collect();
        program(&parts)
    };
    // The headers are 0x200 bytes long, and 120 of them are for sections.
    added(&sections(2), ".pcrsig", b"{}").unwrap();
    let refusal = |bytes: &[u8], name: &str| {
        let error = added(bytes, name, b"{}").unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        error.to_string()
    };
    let full = refusal(&sections(3), ".pcrsig");
    assert!(
        full.starts_with("section .pcrsig: the headers have no room"),
        "{full}"
    );
    // Room that something else uses is none, and neither is room that a section's contents begin in.
    let mut used = sections(2);
    used[entry(2) + 39] = 1;
    assert_eq!(refusal(&used, ".pcrsig"), full);
    let mut early = sections(2);
    early[entry(1) + 20..entry(1) + 24].copy_from_slice(&0x1f0_u32.to_le_bytes());
    early[entry(1) + 16..entry(1) + 20].copy_from_slice(&0x10_u32.to_le_bytes());
    assert_eq!(refusal(&early, ".pcrsig"), full);

    let there = "it is there already";
    assert!(refusal(&sections(2), ".s0").contains(there));
    assert!(refusal(&sections(2), ".pcrsignature").contains("more than 8 bytes"));
    let why = refusal(&signed(sections(2), b"somebody's"), ".pcrsig");
    assert!(
        why.starts_with("the file is signed for Secure Boot already"),
        "{why}"
    );
    let mut apart = sections(2);
    for (at, value) in [(36, 0_u32), (36, 0x2_0000), (32, 0)] {
        apart[OPTIONAL + at..OPTIONAL + at + 4].copy_from_slice(&value.to_le_bytes());
        assert!(refusal(&apart, ".pcrsig").starts_with("no unified kernel image: "));
        apart = sections(2);
    }
}

/// A table of sections in the midst of the optional header, whose checksum is then where one of them is in the file.
#[test]
fn headers_that_overlap_are_refused() {
    let mut bytes = program(&[(".linux", &[1; 0x2000])]);
    bytes[PE + 20] = 4;
    bytes[PE + 6] = 2;
    for (at, value) in [(24, 0x200_u32), (64, 0x200), (108, 0)] {
        bytes[OPTIONAL + at..OPTIONAL + at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let error = added(&bytes, ".pcrsig", b"{}").unwrap_err().to_string();
    assert_eq!(error, "no unified kernel image: its headers overlap");
}

#[test]
fn no_cut_and_no_altered_byte_makes_it_panic() {
    let bytes = image(&[(".cmdline", b"quiet")]);
    let look = |bytes: &[u8]| {
        let Ok(program) = Pe::parse(bytes) else {
            return;
        };
        if let Ok(made) = program.with_section(".pcrsig", b"{}") {
            Pe::parse(&made).unwrap();
        }
    };
    for len in 0..bytes.len() {
        look(&bytes[..len]);
    }
    for at in 0..SECTIONS + 5 * SECTION_LEN {
        for with in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[at] = with;
            look(&altered);
        }
    }
}
