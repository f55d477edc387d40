// SPDX-License-Identifier: Apache-2.0
//! The index of requests: bytes that come back as they were, and those that nobody of ours wrote.

use super::*;

fn keys(fill: u8) -> RequestKeys {
    RequestKeys::of(&Secret::new(vec![fill; 32])).unwrap()
}

fn add(uuid: u8, key: u8) -> Request {
    Request {
        uuid: Uuid::from_bytes([uuid; 16]),
        wish: Wish::Add(RecoveryKey::from_bytes(&[key; 32]).unwrap()),
    }
}

fn remove(uuid: u8, keyslot: u8) -> Request {
    Request {
        uuid: Uuid::from_bytes([uuid; 16]),
        wish: Wish::Remove(keyslot),
    }
}

fn rotate(uuid: u8, rotation: Rotation) -> Request {
    Request {
        uuid: Uuid::from_bytes([uuid; 16]),
        wish: Wish::Rotate(rotation),
    }
}

fn some() -> Requests {
    let mut requests = Requests::default();
    for request in [add(1, 7), remove(2, 5), add(1, 8)] {
        requests.push(request).unwrap();
    }
    requests
}

#[test]
fn requests_fit_an_index_of_512_bytes_and_come_back_as_they_were() {
    const { assert!(REQUESTS_LEN <= 512) };
    let bytes = some().encode(&keys(1)).unwrap();
    assert_eq!(bytes.len(), REQUESTS_LEN);
    let back = Requests::parse(&bytes, &keys(1)).unwrap();
    assert_eq!(back.content(), some().content());
    let its: Vec<&Wish> = back.of(Uuid::from_bytes([1; 16])).collect();
    assert!(matches!(its[..], [Wish::Add(_), Wish::Add(_)]));
    assert!(matches!(
        back.of(Uuid::from_bytes([2; 16])).next(),
        Some(Wish::Remove(5))
    ));
    // As programs that know of no rotation read and write it.
    assert_eq!(bytes[8], 1);
    let none = Requests::default().encode(&keys(1)).unwrap();
    assert!(Requests::parse(&none, &keys(1)).unwrap().is_empty());
}

#[test]
fn rotations_are_written_so_that_an_older_program_says_what_it_does_not_know() {
    let mut requests = some();
    requests.push(rotate(1, Rotation::Seal)).unwrap();
    requests.push(rotate(3, Rotation::Secret)).unwrap();
    let bytes = requests.encode(&keys(1)).unwrap();
    assert_eq!(bytes[8], 2);
    let mut back = Requests::parse(&bytes, &keys(1)).unwrap();
    assert_eq!(back.content(), requests.content());
    assert!(matches!(
        back.of(Uuid::from_bytes([3; 16])).next(),
        Some(Wish::Rotate(Rotation::Secret))
    ));
    assert!(matches!(
        back.of(Uuid::from_bytes([1; 16])).last(),
        Some(Wish::Rotate(Rotation::Seal))
    ));
    // Each version has its own requests.
    let mut content = requests.content();
    content[8] = 1;
    let error = Requests::of_content(&content).unwrap_err().to_string();
    assert_eq!(error, "the index of requests: a request is damaged");
    assert!(back.retain(|request| !matches!(request.wish, Wish::Rotate(_))));
    assert_eq!(back.content(), some().content());
}

#[test]
fn a_ninth_request_is_refused_and_one_that_is_taken_out_makes_room() {
    let mut requests = Requests::default();
    for number in 0..8 {
        requests.push(add(number, number)).unwrap();
    }
    assert!(requests.push(add(9, 9)).is_err());
    assert!(requests.retain(|request| request.uuid != Uuid::from_bytes([3; 16])));
    assert!(!requests.retain(|_| true));
    requests.push(add(9, 9)).unwrap();
}

#[test]
fn what_this_node_did_not_write_is_refused() {
    let good = some().encode(&keys(1)).unwrap();
    let refusal = |bytes: &[u8]| Requests::parse(bytes, &keys(1)).unwrap_err().to_string();
    Requests::parse(&good, &keys(1)).unwrap();
    let foreign = "the index of requests: it was not written by this node";
    assert_eq!(refusal(&some().encode(&keys(2)).unwrap()), foreign);
    for at in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        assert_eq!(refusal(&bytes), foreign, "bit {at}");
    }
    for len in 0..good.len() {
        assert!(Requests::parse(&good[..len], &keys(1)).is_err());
    }
}

/// For whoever can make the HMAC each bit means something as well.
#[test]
fn every_bit_of_the_content_means_something() {
    let good = some().content();
    let mut rotating = some();
    rotating.push(rotate(2, Rotation::Secret)).unwrap();
    for good in [&good, &rotating.content()] {
        for at in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            if let Ok(read) = Requests::of_content(&bytes) {
                assert_eq!(read.content(), bytes, "bit {at}");
            }
        }
    }
    let mut bytes = good.clone();
    bytes[8] = 3;
    assert_eq!(
        Requests::of_content(&bytes).unwrap_err().to_string(),
        "the index of requests: it was written by another version of nightlatch"
    );
    let mut bytes = good;
    // Keyslot 0 of the second request.
    bytes[HEAD_LEN + ENTRY_LEN + 1] = 0;
    assert_eq!(
        Requests::of_content(&bytes).unwrap_err().to_string(),
        "the index of requests: a request is damaged"
    );
}

/// Expected values: Python's `hmac`, written out as RFC 5869 has it.
#[test]
fn what_follows_from_the_records_value_equals_the_vectors() {
    let keys = RequestKeys::of(&Secret::new((0..32).collect())).unwrap();
    assert_eq!(
        hex::encode(keys.auth.expose()),
        "775295969b276f42c3e1899c3c2a3587fecf590a86c7cb9d309ed1948588afb9"
    );
    assert_eq!(
        hex::encode(keys.mac.expose()),
        "294a29c79f522fd25b39431bb469d501e10368572f216c8c05b3ad679c8ea6cb"
    );
}
