// SPDX-License-Identifier: Apache-2.0
//! Values that are well spelled and mean harm: configuration, digests, re-encryption.

use serde_json::json;

use super::{Kind, List, put, take};

pub(crate) fn add(list: &mut List) {
    config(list);
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
    let (slot, requirement) = (
        slot("decrypt", "forward"),
        json!({"mandatory": ["online-reencrypt-v2"]}),
    );
    list.edit(kind, "a whole decryption under way", move |json| {
        put(json, "/keyslots/2", slot.clone());
        put(json, "/config/requirements", requirement.clone());
        let mut previous = json["segments"]["0"].clone();
        put(&mut previous, "/flags", json!(["backup-previous"]));
        put(json, "/segments/1", previous);
        put(json, "/segments/2", json!({
            "type": "linear", "offset": "16777216", "size": "dynamic", "flags": ["backup-final"],
        }));
    });
}
