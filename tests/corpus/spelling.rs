// SPDX-License-Identifier: Apache-2.0
//! The same metadata, or other metadata, in spellings on which JSON parsers disagree.

use super::{Kind, List};

/// Name, what is replaced, and by what.
const REPLACED: [(&str, &str, &str); 41] = [
    (
        "a duplicate key, the last one evil",
        r#""type":"crypt""#,
        r#""type":"crypt","type":"linear""#,
    ),
    (
        "a duplicate key, the first one evil",
        r#""type":"crypt""#,
        r#""type":"linear","type":"crypt""#,
    ),
    (
        "a duplicate cipher",
        r#""encryption":"aes-xts-plain64","integrity""#,
        r#""encryption":"aes-xts-plain64","encryption":"cipher_null-ecb","integrity""#,
    ),
    (
        "a duplicate segment",
        r#""segments":{"0""#,
        r#""segments":{"0":{"type":"linear"},"0""#,
    ),
    (
        "duplicate segments",
        r#""segments":{"#,
        r#""segments":{},"segments":{"#,
    ),
    (
        "duplicate tokens",
        r#""tokens":{"#,
        r#""tokens":{},"tokens":{"#,
    ),
    (
        "a duplicate key size",
        r#""key_size":96"#,
        r#""key_size":96,"key_size":96"#,
    ),
    (
        "a key twice, once with an escape",
        r#""type":"crypt""#,
        r#""type":"crypt","typ\u0065":"linear""#,
    ),
    ("a comment in front", r#"{"config""#, r#"/* */{"config""#),
    (
        "a comment inside",
        r#""config":{"#,
        r#""config":/* "flags" */{"#,
    ),
    (
        "a comment to the end of the line",
        r#""config":{"#,
        "\"config\":// x\n{",
    ),
    ("single quotes around a key", r#""config""#, r"'config'"),
    ("single quotes around a value", r#""dynamic""#, r"'dynamic'"),
    ("no quotes around a key", r#""config""#, "config"),
    ("an escape in a key", r#""iv_tweak""#, r#""iv\u005ftweak""#),
    ("an escape in a value", r#""dynamic""#, r#""dyn\u0061mic""#),
    ("an escaped slash", r#""crypt""#, r#""cryp\/t""#),
    ("an escaped zero", r#""crypt""#, r#""crypt\u0000""#),
    ("half a surrogate pair", r#""crypt""#, r#""crypt\ud800""#),
    ("a byte that is not UTF-8", r#""crypt""#, "\"crypt\u{e9}\""),
    (
        "a control character in a string",
        r#""crypt""#,
        "\"cry\tpt\"",
    ),
    ("white space in front", r#"{"config""#, r#" {"config""#),
    ("white space between", r#""config":{"#, r#""config": {"#),
    ("a line end", r#""config":{"#, "\"config\":\n{"),
    ("a byte order mark", r#"{"config""#, "\u{feff}{\"config\""),
    (
        "a comma too many in an object",
        r#""iv_tweak":"0","#,
        r#""iv_tweak":"0",,"#,
    ),
    (
        "a comma at the end of an array",
        r#""segments":["0"]"#,
        r#""segments":["0",]"#,
    ),
    (
        "a number with a leading zero",
        r#""sector_size":4096"#,
        r#""sector_size":04096"#,
    ),
    (
        "a number with a plus",
        r#""sector_size":4096"#,
        r#""sector_size":+4096"#,
    ),
    (
        "a negative number",
        r#""sector_size":4096"#,
        r#""sector_size":-4096"#,
    ),
    (
        "a number with a fraction",
        r#""sector_size":4096"#,
        r#""sector_size":4096.0"#,
    ),
    (
        "a number with an exponent",
        r#""sector_size":4096"#,
        r#""sector_size":4096e0"#,
    ),
    (
        "a hexadecimal number",
        r#""sector_size":4096"#,
        r#""sector_size":0x1000"#,
    ),
    (
        "a number of 2^32 and more",
        r#""sector_size":4096"#,
        r#""sector_size":4294971392"#,
    ),
    (
        "a number of 2^63",
        r#""sector_size":4096"#,
        r#""sector_size":9223372036854775808"#,
    ),
    (
        "a number of 2^64 and more",
        r#""sector_size":4096"#,
        r#""sector_size":18446744073709555712"#,
    ),
    (
        "not a number",
        r#""sector_size":4096"#,
        r#""sector_size":NaN"#,
    ),
    (
        "infinity",
        r#""sector_size":4096"#,
        r#""sector_size":Infinity"#,
    ),
    (
        "true in capitals",
        r#""tpm2-pin":false"#,
        r#""tpm2-pin":FALSE"#,
    ),
    (
        "null in capitals",
        r#""tpm2-pin":false"#,
        r#""tpm2-pin":NULL"#,
    ),
    (
        "an object instead of the metadata's end",
        r#""tokens":{"#,
        r#""unheard-of":{},"tokens":{"#,
    ),
];

/// Numbers in strings, of an offset that is 16777216.
const DECIMALS: [(&str, &str); 10] = [
    ("a leading zero", "016777216"),
    ("a plus", "+16777216"),
    ("a minus", "-16777216"),
    ("a space in front", " 16777216"),
    ("a space behind", "16777216 "),
    ("hexadecimal digits", "0x1000000"),
    ("octal digits", "0100000000"),
    ("2^64 more", "18446744073726328832"),
    ("a fraction", "16777216.0"),
    ("nothing", ""),
];

pub(crate) fn add(list: &mut List) {
    for (name, from, to) in REPLACED {
        list.replace(Kind::Spelling, name, from, to);
    }
    for (name, text) in DECIMALS {
        list.edit(
            Kind::Spelling,
            format!("an offset with {name}"),
            move |json| {
                super::put(json, "/segments/0/offset", text.into());
            },
        );
    }
    let behind: [(&str, &[u8]); 4] = [
        ("a second object behind the JSON", b"{}"),
        ("a byte behind the JSON's zero", b"\0x"),
        ("another JSON behind a zero", b"\0{\"keyslots\":{}}"),
        ("white space behind the JSON", b" "),
    ];
    for (name, what) in behind {
        list.add(Kind::Spelling, name, move |draft| {
            let json = [draft.json().as_bytes(), what].concat();
            draft.set_json(json);
        });
    }
    list.add(Kind::Spelling, "the last byte of the JSON area", |draft| {
        draft.both(16_383, b"x");
    });
    list.add(
        Kind::Spelling,
        "the JSON area full of white space",
        |draft| {
            let mut json = draft.json().into_bytes();
            json.resize(12_287, b' ');
            draft.set_json(json);
        },
    );
    list.add(Kind::Spelling, "a JSON area without an end", |draft| {
        let mut json = draft.json().into_bytes();
        json.resize(12_288, b' ');
        draft.set_json(json);
    });
    list.add(Kind::Spelling, "no JSON", |draft| draft.set_json(""));
    list.add(Kind::Spelling, "an array instead of the JSON", |draft| {
        draft.set_json("[]");
    });
    list.add(Kind::Spelling, "the JSON cut short", |draft| {
        let json = draft.json();
        draft.set_json(&json[..json.len() - 1]);
    });
    list.add(Kind::Spelling, "the JSON in UTF-16", |draft| {
        let text = r#"{"keyslots":{}}"#.encode_utf16();
        let bytes: Vec<u8> = text.flat_map(u16::to_le_bytes).collect();
        draft.set_json(bytes);
    });
    let deep: [(&str, String); 4] = [
        ("arrays nested 12288 deep", "[".repeat(12_288)),
        ("objects nested 2000 deep", r#"{"":"#.repeat(2000)),
        ("1300 keys", keys(1300)),
        (
            "a string of 12 KB",
            format!("{{\"{}\":0}}", "k".repeat(12_000)),
        ),
    ];
    for (name, json) in deep {
        list.add(Kind::Spelling, name, move |draft| draft.set_json(&json));
    }
    list.edit(Kind::Spelling, "a value nested 30 deep", |json| {
        let deep = format!("{}0{}", "[".repeat(30), "]".repeat(30));
        let deep = serde_json::from_str(&deep).unwrap();
        super::put(json, "/config/unheard-of", deep);
    });
}

fn keys(count: usize) -> String {
    let keys: Vec<String> = (0..count).map(|key| format!(r#""{key}":0"#)).collect();
    format!("{{{}}}", keys.join(","))
}
