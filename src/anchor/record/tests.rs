// SPDX-License-Identifier: Apache-2.0
//! The record's forms: what each says, byte for byte, and what is refused.

use super::*;
use crate::header::NONCE_LEN;
use crate::key::Secret;

const ENTRY_LEN: usize = 120;
const NAME_LEN: usize = 32;

fn entry(name: &str) -> Entry {
    Entry {
        name: VolumeName::try_from(name.to_owned()).unwrap(),
        uuid: Uuid::from_bytes([7; 16]),
        key_id: KeyId::of(&[9; 32]),
        state: State::Ready,
        level: Level::Epoch,
        acceptance: None,
        checkpoint: None,
        ahead: 0,
        enroll: false,
        away: None,
    }
}

fn auth() -> Secret {
    Secret::new(vec![0xa5; KEY_LEN])
}

fn full() -> Record {
    let mut record = Record {
        nonce: BootNonce::from_bytes([6; NONCE_LEN]),
        ..Record::default()
    };
    for index in 0..ANCHORED_MAX {
        record.set(entry(&format!("volume{index}"))).unwrap();
    }
    let mut third = entry("volume2");
    third.acceptance = Some(Accepted::New);
    third.checkpoint = Some(Checkpoint {
        fsid: [3; 16],
        generation: 12,
    });
    third.state = State::Provisioning;
    third.ahead = -3;
    third.enroll = true;
    third.level = Level::Checkpoint;
    record.set(third).unwrap();
    record
}

#[test]
fn a_record_of_eight_volumes_fits_one_command_and_comes_back_as_it_was() {
    let bytes = full().encode(&auth());
    assert_eq!(bytes.len(), RECORD_LEN);
    const { assert!(RECORD_LEN <= 1024) };
    let (back, its_auth) = Record::parse(&bytes).unwrap();
    assert_eq!(its_auth.expose(), auth().expose());
    assert_eq!(back, full());
    assert_eq!(back.entries().count(), ANCHORED_MAX);
}

#[test]
fn a_ninth_volume_is_refused_and_a_place_that_was_freed_is_taken() {
    let mut record = full();
    let error = record.set(entry("ninth")).unwrap_err().to_string();
    assert!(error.contains("room for 8 volumes"), "{error}");
    assert!(record.remove(&entry("volume4").name));
    assert!(!record.remove(&entry("volume4").name));
    record.set(entry("ninth")).unwrap();
    assert!(record.get(&entry("ninth").name).is_some());
}

/// A boot writes its nonce by itself, and where the program of before left zeros there is none.
#[test]
fn the_nonce_is_all_that_differs_from_a_record_of_before() {
    let mut record = full();
    let bytes = record.encode(&auth());
    record.nonce = None;
    let mut before = record.encode(&auth());
    assert_eq!(Record::parse(&before).unwrap().0, record);
    let at = usize::from(NONCE_OFFSET);
    before[at..at + NONCE_LEN].copy_from_slice(&[6; NONCE_LEN]);
    assert_eq!(*before, *bytes);
}

/// The last form: the third volume is away, and the fourth is not known any more.
fn with_away() -> Record {
    let mut record = full();
    let mut third = record.get(&entry("volume2").name).unwrap().clone();
    third.away = Some(Stamp {
        epoch: 0x0102_0304_0506_0708,
        nonce: BootNonce::from_bytes([8; NONCE_LEN]),
    });
    record.set(third).unwrap();
    let mut fourth = entry("volume3");
    fourth.state = State::Lost;
    record.set(fourth).unwrap();
    record
}

/// Each bit of a record counts: it is refused, or another record, and never panics.
#[test]
fn every_bit_of_a_record_means_something() {
    for whole in [full(), with_away()] {
        let bytes = whole.encode(&auth());
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            if let Ok((record, its_auth)) = Record::parse(&changed) {
                assert_eq!(*record.encode(&its_auth), *changed, "bit {at}");
                assert!(its_auth.expose() != auth().expose() || record != whole);
            }
        }
        for len in 0..bytes.len() {
            assert!(Record::parse(&bytes[..len]).is_err());
        }
    }
}

/// What the program of before wrote for these volumes, with a nonce, and before there were any.
const OF_BEFORE: &[u8] = include_bytes!("../../../tests/fixtures/record/version-1");
const BEFORE_NONCES: &[u8] =
    include_bytes!("../../../tests/fixtures/record/version-1-without-nonce");

#[test]
fn a_record_of_version_1_is_read_goes_on_and_is_written_as_it_was() {
    let mut one = Record::default();
    one.set(entry("state")).unwrap();
    for (bytes, expected) in [(OF_BEFORE, full()), (BEFORE_NONCES, one)] {
        let (record, its_auth) = Record::parse(bytes).unwrap();
        assert_eq!(record, expected);
        assert_eq!(*record.encode(&its_auth), *bytes);
        let mut record = record;
        let known = record.entries().next().unwrap().name.clone();
        record
            .set(Entry {
                acceptance: Some(Accepted::New),
                ..record.get(&known).unwrap().clone()
            })
            .unwrap();
        record.nonce = None;
        let (again, _) = Record::parse(&record.encode(&its_auth)).unwrap();
        assert_eq!(again, record);
        assert_eq!(record.encode(&its_auth)[8], 1);
    }
}

/// What the program of before looked at first, in its order.
fn refused_by_the_program_of_before(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        _ if bytes.len() != 1008 => Some("it has another length"),
        _ if !bytes.starts_with(b"nlanchor") => Some("it is not one of nightlatch"),
        _ if bytes[8] != 1 => Some("it was written by another version of nightlatch"),
        _ => None,
    }
}

#[test]
fn version_2_begins_with_a_volume_that_is_away_and_the_program_of_before_refuses_it() {
    let before = full().encode(&auth());
    assert_eq!(refused_by_the_program_of_before(&before), None);
    let record = with_away();
    let bytes = record.encode(&auth());
    assert_eq!(
        refused_by_the_program_of_before(&bytes),
        Some("it was written by another version of nightlatch")
    );
    let (back, its_auth) = Record::parse(&bytes).unwrap();
    assert_eq!(back, record);
    assert_eq!(its_auth.expose(), auth().expose());
    // When the volume is back, it stays what it is.
    let mut third = record.get(&entry("volume2").name).unwrap().clone();
    third.away = None;
    let mut record = record;
    record.set(third).unwrap();
    assert_eq!(record.encode(&auth())[8], 2);
}

#[test]
fn half_of_a_key_id_is_of_the_keys_that_have_it() {
    let mut record = with_away();
    record.set(entry("volume0")).unwrap();
    let known = record.get(&entry("volume0").name).unwrap().key_id;
    assert_eq!(known.known(), "09".repeat(16));
    assert_eq!(entry("volume0").key_id.known(), "09".repeat(32));
    let mut id = [9; 32];
    assert!(known.is_of(&id));
    id[31] = 8;
    assert!(known.is_of(&id));
    assert!(!entry("volume0").key_id.is_of(&id));
    id[15] = 8;
    assert!(!known.is_of(&id));
}

/// What version 2 has room for is not taken for nothing by a program that does not know it.
#[test]
fn what_a_later_program_may_write_is_refused() {
    let bytes = with_away().encode(&auth());
    for at in (48..72).chain([72 + 112, 72 + 116]) {
        let mut later = bytes.clone();
        later[at] = 1;
        assert!(Record::parse(&later).is_err(), "byte {at}");
    }
}

#[test]
fn two_entries_of_one_name_are_refused() {
    let mut bytes = full().encode(&auth());
    let name: Vec<u8> = bytes[HEAD_LEN..HEAD_LEN + NAME_LEN].to_vec();
    bytes[HEAD_LEN + ENTRY_LEN..HEAD_LEN + ENTRY_LEN + NAME_LEN].copy_from_slice(&name);
    let error = Record::parse(&bytes).unwrap_err().to_string();
    assert_eq!(error, "the anchor's record: two entries have one name");
}
