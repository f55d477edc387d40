// SPDX-License-Identifier: Apache-2.0
//! Segments: whether and how the data are encrypted and authenticated, and where they are.

use serde_json::{Value, json};

use super::{Kind, List, put, take};

pub(crate) fn add(list: &mut List) {
    values(list);
    kinds(list);
    integrity(list);
}

fn values(list: &mut List) {
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
}

/// Other kinds of segments, and other numbers of them.
fn kinds(list: &mut List) {
    let kind = Kind::Segment;
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
            put(json, "/segments/1", second.clone());
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
