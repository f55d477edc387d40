// SPDX-License-Identifier: Apache-2.0
//! State disks of Constellation: what their profile asks for beyond the others.

use super::super::fixture::{Fixture, put, seal};
use super::super::{Area, Expect};
use super::refusal;
use super::rules::{check, refused};
use crate::config::Profile;

const COST: &str = r#""time":4,"memory":513313,"cpus":2"#;
const TOKEN: &str =
    r#""tokens":{"0":{"type":"constellation-state-disk","keyslots":[],"diskIsInitialized":true}}"#;

#[test]
fn state_disks_are_accepted_whatever_the_nodes_benchmark_gave() {
    let disk = Fixture::constellation();
    let checked = check(&disk, Profile::Constellation).unwrap();
    assert_eq!(
        (checked.keyslots, checked.initialized),
        (vec![0], Some(true))
    );
    for cost in [
        // Measured on two CPUs after formatting, with one CPU, the largest memory, the most work, and the least of all.
        r#""time":43,"memory":65536,"cpus":2"#,
        r#""time":4,"memory":65536,"cpus":1"#,
        r#""time":16,"memory":1048576,"cpus":4"#,
        r#""time":256,"memory":65536,"cpus":4"#,
        r#""time":4,"memory":32,"cpus":1"#,
    ] {
        check(&disk.with(COST, cost), Profile::Constellation).unwrap();
    }
    let moved = disk.with(r#""32768""#, r#""417792""#);
    check(&moved, Profile::Constellation).unwrap();
    let new = disk.with("true", "false");
    let checked = check(&new, Profile::Constellation).unwrap();
    assert_eq!(checked.initialized, Some(false));
}

#[test]
fn rule_c11_one_keyslot_of_bounded_cost() {
    refused(
        &Fixture::constellation(),
        Profile::Constellation,
        &[
            (
                COST,
                r#""time":4,"memory":1048577,"cpus":2"#,
                "rule C11: keyslots.0.kdf.memory: expected 32 to 1048576, found 1048577",
            ),
            (
                COST,
                r#""time":4,"memory":31,"cpus":2"#,
                "rule C11: keyslots.0.kdf.memory: expected 32 to 1048576, found 31",
            ),
            (
                COST,
                r#""time":257,"memory":32,"cpus":2"#,
                "rule C11: keyslots.0.kdf.time: expected 4 to 256, found 257",
            ),
            (
                COST,
                r#""time":3,"memory":65536,"cpus":2"#,
                "rule C11: keyslots.0.kdf.time: expected 4 to 256, found 3",
            ),
            (
                COST,
                r#""time":4,"memory":65536,"cpus":5"#,
                "rule C11: keyslots.0.kdf.cpus: expected 1 to 4, found 5",
            ),
            (
                COST,
                r#""time":17,"memory":1048576,"cpus":4"#,
                "rule C11: keyslots.0.kdf: time times memory: expected 0 to 16777216, found 17825792",
            ),
            (
                "argon2id",
                "argon2i",
                "rule C11: keyslots.0.kdf.type: expected \"argon2id\", found \"argon2i\"",
            ),
            (
                r#"{"type":"argon2id","time":4,"memory":513313,"cpus":2"#,
                r#"{"type":"pbkdf2","hash":"sha256","iterations":1000"#,
                "rule C11: keyslots.0.kdf.type: expected \"argon2id\", found \"pbkdf2\"",
            ),
            (
                r#""32768""#,
                r#""36864""#,
                "rule C11: keyslots.0.area.offset: expected 32768 or 417792, found 36864",
            ),
            (
                r#""hash":"sha256"},"area""#,
                r#""hash":"sha512"},"area""#,
                "rule C11: keyslots.0.af.hash: expected \"sha256\", found \"sha512\"",
            ),
            (
                r#""kdf":{"#,
                r#""priority":1,"kdf":{"#,
                "rule C11: keyslots.0.priority: expected None, found Some(1)",
            ),
            (
                r#"{"keyslots":{"0""#,
                r#"{"keyslots":{"1""#,
                "rule C11: keyslots: expected [0], found [1]",
            ),
        ],
    );
}

#[test]
fn rule_c10_integrity_is_not_optional() {
    refused(
        &Fixture::constellation(),
        Profile::Constellation,
        &[
            (
                r#","integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}"#,
                "",
                "rule C10: segments.0.integrity: expected \"hmac(sha256)\", found no integrity",
            ),
            (
                r#""sector_size":4096"#,
                r#""sector_size":512"#,
                "rule C10: segments.0.sector_size: expected 4096, found 512",
            ),
        ],
    );
}

#[test]
fn rules_c12_and_c13_one_hash_and_one_token_to_the_letter() {
    let two = TOKEN.replace(
        "}}",
        r#"},"1":{"type":"systemd-recovery","keyslots":["0"]}}"#,
    );
    let recovery = r#""tokens":{"0":{"type":"systemd-recovery","keyslots":["0"]}}"#;
    refused(
        &Fixture::constellation(),
        Profile::Constellation,
        &[
            (
                TOKEN,
                r#""tokens":{}"#,
                "rule C13: tokens: expected [0], found []",
            ),
            (TOKEN, &two, "rule C13: tokens: expected [0], found [0, 1]"),
            (
                TOKEN,
                recovery,
                "rule C13: tokens.0: expected the token \"constellation-state-disk\", found another",
            ),
            (
                r#""tokens":{"0""#,
                r#""tokens":{"1""#,
                "rule C13: tokens: expected [0], found [1]",
            ),
            (
                "true",
                r#""true""#,
                "rule C13: tokens.0.diskIsInitialized: expected true or false, found \"true\"",
            ),
            (
                r#","diskIsInitialized":true"#,
                "",
                "rule C13: tokens.0.diskIsInitialized: expected this key, found none",
            ),
            (
                "true",
                r#"true,"x":1"#,
                "rule C13: tokens.0.x: expected no such key, found one",
            ),
            (
                r#"disk","keyslots":[]"#,
                r#"disk","keyslots":["0"]"#,
                "rule C13: tokens.0.keyslots: expected no keyslots, found an array",
            ),
        ],
    );
}

#[test]
fn rules_b6_and_b7_no_names_and_no_copy_that_differs() {
    let disk = Fixture::constellation();
    check(&disk, Profile::Constellation).unwrap();
    for (label, subsystem, field, found) in [
        ("state", "", "label", "state"),
        ("", "nightlatch", "subsystem", "nightlatch"),
    ] {
        let named = Fixture {
            label: label.into(),
            subsystem: subsystem.into(),
            ..disk.clone()
        };
        assert_eq!(
            refusal(check(&named, Profile::Constellation)),
            format!("rule B7: {field}: expected \"\", found \"{found}\"")
        );
    }
    let mut later = disk.build();
    put(&mut later, 16_384 + 23, b"\x04");
    seal(&mut later);
    let area = Area::from_vec(later).unwrap();
    let copies = area.copies().unwrap();
    assert_eq!(
        refusal(copies.check(&area, Profile::Constellation, &Expect::default())),
        "rule B6: secondary header: seqid: expected 3, found 4"
    );
}

#[test]
fn it_is_no_volume_of_another_profile_nor_another_volume_of_it() {
    assert_eq!(
        refusal(check(&Fixture::constellation(), Profile::Luks2Strict)),
        "rule C13: tokens.0: expected a token of this profile, found one of constellation"
    );
    assert_eq!(
        refusal(check(&Fixture::strict(), Profile::Constellation)),
        "rule C13: tokens: expected [0], found []"
    );
    assert!(check(&Fixture::strict(), Profile::Luks2Strict).is_ok());
}
