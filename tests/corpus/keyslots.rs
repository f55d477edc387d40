// SPDX-License-Identifier: Apache-2.0
//! Keyslots: how large the key is, where it lies, and what it costs to try a passphrase.

use base64ct::{Base64, Encoding as _};
use hmac::{Hmac, KeyInit, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::draft::{Draft, KEYSLOTS_OFFSET};
use super::{Kind, List, put, take};

pub(crate) fn add(list: &mut List) {
    sizes(list);
    areas(list);
    kdf(list);
    list.add(Kind::Keyslot, "30 keyslots for a key of one byte", one_byte);
    list.add(
        Kind::Keyslot,
        "30 keyslots for a key of one byte, and no cipher",
        |draft| {
            one_byte(draft);
            draft.edit(|json| put(json, "/segments/0/encryption", json!("cipher_null-ecb")));
        },
    );
    list.add(
        Kind::Keyslot,
        "30 keyslots for a key of one byte, and a linear segment",
        |draft| {
            one_byte(draft);
            draft.edit(|json| {
                put(
                    json,
                    "/segments/0",
                    json!({"type": "linear", "offset": "16777216", "size": "dynamic"}),
                );
            });
        },
    );
}

fn sizes(list: &mut List) {
    let kind = Kind::Keyslot;
    for size in [
        0_u64,
        1,
        16,
        32,
        64,
        95,
        128,
        4096,
        4_294_967_295,
        i64::MAX as u64,
    ] {
        list.set(kind, "/keyslots/0/key_size", size);
    }
    for size in [0_u64, 1, 16, 32, 63, 4_294_967_295] {
        list.set(kind, "/keyslots/0/area/key_size", size);
    }
    for cipher in [
        "cipher_null-ecb",
        "cipher_null",
        "null",
        "",
        "aes-ecb",
        "aes-cbc-plain64",
        "aes-xts-plain",
    ] {
        list.set(kind, "/keyslots/0/area/encryption", cipher);
    }
    list.edit(kind, "both keyslots without a cipher", |json| {
        for slot in ["0", "1"] {
            put(
                json,
                &format!("/keyslots/{slot}/area/encryption"),
                json!("cipher_null-ecb"),
            );
        }
    });
    for other in ["reencrypt", "luks1", "unheard-of", ""] {
        list.set(kind, "/keyslots/0/type", other);
    }
    for stripes in [0_u64, 1, 2, 3999, 4_294_967_295] {
        list.set(kind, "/keyslots/0/af/stripes", stripes);
    }
    for hash in ["sha1", "md5", "crc32", "SHA512", ""] {
        list.set(kind, "/keyslots/0/af/hash", hash);
    }
    list.set(kind, "/keyslots/0/af/type", "none");
    for priority in [json!(0), json!(2), json!(-1), json!("1"), json!(1)] {
        list.set(kind, "/keyslots/0/priority", priority);
    }
    list.set(kind, "/keyslots", json!({}));
    for id in ["2", "00", "-1", "32", "999", "x", ""] {
        list.edit(kind, format!("keyslot 0 is {id:?}"), move |json| {
            let slot = take(json, "/keyslots/0");
            put(json, &format!("/keyslots/{id}"), slot);
        });
    }
    list.edit(kind, "keyslot 1 removed, its token left", |json| {
        take(json, "/keyslots/1");
        put(json, "/digests/0/keyslots", json!(["0"]));
    });
    list.edit(kind, "a third keyslot", |json| {
        let mut slot = json["keyslots"]["0"].clone();
        put(&mut slot, "/area/offset", json!("802816"));
        put(json, "/keyslots/2", slot);
        put(json, "/digests/0/keyslots", json!(["0", "1", "2"]));
    });
    list.edit(kind, "a third keyslot that belongs to no segment", |json| {
        let mut slot = json["keyslots"]["0"].clone();
        put(&mut slot, "/area/offset", json!("802816"));
        put(json, "/keyslots/2", slot);
        let mut digest = json["digests"]["0"].clone();
        put(&mut digest, "/keyslots", json!(["2"]));
        put(&mut digest, "/segments", json!([]));
        put(json, "/digests/1", digest);
    });
}

fn areas(list: &mut List) {
    let kind = Kind::Keyslot;
    for offset in [
        "0",
        "4096",
        "16384",
        "28672",
        "32769",
        "33280",
        "16396288",
        "16777216",
        "67108864",
        "9223372036854775807",
        "417792",
    ] {
        list.set(kind, "/keyslots/0/area/offset", offset);
    }
    for size in ["0", "512", "384000", "16744448", "9223372036854775807"] {
        list.set(kind, "/keyslots/0/area/size", size);
    }
    for other in ["none", "journal", "checksum", "datashift", ""] {
        list.set(kind, "/keyslots/0/area/type", other);
    }
    list.edit(kind, "keyslot 1 in the middle of keyslot 0", |json| {
        put(json, "/keyslots/1/area/offset", json!("65536"));
    });
    list.edit(kind, "the two areas changed over", |json| {
        put(json, "/keyslots/0/area/offset", json!("417792"));
        put(json, "/keyslots/1/area/offset", json!("32768"));
    });
}

fn kdf(list: &mut List) {
    let kind = Kind::Kdf;
    for iterations in [
        0_u64,
        1,
        999,
        10_000_001,
        4_294_967_295,
        4_294_968_296,
        i64::MAX as u64,
    ] {
        list.set(kind, "/keyslots/0/kdf/iterations", iterations);
    }
    for hash in ["sha1", "md5", "sha256", "whirlpool", "SHA512", ""] {
        list.set(kind, "/keyslots/0/kdf/hash", hash);
    }
    for other in ["scrypt", "argon2d", "argon2id", "none", ""] {
        list.set(kind, "/keyslots/0/kdf/type", other);
    }
    for salt in [
        "",
        "AAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=",
        "!",
    ] {
        list.set(kind, "/keyslots/0/kdf/salt", salt);
    }
    let argon2 = |name: &str, time: u64, memory: u64, cpus: u64| {
        let salt = Base64::encode_string(&[9; 32]);
        json!({"type": name, "time": time, "memory": memory, "cpus": cpus, "salt": salt})
    };
    for (what, value) in [
        ("no memory", argon2("argon2id", 4, 0, 1)),
        ("31 KiB", argon2("argon2id", 4, 31, 1)),
        ("2 GiB", argon2("argon2id", 4, 2_097_152, 1)),
        (
            "4 GiB, the most libcryptsetup knows",
            argon2("argon2id", 4, 4_194_304, 1),
        ),
        ("4 TiB", argon2("argon2id", 4, 4_294_967_295, 1)),
        ("2^63 KiB", argon2("argon2id", 4, i64::MAX as u64, 1)),
        ("no pass", argon2("argon2id", 0, 65_536, 1)),
        ("1 pass", argon2("argon2id", 1, 65_536, 1)),
        ("5 passes", argon2("argon2id", 5, 65_536, 1)),
        (
            "4 billion passes",
            argon2("argon2id", 4_294_967_295, 65_536, 1),
        ),
        ("no lane", argon2("argon2id", 4, 65_536, 0)),
        ("5 lanes", argon2("argon2id", 4, 65_536, 5)),
        (
            "4 billion lanes",
            argon2("argon2id", 4, 65_536, 4_294_967_295),
        ),
        ("of kind argon2i", argon2("argon2i", 4, 65_536, 1)),
        ("of kind argon2d", argon2("argon2d", 4, 65_536, 1)),
        ("of half the memory", argon2("argon2id", 4, 32_768, 1)),
    ] {
        list.edit(kind, format!("Argon2 with {what}"), move |json| {
            put(json, "/keyslots/0/kdf", value.clone());
        });
    }
    list.edit(kind, "the salts changed over", |json| {
        let salts = ["0", "1"].map(|slot| json["keyslots"][slot]["kdf"]["salt"].clone());
        let [first, second] = salts;
        put(json, "/keyslots/0/kdf/salt", second);
        put(json, "/keyslots/1/kdf/salt", first);
    });
    for (time, memory, cpus) in [
        (4_u64, 1_048_577_u64, 4_u64),
        (257, 32, 1),
        (17, 1_048_576, 4),
        (4, 32, 5),
        (3, 32, 1),
    ] {
        let name =
            format!("Constellation's keyslot with {memory} KiB, {time} passes, {cpus} lanes");
        list.of(
            nightlatch::config::Profile::Constellation,
            kind,
            name,
            move |draft| {
                draft.edit(|json| {
                    for (key, value) in [("time", time), ("memory", memory), ("cpus", cpus)] {
                        put(json, &format!("/keyslots/0/kdf/{key}"), json!(value));
                    }
                });
            },
        );
    }
}

/// A header that opens with whatever passphrase: the digest is that of a key of one byte, which the attacker knows, and each
/// of 30 keyslots of random bytes gives that byte with a chance of 1 in 256. All is fixed here, and so is the passphrase, so
/// this one always opens; an attacker tries again at each boot.
fn one_byte(draft: &mut Draft) {
    let salt = random(0, 32);
    let digest = pbkdf2(&[0x7e], &salt);
    let mut slots = json!({});
    for id in 0_u8..30 {
        let offset = KEYSLOTS_OFFSET + usize::from(id) * 4096;
        draft.put(offset, &random(100 + id, 4096));
        slots[id.to_string()] = json!({
            "type": "luks2", "key_size": 1, "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
            "area": {"type": "raw", "offset": offset.to_string(), "size": "4096", "encryption": "aes-xts-plain64",
                "key_size": 64},
            "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000,
                "salt": Base64::encode_string(&random(SEED + id, 32))},
        });
    }
    let ids: Vec<String> = (0..30).map(|id| id.to_string()).collect();
    draft.edit(|json: &mut Value| {
        // Room: the metadata is 12 KiB at most.
        take(json, "/tokens/1");
        put(json, "/keyslots", slots);
        put(json, "/digests/0", json!({
            "type": "pbkdf2", "keyslots": ids, "segments": ["0"], "hash": "sha256", "iterations": 1000,
            "salt": Base64::encode_string(&salt), "digest": Base64::encode_string(&digest),
        }));
    });
}

/// With these salts one of the keyslots gives the byte.
const SEED: u8 = 104;

/// Bytes that look random and are the same in each run.
fn random(seed: u8, len: usize) -> Vec<u8> {
    let blocks = (0_u32..).flat_map(|block| {
        let hash = Sha256::new()
            .chain_update([seed])
            .chain_update(block.to_be_bytes());
        hash.finalize().to_vec()
    });
    blocks.take(len).collect()
}

/// PBKDF2-HMAC-SHA256 with 1000 iterations, one block (RFC 8018, section 5.2).
fn pbkdf2(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let hmac = |message: &[u8]| -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(password).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().into()
    };
    let mut block = hmac(&[salt, &[0, 0, 0, 1]].concat());
    let mut sum = block;
    for _ in 1..1000 {
        block = hmac(&block);
        for (to, from) in sum.iter_mut().zip(block) {
            *to ^= from;
        }
    }
    sum.to_vec()
}
