// SPDX-License-Identifier: Apache-2.0
//! Keyslots: rule C11.

use super::super::fixture::Fixture;
use super::refusal;
use super::rules::{check, refused};
use crate::config::Profile;

const KEYSLOTS: &[(&str, &str, &str)] = &[
    (
        r#"{"type":"luks2""#,
        r#"{"type":"reencrypt""#,
        "rule C11: keyslots.0.type: expected \"luks2\", found \"reencrypt\"",
    ),
    (
        r#""key_size":96"#,
        r#""key_size":64"#,
        "rule C11: keyslots.0.key_size: expected 96, found 64",
    ),
    (
        r#""key_size":96"#,
        r#""key_size":1"#,
        "rule C11: keyslots.0.key_size: expected 96, found 1",
    ),
    (
        r#""key_size":96"#,
        r#""key_size":97"#,
        "rule C11: keyslots.0.key_size: expected 96, found 97",
    ),
    (
        r#"{"type":"raw""#,
        r#"{"type":"none""#,
        "rule C11: keyslots.0.area.type: expected \"raw\", found \"none\"",
    ),
    (
        r#""aes-xts-plain64","key_size":64},"kdf""#,
        r#""cipher_null-ecb","key_size":64},"kdf""#,
        "rule C11: keyslots.0.area.encryption: expected \"aes-xts-plain64\", found \"cipher_null-ecb\"",
    ),
    (
        r#""aes-xts-plain64","key_size":64},"kdf""#,
        r#""aes-xts-plain64","key_size":32},"kdf""#,
        "rule C11: keyslots.0.area.key_size: expected 64, found 32",
    ),
    (
        r#""385024""#,
        r#""385023""#,
        "rule C11: keyslots.0.area.size: expected 385024, found 385023",
    ),
    (
        r#""32768""#,
        r#""28672""#,
        "rule C11: keyslots.0.area.offset: expected 32768 to 16392192, found 28672",
    ),
    (
        r#""32768""#,
        r#""16396288""#,
        "rule C11: keyslots.0.area.offset: expected 32768 to 16392192, found 16396288",
    ),
    (
        r#""32768""#,
        r#""32769""#,
        "rule C11: keyslots.0.area.offset: expected a multiple of 4096, found 32769",
    ),
    (
        r#""stripes":4000"#,
        r#""stripes":2"#,
        "rule C11: keyslots.0.af.stripes: expected 4000, found 2",
    ),
    (
        r#"{"type":"luks1""#,
        r#"{"type":"luks3""#,
        "rule C11: keyslots.0.af.type: expected \"luks1\", found \"luks3\"",
    ),
    (
        r#""hash":"sha256"},"area""#,
        r#""hash":"sha1"},"area""#,
        "rule C11: keyslots.0.af.hash: expected \"sha256\" or \"sha512\", found \"sha1\"",
    ),
    (
        r#"{"type":"argon2id""#,
        r#"{"type":"scrypt""#,
        "rule C11: keyslots.0.kdf.type: expected one of \"argon2id\", \"argon2i\", \"pbkdf2\", found \"scrypt\"",
    ),
    (
        "g5Ej6YXrYg7jvYedCN8UInJGADA4t24eFCdhxIehU5M=",
        "",
        "rule C11: keyslots.0.kdf.salt: expected 32 bytes, found 0",
    ),
    (
        "U5M=",
        "U5N=",
        "rule C11: keyslots.0.kdf.salt: expected canonical base64, found \"g5Ej6YXrYg7jvYedCN8UInJGADA4t24eFCdhxIehU5N=\"",
    ),
    (
        r#""kdf":{"#,
        r#""priority":2,"kdf":{"#,
        "rule C11: keyslots.0.priority: expected 1, found 2",
    ),
    (
        r#""kdf":{"#,
        r#""direction":1,"kdf":{"#,
        "rule C11: keyslots.0.direction: expected no such key, found one",
    ),
];

#[test]
fn rule_c11_keyslots_equal_the_template() {
    refused(&Fixture::ours(), Profile::Nightlatch1, KEYSLOTS);
    refused(&Fixture::strict(), Profile::Luks2Strict, KEYSLOTS);
}

#[test]
fn rule_c11_the_cost_of_a_keyslot_is_bounded_both_ways() {
    refused(
        &Fixture::ours(),
        Profile::Nightlatch1,
        &[
            (
                r#""time":4"#,
                r#""time":5"#,
                "rule C11: keyslots.0.kdf.time: expected 4, found 5",
            ),
            (
                r#""memory":65536"#,
                r#""memory":32"#,
                "rule C11: keyslots.0.kdf.memory: expected 65536, found 32",
            ),
            (
                r#""memory":65536"#,
                r#""memory":4194304"#,
                "rule C11: keyslots.0.kdf.memory: expected 65536, found 4194304",
            ),
            (
                r#""cpus":2"#,
                r#""cpus":5"#,
                "rule C11: keyslots.0.kdf.cpus: expected 1 to 4, found 5",
            ),
            (
                r#""argon2id""#,
                r#""argon2i""#,
                "rule C11: keyslots.0.kdf.type: expected \"argon2id\", found \"argon2i\"",
            ),
            (
                r#""iterations":1000"#,
                r#""iterations":1001"#,
                "rule C11: keyslots.1.kdf.iterations: expected 1000, found 1001",
            ),
            (
                r#""hash":"sha512","iter"#,
                r#""hash":"sha1","iter"#,
                "rule C11: keyslots.1.kdf.hash: expected \"sha512\", found \"sha1\"",
            ),
        ],
    );
    refused(
        &Fixture::strict(),
        Profile::Luks2Strict,
        &[
            (
                r#""time":4"#,
                r#""time":101"#,
                "rule C11: keyslots.0.kdf.time: expected 4 to 100, found 101",
            ),
            (
                r#""memory":65536"#,
                r#""memory":1048577"#,
                "rule C11: keyslots.0.kdf.memory: expected 32 to 1048576, found 1048577",
            ),
            (
                r#""cpus":2"#,
                r#""cpus":9"#,
                "rule C11: keyslots.0.kdf.cpus: expected 1 to 8, found 9",
            ),
            (
                r#"{"type":"argon2id","time":4,"memory":65536,"cpus":2"#,
                r#"{"type":"pbkdf2","hash":"sha512","iterations":10000001"#,
                "rule C11: keyslots.0.kdf.iterations: expected 1000 to 10000000, found 10000001",
            ),
        ],
    );
}

#[test]
fn rule_c11_keyslots_are_as_many_as_the_profile_allows_and_apart() {
    let ours = Fixture::ours();
    refused(
        &ours,
        Profile::Nightlatch1,
        &[
            (
                r#""1":{"type":"luks2""#,
                r#""2":{"type":"luks2""#,
                "rule C11: keyslots: expected [0], [0, 1], [2] or [2, 3], found [0, 2]",
            ),
            (
                r#""417792""#,
                r#""413696""#,
                "rule C11: keyslots.1.area.offset: expected an area of its own, found it inside that of keyslot 0",
            ),
        ],
    );
    let strict = Fixture::strict();
    let slot = &strict.json[strict.json.find(r#"{"type":"luks2""#).unwrap()
        ..strict.json.find(r#"},"tokens""#).unwrap()];
    let many = |count: usize| {
        let slots: Vec<String> = (0..count)
            .map(|id| {
                format!(
                    r#""{id}":{}"#,
                    slot.replace("32768", &(32768 + id * 385_024).to_string())
                )
            })
            .collect();
        let ids: Vec<String> = (0..count).map(|id| format!(r#""{id}""#)).collect();
        strict
            .with(&format!(r#""0":{slot}"#), &slots.join(","))
            .with(
                r#""keyslots":["0"]"#,
                &format!(r#""keyslots":[{}]"#, ids.join(",")),
            )
    };
    assert_eq!(
        check(&many(8), Profile::Luks2Strict)
            .unwrap()
            .keyslots
            .len(),
        8
    );
    assert_eq!(
        refusal(check(&many(9), Profile::Luks2Strict)),
        "rule C11: keyslots: expected 1 to 8 keyslots, found [0, 1, 2, 3, 4, 5, 6, 7, 8]"
    );
}
