// SPDX-License-Identifier: Apache-2.0
//! Files of wrapped secrets: vectors, and what is refused of files that somebody else wrote.

use super::*;

const KEK: &str = "openbao:transit/nightlatch:v1";

fn range(from: u8, to: u8) -> Vec<u8> {
    (from..=to).collect()
}

fn key() -> Secret {
    Secret::new(range(0x00, 0x1f))
}

fn file(id: &str, kek: &str, sealed: &str) -> String {
    let nonce = Base64::encode_string(&range(0x40, 0x4b));
    format!(
        r#"{{"version":1,"id":"{id}","kek":"{kek}","kms":"AQID","nonce":"{nonce}","sealed":"{sealed}"}}"#
    )
}

/// Made by Python's `cryptography` 48: HKDF, AES-GCM and the text of the additional data written out.
#[test]
fn two_files_open_to_what_another_program_sealed() {
    let salted = file(
        "key-00000000-0000-0000-0000-000000000000",
        "aws:arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
        "r2Z2QvYogWbaJYLlyKi/tw7HcSKgEPfajl1zRPj9fafiBcmvBZtkUADAhUoExTkN",
    );
    let salted = Envelope::parse(salted.as_bytes()).unwrap();
    let salt = range(0x20, 0x3f);
    let opened = salted.open_salted(&key(), Some(&salt)).unwrap();
    assert_eq!(opened.expose(), range(0x80, 0x9f));
    assert!(salted.open(&key()).is_err());

    let master = file(
        "master",
        KEK,
        "zrUEnEURGj9P+SnP0IXi/aLVrjKvFj2hbBuv9EY1pflfLIqq87mtSHegfb48F4ByVNal/v6asszgazTyquBavbjuqXNm8BroX7QFiJ3wpYMsHKLN\
         UH4tjASIvvRHWB35NVCPGD2QgsySlNdM8SHxrFnxuxOIRSO6Evqjjw==",
    );
    let master = Envelope::parse(master.as_bytes()).unwrap();
    let zeros = Base64::encode_string(&[0; 32]);
    assert_eq!(
        master.open(&key()).unwrap().expose(),
        format!(r#"{{"key":"{zeros}","salt":"{zeros}"}}"#).as_bytes()
    );
}

fn wrapped() -> WrappedKey {
    WrappedKey {
        kek: KEK.into(),
        bytes: b"vault:v1:AAAA".to_vec(),
    }
}

fn sealed() -> Envelope {
    let content = Secret::new(b"content".to_vec());
    Envelope::seal("master", wrapped(), &content, &key(), None).unwrap()
}

#[test]
fn what_is_written_is_read_again_and_has_one_spelling() {
    let text = sealed().text().unwrap();
    let read = Envelope::parse(text.as_bytes()).unwrap();
    assert_eq!(read.open(&key()).unwrap().expose(), b"content");
    assert_eq!(read.text().unwrap(), text);
    assert!(text.starts_with(r#"{"id":"master","kek":"#) && text.ends_with('\n'));
    assert_ne!(text, sealed().text().unwrap());
}

/// What `init` cannot read again it does not write.
#[test]
fn what_no_start_reads_is_not_made() {
    let content = Secret::new(b"content".to_vec());
    let seal = |kek: String, bytes: Vec<u8>| {
        Envelope::seal("master", WrappedKey { kek, bytes }, &content, &key(), None)
    };
    seal("k".repeat(NAME_LEN_MAX), vec![1; WRAPPED_LEN_MAX]).unwrap();
    for (kek, bytes) in [
        ("k".repeat(NAME_LEN_MAX + 1), vec![1]),
        ("a b".into(), vec![1]),
        (KEK.into(), vec![1; WRAPPED_LEN_MAX + 1]),
        (KEK.into(), Vec::new()),
    ] {
        let error = seal(kek, bytes).unwrap_err().to_string();
        assert!(error.contains("no start reads"), "{error}");
    }
}

/// Whoever can write the file cannot give it another purpose or another key's name.
#[test]
fn a_file_with_any_part_changed_does_not_open() {
    let text = sealed().text().unwrap();
    let nonce = Base64::encode_string(&[7; NONCE_LEN]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (member, other) in [
        ("id", "key-00000000-0000-0000-0000-000000000000"),
        ("kek", "openbao:transit/nightlatch:v2"),
        ("nonce", &nonce),
        ("sealed", &Base64::encode_string(&[7; 23])),
    ] {
        let mut changed = value.clone();
        changed[member] = other.into();
        let changed = Envelope::parse(changed.to_string().as_bytes()).unwrap();
        let error = changed.open(&key()).unwrap_err().to_string();
        assert!(error.contains("altered"), "{member}: {error}");
    }
    assert!(sealed().open(&Secret::new(vec![9; 32])).is_err());
}

#[test]
fn what_is_no_such_file_is_refused_with_what_is_wrong() {
    let good = file("master", KEK, &Base64::encode_string(&[1; 40]));
    Envelope::parse(good.as_bytes()).unwrap();
    let long = Base64::encode_string(&vec![1; CONTENT_LEN_MAX + TAG_LEN + 1]);
    let short = Base64::encode_string(&[1; TAG_LEN]);
    for (old, new, said) in [
        (
            "\"version\":1",
            "\"version\":2",
            "version: expected 1, found 2",
        ),
        ("\"version\":1,", "", "missing field `version`"),
        (
            "\"version\":1",
            "\"version\":1,\"plaintext\":\"\"",
            "unknown field `plaintext`",
        ),
        (
            "\"version\":1",
            "\"version\":1,\"version\":1",
            "duplicate field `version`",
        ),
        ("\"master\"", "\"\"", "id: expected a name"),
        ("\"master\"", "\"mas ter\"", "id: expected a name"),
        ("openbao:", "\u{e4}:", "kek: expected a name"),
        ("\"AQID\"", "\"\"", "kms: it is empty"),
        ("\"AQID\"", "\"AQI\"", "kms: base64"),
        (
            "\"nonce\":\"",
            "\"nonce\":\"AAAA",
            "nonce: expected at most 12 bytes",
        ),
        (
            "\"nonce\":\"QEFC",
            "\"nonce\":\"",
            "nonce: expected 12 bytes, found 9",
        ),
        (
            &Base64::encode_string(&[1; 40]),
            &short,
            "sealed: it is too short",
        ),
        (
            &Base64::encode_string(&[1; 40]),
            &long,
            "sealed: expected at most",
        ),
    ] {
        let text = good.replacen(old, new, 1);
        assert_ne!(text, good, "{old}");
        let error = Envelope::parse(text.as_bytes()).unwrap_err();
        assert!(error.contains(said), "{error}\n{said}");
    }
    let padded = format!("{good}{}", " ".repeat(FILE_LEN_MAX));
    let error = Envelope::parse(padded.as_bytes()).unwrap_err();
    assert!(error.contains("at most 32768 bytes"), "{error}");
    for len in 0..good.len() {
        assert!(Envelope::parse(&good.as_bytes()[..len]).is_err(), "{len}");
    }
}
