// SPDX-License-Identifier: Apache-2.0
//! Values that are well spelled and mean harm: configuration, segments, digests, re-encryption.

use serde_json::{Value, json};

use super::{Kind, List, put, take};

pub(crate) fn add(list: &mut List) {
    config(list);
    segments(list);
    integrity(list);
    digests(list);
    reencryption(list);
}

fn config(list: &mut List) {
    for size in [
        "0",
        "4096",
        "12289",
        "28672",
        "4190208",
        "9223372036854775807",
    ] {
        list.set(Kind::Config, "/config/json_size", size);
    }
    for size in [
        "0",
        "4096",
        "16744447",
        "16740352",
        "134217728",
        "9223372036854775807",
    ] {
        list.set(Kind::Config, "/config/keyslots_size", size);
    }
    for flags in [
        json!(["allow-discards"]),
        json!(["no-journal"]),
        json!(["allow-discards", "no-journal"]),
        json!(["same-cpu-crypt", "submit-from-crypt-cpus"]),
        json!(["no-read-workqueue", "no-write-workqueue"]),
        json!(["unheard-of"]),
        json!([]),
        json!({}),
    ] {
        list.set(Kind::Config, "/config/flags", flags);
    }
    for requirements in [
        json!({}),
        json!({"mandatory": []}),
        json!({"mandatory": ["unheard-of"]}),
        json!({"mandatory": ["opal"]}),
        json!({"mandatory": ["inline-hw-tags"]}),
        json!({"optional": ["unheard-of"]}),
    ] {
        list.set(Kind::Config, "/config/requirements", requirements);
    }
}

fn segments(list: &mut List) {
    let kind = Kind::Segment;
    for cipher in [
        "cipher_null-ecb",
        "cipher_null",
        "null",
        "",
        "aes-ecb",
        "aes-cbc-plain",
        "aes-cbc-essiv:sha256",
        "aes-xts-plain",
        "aes-xts-null",
        "aes-ctr-plain64",
        "aes-xts-random",
        "aes-gcm-random",
        "aegis128-random",
        "chacha20-plain64",
        "serpent-xts-plain64",
        "capi:xts(aes)-plain64",
        "capi:cipher_null-plain64",
        "capi:authenc(digest_null,ecb(cipher_null))-plain64",
        "AES-XTS-PLAIN64",
        "aes-xts-plain64 1 allow_discards",
    ] {
        list.set(kind, "/segments/0/encryption", cipher);
    }
    for offset in [
        "0",
        "4096",
        "16777208",
        "16777217",
        "17825792",
        "33554432",
        "67108864",
        "9223372036854775807",
    ] {
        list.set(kind, "/segments/0/offset", offset);
    }
    for size in ["0", "512", "4096", "1048576", "4097", "50331648", "Dynamic"] {
        list.set(kind, "/segments/0/size", size);
    }
    for tweak in ["1", "8", "32768", "9223372036854775807"] {
        list.set(kind, "/segments/0/iv_tweak", tweak);
    }
    for size in [
        0_u64,
        1,
        511,
        512,
        1024,
        2048,
        8192,
        65_536,
        4_294_967_295,
        i64::MAX as u64,
    ] {
        list.set(kind, "/segments/0/sector_size", size);
    }
    for other in [
        "linear",
        "hw-opal",
        "hw-opal-crypt",
        "plain",
        "zero",
        "error",
        "delay",
        "crypt ",
        "",
    ] {
        list.set(kind, "/segments/0/type", other);
    }
    list.edit(kind, "a linear segment and nothing else about it", |json| {
        put(
            json,
            "/segments/0",
            json!({"type": "linear", "offset": "16777216", "size": "dynamic"}),
        );
    });
    list.edit(kind, "an opal segment", |json| {
        put(json, "/segments/0", json!({
            "type": "hw-opal", "offset": "16777216", "size": "33554432", "opal_segment_number": 1, "opal_key_size": 32,
            "opal_segment_size": "33554432",
        }));
    });
    for (name, second) in [
        (
            "a second segment without a cipher",
            crypt("cipher_null-ecb"),
        ),
        (
            "a second segment that is linear",
            json!({"type": "linear", "offset": "16777216", "size": "dynamic"}),
        ),
        ("a second segment like the first", crypt("aes-xts-plain64")),
        ("a second segment that is empty", json!({})),
    ] {
        list.edit(kind, name, move |json| {
            put(json, "/segments/1", second.clone())
        });
    }
    for id in ["1", "00", "-1", "32", "x", ""] {
        list.edit(kind, format!("the segment is {id:?}"), move |json| {
            let segment = take(json, "/segments/0");
            put(json, &format!("/segments/{id}"), segment);
        });
    }
    for flags in [
        json!([]),
        json!(["unheard-of"]),
        json!(["backup-final", "in-reencryption"]),
    ] {
        list.set(kind, "/segments/0/flags", flags);
    }
}

fn crypt(cipher: &str) -> Value {
    json!({
        "type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0", "encryption": cipher,
        "sector_size": 4096,
    })
}

fn integrity(list: &mut List) {
    let kind = Kind::Segment;
    for algorithm in [
        "none",
        "",
        "crc32c",
        "sha256",
        "hmac(sha1)",
        "hmac(sha512)",
        "hmac(digest_null)",
        "poly1305",
        "cmac(aes)",
        "aead",
        "HMAC(SHA256)",
    ] {
        list.set(kind, "/segments/0/integrity/type", algorithm);
    }
    for journal in ["", "ctr(aes)", "cbc(aes)"] {
        list.set(kind, "/segments/0/integrity/journal_encryption", journal);
    }
    for journal in ["", "hmac(sha256)", "crc32c"] {
        list.set(kind, "/segments/0/integrity/journal_integrity", journal);
    }
    for size in [0_u64, 1, 16, 31, 33, 64, 4096] {
        list.set(kind, "/segments/0/integrity/key_size", size);
    }
    list.edit(kind, "no integrity, and a key size to match", |json| {
        take(json, "/segments/0/integrity");
        put(json, "/keyslots/0/key_size", json!(64));
        put(json, "/keyslots/1/key_size", json!(64));
    });
    list.edit(kind, "no integrity and no cipher", |json| {
        take(json, "/segments/0/integrity");
        put(json, "/segments/0/encryption", json!("cipher_null-ecb"));
    });
}

fn digests(list: &mut List) {
    let kind = Kind::Digest;
    for iterations in [
        0_u64,
        1,
        999,
        10_000_001,
        4_294_967_295,
        4_294_968_296,
        i64::MAX as u64,
    ] {
        list.set(kind, "/digests/0/iterations", iterations);
    }
    for hash in [
        "sha1",
        "md5",
        "sha256",
        "sha384",
        "crc32",
        "whirlpool",
        "SHA512",
        "",
    ] {
        list.set(kind, "/digests/0/hash", hash);
    }
    for other in ["", "argon2id", "pbkdf2 "] {
        list.set(kind, "/digests/0/type", other);
    }
    for slots in [
        json!([]),
        json!(["0"]),
        json!(["1"]),
        json!(["0", "0", "1"]),
        json!(["0", "1", "7"]),
        json!([0, 1]),
        json!(["0", "1", "99"]),
        json!(["0", "01"]),
    ] {
        list.set(kind, "/digests/0/keyslots", slots);
    }
    for segments in [
        json!([]),
        json!(["1"]),
        json!(["0", "0"]),
        json!(["0", "1"]),
        json!([0]),
    ] {
        list.set(kind, "/digests/0/segments", segments);
    }
    for salt in [
        "",
        "AAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "****",
    ] {
        list.set(kind, "/digests/0/salt", salt);
        list.set(kind, "/digests/0/digest", salt);
    }
    list.edit(kind, "a second digest of the same keyslots", |json| {
        let digest = json["digests"]["0"].clone();
        put(json, "/digests/1", digest);
    });
    list.edit(kind, "a second digest of nothing", |json| {
        let mut digest = json["digests"]["0"].clone();
        put(&mut digest, "/keyslots", json!([]));
        put(&mut digest, "/segments", json!([]));
        put(json, "/digests/1", digest);
    });
    list.edit(kind, "the digest is 1", |json| {
        let digest = take(json, "/digests/0");
        put(json, "/digests/1", digest);
    });
}

/// CVE-2021-4122 and its relatives.
fn reencryption(list: &mut List) {
    let kind = Kind::Reencryption;
    let area = json!({"type": "none", "offset": "802816", "size": "4096"});
    let slot = |mode: &str, direction: &str| {
        json!({
            "type": "reencrypt", "key_size": 1, "mode": mode, "direction": direction, "area": area.clone(),
        })
    };
    for (mode, direction) in [
        ("encrypt", "forward"),
        ("decrypt", "forward"),
        ("decrypt", "backward"),
        ("reencrypt", "forward"),
    ] {
        let slot = slot(mode, direction);
        list.edit(
            kind,
            format!("a keyslot to {mode} {direction}"),
            move |json| {
                put(json, "/keyslots/2", slot.clone());
            },
        );
    }
    for requirement in [
        "online-reencrypt",
        "online-reencrypt-v2",
        "online-reencrypt-v3",
        "offline-reencrypt",
    ] {
        list.edit(kind, format!("requirement {requirement}"), move |json| {
            put(
                json,
                "/config/requirements",
                json!({"mandatory": [requirement]}),
            );
        });
    }
    for flag in [
        "in-reencryption",
        "backup-previous",
        "backup-final",
        "backup-moved-segment",
    ] {
        list.edit(kind, format!("segment flag {flag}"), move |json| {
            put(json, "/segments/0/flags", json!([flag]));
        });
    }
    let (last, requirement) = (
        slot("decrypt", "forward"),
        json!({"mandatory": ["online-reencrypt-v2"]}),
    );
    list.edit(kind, "a whole decryption under way", move |json| {
        put(json, "/keyslots/2", last.clone());
        put(json, "/config/requirements", requirement.clone());
        let mut previous = json["segments"]["0"].clone();
        put(&mut previous, "/flags", json!(["backup-previous"]));
        put(json, "/segments/1", previous);
        put(json, "/segments/2", json!({
            "type": "linear", "offset": "16777216", "size": "dynamic", "flags": ["backup-final"],
        }));
    });
}
