// SPDX-License-Identifier: Apache-2.0
//! Bytes nobody wrote in good faith: spellings of JSON that parsers disagree on, and random ones.

use super::super::fixture::{Fixture, seal};
use super::super::metadata::Metadata;
use super::super::{Area, Expect, Header, Probe};
use super::refusal;
use crate::config::Profile;

fn parse(json: &str) -> String {
    let mut area = json.as_bytes().to_vec();
    area.resize(12288, 0);
    refusal(Metadata::parse(&area))
}

/// Every row changes one place of a header that is accepted.
#[test]
fn rule_c8_json_has_one_spelling() {
    let good = Fixture::ours();
    good.header();
    let printable = "expected a printable ASCII character without escapes";
    let value = "expected an object, an array, a string, a whole number or a boolean";
    let number = "expected a number below 2^63 without leading zeros";
    // Replaced, by what, how far behind its start the error is, and the error.
    let cases = [
        (
            r#""crypt","#,
            r#""crypt","type":"linear","#,
            8,
            "expected the key \"type\" only once, found '\"'".to_owned(),
        ),
        (
            r#""0":{"type":"crypt""#,
            r#""0":{},"0":{"type":"crypt""#,
            7,
            "expected the key \"0\" only once, found '\"'".to_owned(),
        ),
        (
            r#"{"keyslots""#,
            r#"/* comment */{"keyslots""#,
            0,
            format!("{value}, found '/'"),
        ),
        (
            r#"{"keyslots""#,
            r"{'keyslots'",
            1,
            "expected '\"', found '\''".to_owned(),
        ),
        (
            r#"{"keyslots""#,
            r#"{"keysl\u006fts""#,
            7,
            format!("{printable}, found '\\'"),
        ),
        (
            r#"{"keyslots""#,
            "{\"keysl\u{f6}ts\"",
            7,
            format!("{printable}, found byte 0xc3"),
        ),
        (
            r#"{"keyslots""#,
            "{\"keysl\nts\"",
            7,
            format!("{printable}, found byte 0x0a"),
        ),
        (
            r#"{"keyslots""#,
            r#"{ "keyslots""#,
            1,
            "expected '\"', found ' '".to_owned(),
        ),
        (r":4,", r":04,", 1, format!("{number}, found '0'")),
        (r":4,", r":-4,", 1, format!("{value}, found '-'")),
        (r":4,", r":4.0,", 2, "expected ',', found '.'".to_owned()),
        (r":4,", r":4e0,", 2, "expected ',', found 'e'".to_owned()),
        (
            r":4,",
            r":9223372036854775808,",
            1,
            format!("{number}, found '9'"),
        ),
        (r":4,", r":null,", 1, format!("{value}, found 'n'")),
        (r":4,", r":NaN,", 1, format!("{value}, found 'N'")),
        (
            r":4,",
            r":[[[[[[[[",
            5,
            "expected at most 8 levels, found '['".to_owned(),
        ),
        (
            r":4096,",
            r":4096,,",
            6,
            "expected '\"', found ','".to_owned(),
        ),
    ];
    for (from, to, behind, expected) in cases {
        let at = good.json.find(from).unwrap() + behind;
        let found = parse(&good.with(from, to).json);
        assert_eq!(
            found,
            format!("rule C8: metadata byte {at}: {expected}"),
            "{to}"
        );
    }
    assert_eq!(
        parse(""),
        format!("rule C8: metadata byte 0: {value}, found the end")
    );
    assert_eq!(
        parse("[]"),
        "rule C8: metadata: expected an object, found an array"
    );
}

#[test]
fn nesting_and_size_cannot_exhaust_anything() {
    assert_eq!(
        parse(&"[".repeat(12288)),
        "rule C8: metadata byte 8: expected at most 8 levels, found '['"
    );
    assert_eq!(
        parse(&r#"{"":"#.repeat(3000)),
        "rule C8: metadata byte 32: expected at most 8 levels, found '{'"
    );
    let keys: Vec<String> = (0..1300).map(|key| format!(r#""{key}":0"#)).collect();
    assert_eq!(
        parse(&format!("{{{}}}", keys.join(","))),
        "rule C8: config: expected this key, found none"
    );
}

/// xorshift64, so that a failure comes back.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u16) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % u64::from(below)).try_into().unwrap()
    }
}

fn accepted(header: &Header) -> bool {
    let profiles = Profile::ALL.into_iter();
    let check = |profile| header.check(profile, &Expect::default());
    profiles.map(check).any(|checked| checked.is_ok())
}

#[test]
fn no_mutation_of_the_metadata_panics_or_passes_as_another_header() {
    let json = Fixture::ours().json.into_bytes();
    let good = Fixture::ours().header();
    assert!(accepted(&good));
    let mut random = Random(0x6e69_6768_746c_6174);
    let mut parsed = 0;
    for round in 0..20_000 {
        let mut bytes = json.clone();
        for _ in 0..=random.next(3) {
            let at = random.next(bytes.len().try_into().unwrap());
            match random.next(4) {
                0 => bytes[at] ^= 1 << random.next(7),
                1 => bytes[at] = b"\"{}[],:0179\\/ \0"[random.next(15)],
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let from = random.next(bytes.len().try_into().unwrap());
                    let piece = bytes[from.min(at)..from.max(at)].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes.resize(12288, 0);
        let Ok(metadata) = Metadata::parse(&bytes) else {
            continue;
        };
        parsed += 1;
        let header = Header {
            metadata,
            ..good.clone()
        };
        if accepted(&header) {
            // Salts, digests and blobs may be any bytes; everything else would have been refused.
            assert_eq!(
                header.metadata.segments, good.metadata.segments,
                "round {round}"
            );
            assert_eq!(header.metadata.digests.len(), 1, "round {round}");
        }
    }
    assert!(
        parsed > 100,
        "only {parsed} mutations parsed: they test nothing"
    );
}

#[test]
fn no_mutation_of_the_binary_headers_panics() {
    let good = Fixture::ours().build();
    let used = Area::from_vec(good).unwrap().bytes().to_vec();
    let mut random = Random(0x1a7c_6800_dead_beef);
    for round in 0..2_000 {
        let mut bytes = used.clone();
        let (copies, _) = bytes.split_at_mut(32768);
        for _ in 0..=random.next(4) {
            let at = random.next(512) + 16384 * random.next(2);
            copies[at] = random.next(256).try_into().unwrap();
        }
        if round % 2 == 0 {
            seal(copies);
        }
        let area = Area::starting_with(bytes).unwrap();
        if let Err(error) = area.classify(Probe::Skipped) {
            assert_eq!(error.exit().code(), 77, "round {round}: {error}");
        }
    }
    let area = Area::starting_with(used).unwrap();
    assert!(area.classify(Probe::Skipped).is_ok());
}
