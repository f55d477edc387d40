// SPDX-License-Identifier: Apache-2.0
//! The template: rules C8 to C10 and C12. Each table starts from a header that is accepted.

use super::super::fixture::Fixture;
use super::super::{Checked, Expect, Probe};
use super::refusal;
use crate::config::{Profile, Role};
use crate::error::Result;

pub(super) fn check(fixture: &Fixture, profile: Profile) -> Result<Checked> {
    let area = fixture.area();
    match area.classify(Probe::Skipped)? {
        super::Content::Luks(copies) => {
            let mut good = copies.check(&area, profile, &Expect::default())?;
            Ok(good.remove(0).checked)
        }
        other @ (super::Content::Blank | super::Content::Interrupted(_)) => panic!("{other:?}"),
    }
}

/// Each row: what in the metadata is replaced, by what, and the refusal.
pub(super) fn refused(base: &Fixture, profile: Profile, rows: &[(&str, &str, &str)]) {
    check(base, profile).unwrap();
    for (from, to, expected) in rows {
        assert_eq!(refusal(check(&base.with(from, to), profile)), *expected);
    }
}

#[test]
fn the_headers_everything_starts_from_are_accepted() {
    let checked = check(&Fixture::ours(), Profile::Nightlatch1).unwrap();
    assert_eq!(checked.uuid, super::UUID);
    assert_eq!(checked.keyslots, [0, 1]);
    assert_eq!(checked.tpm.unwrap().keyslot, 1);
    assert_eq!(checked.nightlatch.unwrap().role, Role::State);

    let checked = check(&Fixture::plain(), Profile::Nightlatch1).unwrap();
    assert_eq!((checked.keyslots, checked.tpm), (vec![0], None));

    let checked = check(&Fixture::strict(), Profile::Luks2Strict).unwrap();
    assert_eq!((checked.keyslots, checked.nightlatch), (vec![0], None));
}

#[test]
fn what_libcryptsetup_may_write_otherwise_is_accepted_too() {
    for (from, to) in [
        // libcryptsetup 2.8 with the length of the integrity key.
        (
            r#""journal_integrity":"none""#,
            r#""journal_integrity":"none","key_size":32"#,
        ),
        // One CPU online.
        (r#""cpus":2"#, r#""cpus":1"#),
        // kdf = "pbkdf2" in the configuration.
        (
            r#""hash":"sha256"},"area":{"type":"raw","offset":"32768","size":"385024","encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"argon2id","time":4,"memory":65536,"cpus":2"#,
            r#""hash":"sha512"},"area":{"type":"raw","offset":"32768","size":"385024","encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"pbkdf2","hash":"sha512","iterations":1000"#,
        ),
        // A digest made while the KDF's hash was sha512, from cryptsetup 2.6.1.
        (
            r#""hash":"sha256","iterations":1000,"salt":"ZhXFozT+R9iVLeukxJf+vJLfQGW7AilPFuu2k3hIjWg=","digest":"wC4Ib2GaGOFVvLKa1EadnKbVKdlOla5iQtTSMW/ctjI=""#,
            r#""hash":"sha512","iterations":1000,"salt":"Ov5xuz3NPTpMWLHkFaKOGGUnVSS8WpfECMX8Zm06Ops=","digest":"cW/3R/l/b9OINqb5CeI336EGK8Gfvlc9zTU/4np6sUUVlbQlbaC/JwKp3HWGEVlCy88tHZroV8s6Kvnw2L47dg==""#,
        ),
        (
            r#""kdf":{"type":"argon2id""#,
            r#""priority":1,"kdf":{"type":"argon2id""#,
        ),
    ] {
        check(&Fixture::ours().with(from, to), Profile::Nightlatch1).unwrap();
    }
    // What a benchmark on a fast machine gives, and Constellation's volumes.
    let costly = Fixture::strict().with(
        r#""time":4,"memory":65536,"cpus":2"#,
        r#""time":30,"memory":1048576,"cpus":4"#,
    );
    check(&costly, Profile::Luks2Strict).unwrap();
}

#[test]
fn rule_c8_the_metadata_has_exactly_the_five_objects_and_zeros_after_it() {
    refused(
        &Fixture::ours(),
        Profile::Nightlatch1,
        &[
            (
                r#"{"keyslots":{"0""#,
                r#"{"x":1,"keyslots":{"0""#,
                "rule C8: x: expected no such key, found one",
            ),
            (
                r#""config":"#,
                r#""konfig":"#,
                "rule C8: config: expected this key, found none",
            ),
            (
                r#""16744448"}}"#,
                r#""16744448"}}{}"#,
                "rule C8: metadata byte 2171: expected the end of the JSON, found '{'",
            ),
            (
                "\"16744448\"}}",
                "\"16744448\"}}\0x",
                "rule C8: metadata: expected zeros after the JSON, found something at byte 2172",
            ),
        ],
    );
}

#[test]
fn rule_c9_config_has_the_constant_sizes_no_flags_and_no_requirements() {
    refused(
        &Fixture::ours(),
        Profile::Nightlatch1,
        &[
            (
                r#""12288""#,
                r#""4096""#,
                "rule C9: config.json_size: expected 12288, found 4096",
            ),
            (
                r#""16744448""#,
                r#""16740352""#,
                "rule C9: config.keyslots_size: expected 16744448, found 16740352",
            ),
            (
                r#""16744448""#,
                r#""16744448","flags":["allow-discards","no-journal"]"#,
                "rule C9: config.flags: expected no such key, found one",
            ),
            (
                r#""16744448""#,
                r#""16744448","requirements":{"mandatory":["online-reencrypt-v2"]}"#,
                "rule C9: config.requirements: expected no such key, found one",
            ),
            (
                r#""12288""#,
                "12288",
                "rule C9: config.json_size: expected a string, found 12288",
            ),
            (
                r#""12288""#,
                r#""012288""#,
                "rule C9: config.json_size: expected a whole number in a string, without sign or leading zeros, found \"012288\"",
            ),
        ],
    );
}

const SEGMENT: &[(&str, &str, &str)] = &[
    (
        r#"plain64","sector"#,
        r#"ecb","sector"#,
        "rule C10: segments.0.encryption: expected \"aes-xts-plain64\", found \"aes-xts-ecb\"",
    ),
    (
        r#""aes-xts-plain64","sector"#,
        r#""cipher_null-ecb","sector"#,
        "rule C10: segments.0.encryption: expected \"aes-xts-plain64\", found \"cipher_null-ecb\"",
    ),
    (
        r#"{"type":"crypt""#,
        r#"{"type":"linear""#,
        "rule C10: segments.0.type: expected \"crypt\", found \"linear\"",
    ),
    (
        r#"{"type":"crypt""#,
        r#"{"type":"hw-opal-crypt""#,
        "rule C10: segments.0.type: expected \"crypt\", found \"hw-opal-crypt\"",
    ),
    (
        r#""16777216""#,
        r#""17825792""#,
        "rule C10: segments.0.offset: expected 16777216, found 17825792",
    ),
    (
        r#""dynamic""#,
        r#""1048576""#,
        "rule C10: segments.0.size: expected \"dynamic\", found \"1048576\"",
    ),
    (
        r#""iv_tweak":"0""#,
        r#""iv_tweak":"8""#,
        "rule C10: segments.0.iv_tweak: expected 0, found 8",
    ),
    (
        r#""sector_size":4096"#,
        r#""sector_size":512"#,
        "rule C10: segments.0.sector_size: expected 4096, found 512",
    ),
    (
        r#","integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}"#,
        "",
        "rule C10: segments.0.integrity: expected \"hmac(sha256)\", found no integrity",
    ),
    (
        "hmac(sha256)",
        "none",
        "rule C10: segments.0.integrity.type: expected \"hmac(sha256)\", found \"none\"",
    ),
    (
        r#""journal_encryption":"none""#,
        r#""journal_encryption":"ctr(aes)""#,
        "rule C10: segments.0.integrity.journal_encryption: expected \"none\", found \"ctr(aes)\"",
    ),
    (
        r#""journal_integrity":"none""#,
        r#""journal_integrity":"hmac(sha256)""#,
        "rule C10: segments.0.integrity.journal_integrity: expected \"none\", found \"hmac(sha256)\"",
    ),
    (
        r#""journal_integrity":"none""#,
        r#""journal_integrity":"none","key_size":1"#,
        "rule C10: segments.0.integrity.key_size: expected 32, found 1",
    ),
    (
        r#""sector_size":4096"#,
        r#""sector_size":4096,"flags":["in-reencryption"]"#,
        "rule C10: segments.0.flags: expected no such key, found one",
    ),
    (
        r#""segments":{"0""#,
        r#""segments":{"1":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"cipher_null-ecb","sector_size":4096},"0""#,
        "rule C10: segments: expected [0], found [0, 1]",
    ),
    (
        r#""segments":{"0""#,
        r#""segments":{"00""#,
        "rule C10: segments: expected ids from \"0\" to \"31\", found \"00\"",
    ),
    (
        r#""segments":{"0""#,
        r#""segments":{"32""#,
        "rule C10: segments: expected ids from \"0\" to \"31\", found \"32\"",
    ),
];

#[test]
fn rule_c10_the_segment_equals_the_template() {
    refused(&Fixture::ours(), Profile::Nightlatch1, SEGMENT);
    refused(&Fixture::strict(), Profile::Luks2Strict, SEGMENT);
}

#[test]
fn rule_c12_one_digest_covers_every_keyslot_and_the_segment() {
    refused(
        &Fixture::ours(),
        Profile::Nightlatch1,
        &[
            (
                r#""keyslots":["0","1"]"#,
                r#""keyslots":["0"]"#,
                "rule C12: digests.0.keyslots: expected {0, 1}, found {0}",
            ),
            (
                r#""segments":["0"]"#,
                r#""segments":[]"#,
                "rule C12: digests.0.segments: expected {0}, found {}",
            ),
            (
                r#""segments":["0"]"#,
                r#""segments":["0","0"]"#,
                "rule C12: digests.0.segments.1: expected an id from \"0\" to \"31\", once, found \"0\"",
            ),
            (
                r#""digests":{"0""#,
                r#""digests":{"1""#,
                "rule C12: digests: expected [0], found [1]",
            ),
            (
                r#""hash":"sha256","iterations""#,
                r#""hash":"sha1","iterations""#,
                "rule C12: digests.0.hash: expected \"sha256\" or \"sha512\", found \"sha1\"",
            ),
            (
                r#""hash":"sha256","iterations":1000"#,
                r#""hash":"sha256","iterations":4000000000"#,
                "rule C12: digests.0.iterations: expected 1000 to 10000000, found 4000000000",
            ),
            (
                r#""hash":"sha256","iterations":1000"#,
                r#""hash":"sha256","iterations":1"#,
                "rule C12: digests.0.iterations: expected 1000 to 10000000, found 1",
            ),
            (
                "MW/ctjI=",
                "MW/ctg==",
                "rule C12: digests.0.digest: expected 32 bytes, found 31",
            ),
        ],
    );
}

#[test]
fn a_header_of_one_profile_is_refused_under_the_other() {
    assert_eq!(
        refusal(check(&Fixture::strict(), Profile::Nightlatch1)),
        "rule C13: tokens: expected exactly one token \"nightlatch\", found none"
    );
    assert_eq!(
        refusal(check(&Fixture::plain(), Profile::Luks2Strict)),
        "rule C13: tokens: expected no token \"nightlatch\" in a stock volume, found one"
    );
}

#[test]
fn rule_c10_a_device_has_room_for_the_segment() {
    let header = Fixture::ours().header();
    let on = |len| Expect {
        device_len: Some(len),
        ..Expect::default()
    };
    assert!(header.check(Profile::Nightlatch1, &on(64 << 20)).is_ok());
    assert_eq!(
        refusal(header.check(Profile::Nightlatch1, &on(16 << 20))),
        "rule C10: device: expected at least 67108864 bytes, found 16777216"
    );
}
