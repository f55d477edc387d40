// SPDX-License-Identifier: Apache-2.0
//! Lists made by hand.

use super::*;

const OWNER: [u8; 16] = [0x0e; 16];

/// A list of this kind, of entries that are as long as each other.
pub(crate) fn list(kind: [u8; 16], entries: &[&[u8]]) -> Vec<u8> {
    let entry_len = OWNER_LEN + entries[0].len();
    let len = HEAD_LEN + entry_len * entries.len();
    let numbers = [len, 0, entry_len].map(|it| u32::try_from(it).unwrap().to_le_bytes());
    let entries = entries
        .iter()
        .flat_map(|entry| [&OWNER[..], entry].concat());
    [&kind[..], &numbers.concat(), &entries.collect::<Vec<u8>>()].concat()
}

/// What signs an update, with its lists behind it.
fn signed(lists: &[u8]) -> Vec<u8> {
    let signature = b"PKCS #7";
    let len = u32::try_from(24 + signature.len()).unwrap();
    let words = [REVISION, KIND].map(u16::to_le_bytes).concat();
    [
        &[7; TIME_LEN][..],
        &len.to_le_bytes(),
        &words,
        &PKCS7,
        signature,
        lists,
    ]
    .concat()
}

fn entries(bytes: &[u8], kind: [u8; 16]) -> Vec<Vec<u8>> {
    let lists = SignatureLists::parse(bytes).unwrap();
    lists.entries(kind).map(<[u8]>::to_vec).collect()
}

#[test]
fn lists_are_read_with_a_signature_in_front_and_without() {
    let bytes = [
        list(X509, &[b"mine"]),
        list(SHA256, &[&[1; 32], &[2; 32]]),
        list(X509, &[b"yours"]),
    ]
    .concat();
    for bytes in [bytes.clone(), signed(&bytes)] {
        assert_eq!(entries(&bytes, X509), [b"mine".to_vec(), b"yours".to_vec()]);
        assert_eq!(entries(&bytes, SHA256), [[1; 32], [2; 32]]);
        let lists = SignatureLists::parse(&bytes).unwrap();
        let entry = [&OWNER[..], b"yours"].concat();
        assert_eq!(lists.of_certificate(b"yours"), Some(&entry[..]));
        assert_eq!(lists.of_certificate(b"theirs"), None);
    }
    assert_eq!(
        SignatureLists::parse(b"").unwrap(),
        SignatureLists::default()
    );
}

#[test]
fn what_is_there_already_is_not_added() {
    let added = |value: &[u8], update: &[u8]| {
        let update = SignatureLists::parse(update).unwrap();
        update.added_to(value).unwrap()
    };
    let (mine, hashes) = (list(X509, &[b"mine"]), list(SHA256, &[&[1; 32], &[2; 32]]));
    let value = [mine.clone(), hashes.clone()].concat();
    assert_eq!(added(&value, &signed(&hashes)), value);
    assert_eq!(added(&value, b""), value);
    assert_eq!(added(b"", &mine), mine);
    // Of a list, what is new in it.
    let more = list(SHA256, &[&[2; 32], &[3; 32]]);
    let three = list(SHA256, &[&[3; 32]]);
    assert_eq!(added(&value, &more), [value.clone(), three].concat());
    // The same bytes as an entry of another kind are another entry.
    let other = list([7; 16], &[b"mine"]);
    assert_eq!(added(&value, &other), [value.clone(), other].concat());
}

#[test]
fn what_is_cut_or_altered_is_refused_and_never_read_past_its_end() {
    let whole = [list(X509, &[b"mine"]), list(SHA256, &[&[1; 32]])].concat();
    for bytes in [whole.clone(), signed(&whole)] {
        let good = |bytes: &[u8]| SignatureLists::parse(bytes).map(|_| ());
        assert_eq!(good(&bytes), Ok(()));
        // A cut between lists leaves lists.
        let ends = [0, HEAD_LEN + OWNER_LEN + 4].map(|end| bytes.len() - whole.len() + end);
        for len in (0..bytes.len()).filter(|len| *len != 0 && !ends.contains(len)) {
            let refusal = good(&bytes[..len]).unwrap_err();
            assert_eq!(refusal.check, Check::Encoding, "{len} bytes");
        }
        for at in 0..bytes.len() {
            for with in [0, 1, 0x7f, 0xff] {
                let mut altered = bytes.clone();
                altered[at] = with;
                drop(SignatureLists::parse(&altered));
            }
        }
    }
    let empty = [
        &X509[..],
        &28_u32.to_le_bytes(),
        &[0; 4],
        &20_u32.to_le_bytes(),
    ]
    .concat();
    let said = |bytes: &[u8]| SignatureLists::parse(bytes).unwrap_err().to_string();
    assert_eq!(
        said(&empty),
        "check encoding: signature list: a list has no entries"
    );
    let short = [
        &X509[..],
        &27_u32.to_le_bytes(),
        &[0; 4],
        &20_u32.to_le_bytes(),
    ]
    .concat();
    assert_eq!(
        said(&short),
        "check encoding: signature list: a list is shorter than its head"
    );
    let long = vec![0; LISTS_LEN_MAX + 1];
    assert!(said(&long).contains("expected at most"));
}
