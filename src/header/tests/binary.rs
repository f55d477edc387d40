// SPDX-License-Identifier: Apache-2.0
//! The binary headers: rules B5 to B7.

use super::super::fixture::{Fixture, STOCK, UUID, put, seal};
use super::super::{Area, Expect};
use super::refusal;
use crate::config::Profile;

/// The refusal of a header whose raw bytes were changed and whose checksums were made right again.
fn refused_bytes(at: usize, what: &[u8]) -> String {
    let mut area = Fixture::ours().build();
    put(&mut area, at, what);
    seal(&mut area);
    refusal(Area::from_vec(area).unwrap().header())
}

/// Salt and checksum as cryptsetup 2.6.1 wrote them in front of [`STOCK`], label `nightlatch`, subsystem `state`.
#[test]
fn a_header_made_by_cryptsetup_has_the_checksum_computed_here() {
    let salt = "9b50f4a89d6055a452126a75672f77446829574c069512a56b65f2eff6d737e19a1c5dd36219b7040fc5c84449f6ff18f8c5ec56e54b6f6ee6b42eb3e500cc87";
    let mut area = Fixture {
        json: STOCK.into(),
        ..Fixture::ours()
    }
    .build();
    put(&mut area, 104, &hex::decode(salt).unwrap());
    seal(&mut area);
    assert_eq!(
        hex::encode(&area[448..480]),
        "b64a3758b28d8597d19b7703a447d7dbec961c3737c6aa6c91e897ae1ac85ec3"
    );
    let area = Area::from_vec(area).unwrap();
    let header = area.header().unwrap();
    assert_eq!((header.uuid(), header.seqid()), (UUID, 3));
    assert_eq!(header.claimed_profile(), Profile::Luks2Strict);
}

#[test]
fn rule_b5_each_field_of_each_binary_header_is_constant() {
    assert!(Fixture::ours().area().header().is_ok());
    let cases: [(usize, &[u8], &str); 8] = [
        (
            0,
            b"X",
            "primary header: magic: expected \"LUKS\\xba\\xbe\", found something else",
        ),
        (7, b"\x01", "primary header: version: expected 2, found 1"),
        (
            8,
            &32768_u64.to_be_bytes(),
            "primary header: hdr_size: expected 16384, found 32768",
        ),
        (
            72,
            b"sha512",
            "primary header: csum_alg: expected \"sha256\", found \"sha512\"",
        ),
        (
            263,
            b"\x01",
            "primary header: hdr_offset: expected 0, found 1",
        ),
        (
            264,
            b"\x01",
            "primary header: reserved bytes: expected zeros, found something else",
        ),
        (
            512,
            b"\x01",
            "primary header: reserved bytes: expected zeros, found something else",
        ),
        (
            4095,
            b"\x01",
            "primary header: reserved bytes: expected zeros, found something else",
        ),
    ];
    for (at, what, expected) in cases {
        assert_eq!(refused_bytes(at, what), format!("rule B5: {expected}"));
    }
    for (at, what, expected) in [
        (
            0,
            b'X',
            "secondary header: magic: expected \"SKUL\\xba\\xbe\", found something else",
        ),
        (7, 1, "secondary header: version: expected 2, found 1"),
        (
            263,
            1,
            "secondary header: hdr_offset: expected 16384, found 16385",
        ),
        (
            4000,
            1,
            "secondary header: reserved bytes: expected zeros, found something else",
        ),
    ] {
        assert_eq!(
            refused_bytes(16384 + at, &[what]),
            format!("rule B5: {expected}")
        );
    }
}

#[test]
fn rule_b5_a_checksum_covers_every_byte_of_its_copy() {
    let good = Fixture::ours().build();
    for at in [20, 110, 170, 450, 4100, 16383] {
        for start in [0, 16384] {
            let mut area = good.clone();
            area[start + at] ^= 1;
            assert!(
                Area::from_vec(area).unwrap().header().is_err(),
                "byte {}",
                start + at
            );
        }
    }
    let mut area = good;
    area[480] = 1;
    assert_eq!(
        refusal(Area::from_vec(area).unwrap().header()),
        "rule B5: primary header: csum: expected zeros, found something else"
    );
}

#[test]
fn rule_b6_both_copies_say_the_same() {
    let cases: [(usize, &[u8], &str); 4] = [
        (16384 + 23, b"\x04", "seqid: expected 3, found 4"),
        (
            16384 + 24,
            b"N",
            "label: expected \"nightlatch\", found \"Nightlatch\"",
        ),
        (
            16384 + 208,
            b"S",
            "subsystem: expected \"state\", found \"State\"",
        ),
        (
            16384 + 4096 + 266,
            b"h",
            "metadata: expected the bytes of the primary header's, found others from byte 266",
        ),
    ];
    for (at, what, expected) in cases {
        assert_eq!(
            refused_bytes(at, what),
            format!("rule B6: secondary header: {expected}")
        );
    }
    // The control: salts differ in every header libcryptsetup writes.
    let area = Fixture::ours().build();
    assert_ne!(area[104..168], area[16384 + 104..16384 + 168]);
}

#[test]
fn rule_b7_a_uuid_has_one_spelling_and_words_are_ascii() {
    assert_eq!(
        refused_bytes(168, b"A6C7535F-0a9f-4c23-9524-fed431126906"),
        "rule B7: primary header: uuid: expected a lower-case UUID, found \"A6C7535F-0a9f-4c23-9524-fed431126906\""
    );
    let expected = "expected ASCII and zeros, found something else";
    assert_eq!(
        refused_bytes(24, b"\x1b[2J"),
        format!("rule B7: primary header: label: {expected}")
    );
    assert_eq!(
        refused_bytes(24 + 20, b"x"),
        format!("rule B7: primary header: label: {expected}")
    );
}

#[test]
fn rule_b7_label_and_subsystem_of_our_profile_are_constants() {
    let check = |fixture: &Fixture| {
        let expect = Expect::default();
        fixture.header().check(Profile::Nightlatch1, &expect)
    };
    let ours = Fixture::ours();
    assert!(check(&ours).is_ok());
    let other = Fixture {
        label: "data".into(),
        ..ours.clone()
    };
    assert_eq!(
        refusal(check(&other)),
        "rule B7: label: expected \"nightlatch\", found \"data\""
    );
    let other = Fixture {
        subsystem: "root".into(),
        ..ours
    };
    assert_eq!(
        refusal(check(&other)),
        "rule B7: subsystem: expected \"state\", found \"root\""
    );
}
