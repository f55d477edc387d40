// SPDX-License-Identifier: Apache-2.0
//! Tokens: other types, other references, other contents.

use base64ct::{Base64, Encoding as _};
use nightlatch::config::Profile;
use serde_json::{Value, json};

use super::draft::SUBSYSTEM;
use super::{Kind, List, put, take};

pub(crate) fn add(list: &mut List) {
    types(list);
    nightlatch(list);
    tpm2(list);
    constellation(list);
}

fn types(list: &mut List) {
    let kind = Kind::Token;
    for (name, token) in [
        (
            "a recovery key's",
            json!({"type": "systemd-recovery", "keyslots": ["0"]}),
        ),
        (
            "a FIDO2 token's",
            json!({"type": "systemd-fido2", "keyslots": ["0"]}),
        ),
        (
            "a PKCS#11 token's",
            json!({"type": "systemd-pkcs11", "keyslots": ["0"]}),
        ),
        (
            "a keyring's",
            json!({"type": "luks2-keyring", "keyslots": ["0"], "key_description": "root"}),
        ),
        (
            "clevis's",
            json!({"type": "clevis", "keyslots": ["0"], "jwe": {}}),
        ),
        (
            "of a plugin's path",
            json!({"type": "../../tmp/evil", "keyslots": ["0"]}),
        ),
        (
            "Constellation's",
            json!({"type": "constellation-state-disk", "keyslots": [], "diskIsInitialized": true}),
        ),
        ("of no type", json!({"keyslots": []})),
        ("without keyslots", json!({"type": "unheard-of"})),
        ("empty", json!({})),
    ] {
        list.edit(kind, format!("a token more, {name}"), move |json| {
            put(json, "/tokens/2", token.clone());
        });
    }
    for (name, copied) in [("nightlatch", "0"), ("systemd-tpm2", "1")] {
        list.edit(kind, format!("a second token {name}"), move |json| {
            let token = json["tokens"][copied].clone();
            put(json, "/tokens/2", token);
        });
        list.edit(
            kind,
            format!("the token {name} under an id too high"),
            move |json| {
                let token = take(json, &format!("/tokens/{copied}"));
                put(json, "/tokens/32", token);
            },
        );
    }
    list.edit(kind, "32 tokens", |json| {
        let tokens = json.pointer_mut("/tokens").unwrap();
        for id in 0..32 {
            tokens[id.to_string()] = json!({"type": "x", "keyslots": []});
        }
    });
    list.edit(kind, "33 tokens beside ours", |json| {
        let tokens = json.pointer_mut("/tokens").unwrap();
        for id in 2..35 {
            tokens[id.to_string()] = json!({"type": "x", "keyslots": []});
        }
    });
    list.set(kind, "/tokens", json!({}));
    list.edit(kind, "the tokens changed over", |json| {
        let [first, second] = ["0", "1"].map(|id| json["tokens"][id].clone());
        put(json, "/tokens/0", second);
        put(json, "/tokens/1", first);
    });
}

fn nightlatch(list: &mut List) {
    let kind = Kind::Token;
    for slots in [json!(["0"]), json!(["7"]), json!("0")] {
        list.set(kind, "/tokens/0/keyslots", slots);
    }
    for profile in [
        "luks2-strict",
        "nightlatch-2",
        "nightlatch-0",
        "constellation",
        "",
    ] {
        list.set(kind, "/tokens/0/profile", profile);
    }
    for role in ["root", "swap", "State", ""] {
        list.set(kind, "/tokens/0/role", role);
    }
    for volume in [
        "other",
        "",
        "Data",
        "../data",
        "root",
        "a b",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        list.set(kind, "/tokens/0/volume", volume);
    }
    for epoch in [
        "0",
        "6",
        "8",
        "07",
        "-1",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "",
    ] {
        list.set(kind, "/tokens/0/epoch", epoch);
    }
    let (zeros, short) = (
        Base64::encode_string(&[0; 32]),
        Base64::encode_string(&[0; 31]),
    );
    for field in [
        "/tokens/0/mac",
        "/tokens/0/volume-key-id",
        "/tokens/0/measurement-salt",
    ] {
        list.set(kind, field, zeros.clone());
        list.set(kind, field, short.clone());
        list.set(kind, field, "");
    }
    for own in [json!(true), json!(false), json!("true"), Value::Null] {
        list.set(kind, "/tokens/0/own-secret", own);
    }
    let evidence = |ak: &str, epoch: &str| json!({"creation-epoch": epoch, "ak": ak, "quote": "AAAA", "signature": "AAAA"});
    let long = Base64::encode_string(&[1; 1025]);
    for (name, evidence) in [
        ("made up", evidence("AAAA", "1")),
        ("with an empty key", evidence("", "1")),
        ("with a key of 1025 bytes", evidence(&long, "1")),
        ("of an epoch that is none", evidence("AAAA", "x")),
        ("that is null", Value::Null),
        ("that is empty", json!({})),
    ] {
        list.edit(kind, format!("evidence {name}"), move |json| {
            put(json, "/tokens/0/evidence", evidence.clone());
        });
    }
    list.add(kind, "role and subsystem of another volume", |draft| {
        draft.both(SUBSYSTEM, b"root\0");
        draft.edit(|json| put(json, "/tokens/0/role", json!("root")));
    });
}

fn tpm2(list: &mut List) {
    let kind = Kind::Token;
    for slots in [
        json!([]),
        json!(["0"]),
        json!(["2"]),
        json!(["0", "1"]),
        json!(["31"]),
        json!([1]),
    ] {
        list.set(kind, "/tokens/1/keyslots", slots);
    }
    for pcrs in [
        json!([]),
        json!([7]),
        json!([7, 11]),
        json!([11, 7, 12]),
        json!([7, 7, 11]),
        json!([16]),
        json!([23]),
        json!([24]),
        json!([-1]),
        json!([4_294_967_303_u64]),
        json!(["7"]),
        json!([0, 1, 2, 3, 4, 5, 6, 7]),
    ] {
        list.set(kind, "/tokens/1/tpm2-pcrs", pcrs);
    }
    for bank in ["sha1", "sha384", "sha512", "SHA256", ""] {
        list.set(kind, "/tokens/1/tpm2-pcr-bank", bank);
    }
    for algorithm in ["rsa", "ecc2", ""] {
        list.set(kind, "/tokens/1/tpm2-primary-alg", algorithm);
    }
    for key in ["tpm2_pcrlock", "tpm2-pcrlock"] {
        list.edit(kind, format!("{key} is true"), move |json| {
            put(json, &format!("/tokens/1/{key}"), json!(true));
        });
    }
    for key in [
        "tpm2_pubkey",
        "tpm2_salt",
        "tpm2_pubkey_pcrs",
        "tpm2_pcrlock_nv",
        "tpm2-future",
    ] {
        list.edit(kind, format!("{key} is there"), move |json| {
            put(json, &format!("/tokens/1/{key}"), json!("AAAA"));
        });
    }
    for hash in [
        "",
        "00",
        "8CE5A74BF207172CC78FEB4024174B5422A63FA219045A85F16E94E1C76CAEC1",
        "0000000000000000000000000000000000000000000000000000000000000000",
    ] {
        list.set(kind, "/tokens/1/tpm2-policy-hash", hash);
    }
    for srk in ["", "AAAA", "gQAAAQ==", "!"] {
        list.set(kind, "/tokens/1/tpm2_srk", srk);
    }
    blob(list);
}

/// Something done to bytes.
type Change = fn(&mut Vec<u8>);

/// The sealed blob: `TPM2B_PRIVATE`, then `TPM2B_PUBLIC`, whose area starts with type, name algorithm and attributes.
fn blob(list: &mut List) {
    let private_len = 2 + 0x9e;
    let attributes = private_len + 2 + 4;
    let changes: [(&str, Change); 4] = [
        ("empty", Vec::clear),
        ("cut short", |blob| blob.truncate(100)),
        ("with a byte more", |blob| blob.push(0)),
        ("twice", |blob| blob.extend(blob.clone())),
    ];
    for (name, change) in changes {
        list.edit(Kind::Token, format!("a blob {name}"), move |json| {
            reblob(json, change);
        });
    }
    for (name, at, byte) in [
        ("private part too long", 0, 0xff),
        ("private part of another length", 1, 0x9d),
        ("private part changed", 20, 0),
        ("public part too long", private_len, 0xff),
        ("type RSA", private_len + 3, 0x01),
        ("type of a symmetric cipher", private_len + 3, 0x25),
        ("name algorithm SHA-1", private_len + 5, 0x04),
        // fixedTPM 0x02, fixedParent 0x10 and userWithAuth 0x40 are in the last byte.
        (
            "not fixedTPM: made elsewhere and imported",
            attributes + 3,
            0x10,
        ),
        ("not fixedParent", attributes + 3, 0x02),
        ("userWithAuth: no policy needed", attributes + 3, 0x52),
        ("noDA", attributes + 2, 0x04),
        (
            "restricted and decrypt: a storage key",
            attributes + 1,
            0x03,
        ),
        ("another policy", attributes + 6, 0),
    ] {
        list.edit(
            Kind::Token,
            format!("a blob whose public area says: {name}"),
            move |json| {
                reblob(json, |blob| blob[at] = byte);
            },
        );
    }
    list.edit(
        Kind::Token,
        "a blob with an import seed behind it",
        |json| {
            reblob(json, |blob| {
                blob.extend([0, 34]);
                blob.extend([7; 34]);
            });
        },
    );
}

fn reblob(json: &mut Value, change: impl FnOnce(&mut Vec<u8>)) {
    let mut blob = Base64::decode_vec(json["tokens"]["1"]["tpm2-blob"].as_str().unwrap()).unwrap();
    change(&mut blob);
    put(
        json,
        "/tokens/1/tpm2-blob",
        json!(Base64::encode_string(&blob)),
    );
}

fn constellation(list: &mut List) {
    let base = Profile::Constellation;
    for (name, token) in [
        (
            "a second token",
            json!({"type": "constellation-state-disk", "keyslots": [], "diskIsInitialized": true}),
        ),
        (
            "a recovery key's token beside",
            json!({"type": "systemd-recovery", "keyslots": ["0"]}),
        ),
    ] {
        list.of(
            base,
            Kind::Token,
            format!("Constellation's disk with {name}"),
            move |draft| {
                draft.edit(|json| put(json, "/tokens/1", token.clone()));
            },
        );
    }
    list.of(
        base,
        Kind::Token,
        "Constellation's disk without a token",
        |draft| {
            draft.edit(|json| put(json, "/tokens", json!({})));
        },
    );
    list.of(
        base,
        Kind::Token,
        "Constellation's token for its keyslot",
        |draft| {
            draft.edit(|json| put(json, "/tokens/0/keyslots", json!(["0"])));
        },
    );
}
