// SPDX-License-Identifier: Apache-2.0
//! Copies that differ, and what tells a genuine header: rules B6, D15 and D16.

use base64ct::{Base64, Encoding};

use super::super::fixture::{Fixture, put, seal, stamp, unnamed};
use super::super::{AREA_LEN, Area, Candidate, Expect, NightlatchToken, Step};
use super::{UUID, contiguous, refusal};
use crate::config::Profile;
use crate::error::Result;
use crate::key::{Secret, volume_key_id};

pub(super) fn key() -> Secret {
    Secret::new(vec![3; 96])
}

/// A header of ours with the id of [`key`] and its MAC.
fn genuine() -> Candidate {
    signed(&Fixture::ours())
}

/// A header with the id of [`key`] and its MAC.
pub(super) fn signed(fixture: &Fixture) -> Candidate {
    let fixture = identified(fixture);
    fixture.area().sign(&Expect::default(), &key()).unwrap()
}

/// A header with the id of [`key`].
pub(super) fn identified(fixture: &Fixture) -> Fixture {
    let id = Base64::encode_string(&volume_key_id(&key(), UUID).unwrap());
    fixture.with("QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=", &id)
}

fn candidates(area: Vec<u8>, profile: Profile) -> Result<Vec<Candidate>> {
    let mut area = area;
    area.resize(AREA_LEN, 0);
    let area = Area::from_vec(area).unwrap();
    area.copies()?.check(&area, profile, &Expect::default())
}

pub(super) fn ours(area: Vec<u8>) -> Result<Vec<Candidate>> {
    candidates(area, Profile::Nightlatch1)
}

fn only(area: Vec<u8>) -> Candidate {
    let mut good = ours(area).unwrap();
    assert_eq!(good.len(), 1);
    good.remove(0)
}

#[test]
fn rule_d16_no_byte_of_header_or_keyslots_changes_unnoticed() {
    let good = genuine();
    good.authenticate(&key()).unwrap();
    let json = contiguous(&good)
        .windows(4)
        .position(|at| at == b"g5Ej")
        .unwrap();
    let digest = contiguous(&good)
        .windows(4)
        .position(|at| at == b"wC4I")
        .unwrap();
    // Sequence number, a salt, a digest, the volume's own salt, and key material of both keyslots.
    for (at, byte) in [
        (23, 9),
        (json, b'h'),
        (digest, b'x'),
        (32_768, 1),
        (417_792, 1),
        (801_791, 1),
    ] {
        let mut bytes = contiguous(&good);
        bytes[at] = byte;
        if at < 16384 {
            bytes[16384 + at] = byte;
        }
        seal(&mut bytes);
        assert_eq!(
            refusal(only(bytes).authenticate(&key())),
            "rule D16: token nightlatch: mac: expected the MAC this volume's key makes over its header, found another; \
             attach the disk as this machine left it, or blank it and restore the data from a backup",
            "byte {at}"
        );
    }
    let other = Secret::new(vec![4; 96]);
    assert!(refusal(good.authenticate(&other)).starts_with("rule D16: "));
}

#[test]
fn rule_d15_the_id_in_the_header_is_that_of_the_volume_key() {
    genuine().authenticate(&key()).unwrap();
    // Only who has the key can make this: the MAC is right, the id is not.
    let wrong = Fixture::ours().area().sign(&Expect::default(), &key());
    assert_eq!(
        refusal(wrong.unwrap().authenticate(&key())),
        "rule D15: token nightlatch: volume-key-id: expected the id of this volume's key, found another; \
         attach the disk as this machine left it, or blank it and restore the data from a backup"
    );
}

#[test]
fn a_renewed_header_differs_in_epoch_sequence_number_and_mac_alone() {
    let old = genuine();
    let new = old.renewed(unnamed(10), &key()).unwrap();
    new.authenticate(&key()).unwrap();
    let (before, after) = (&old.checked.nightlatch, &new.checked.nightlatch);
    let (before, after) = (before.clone().unwrap(), after.clone().unwrap());
    assert_eq!((before.epoch, after.epoch), (7, 10));
    assert_eq!((old.seqid, new.seqid), (3, 4));
    assert_ne!(before.mac, after.mac);
    let expected = NightlatchToken {
        epoch: 10,
        mac: after.mac,
        ..before
    };
    assert_eq!(after, expected);
    assert_eq!(contiguous(&old)[32_768..], contiguous(&new)[32_768..]);
    assert!(!only(contiguous(&new)).needs_repair());
    // Back again, but for the sequence number: nothing else moved.
    let back = new.renewed(unnamed(7), &key()).unwrap();
    assert_eq!(back.checked.uuid, old.checked.uuid);
    assert!(old.renewed(unnamed(u64::MAX >> 1), &key()).is_ok());
}

/// A header of before gets a place for the nonce, which stays.
#[test]
fn the_nonce_of_the_boot_that_renews_a_header_is_under_its_mac() {
    let old = genuine();
    let first = old.renewed(stamp(8, 1), &key()).unwrap();
    let second = first.renewed(stamp(100, 2), &key()).unwrap();
    for (candidate, expected) in [(&first, stamp(8, 1)), (&second, stamp(100, 2))] {
        candidate.authenticate(&key()).unwrap();
        let token = candidate.checked.nightlatch.clone().unwrap();
        assert_eq!(token.stamp(), expected);
        assert!(!only(contiguous(candidate)).needs_repair());
    }
    assert!(second.renewed(unnamed(101), &key()).is_err());
    let mut token = second.checked.nightlatch.unwrap();
    token.mac = first.checked.nightlatch.as_ref().unwrap().mac;
    token.epoch = 8;
    token.nonce = stamp(8, 1).nonce;
    assert_eq!(first.checked.nightlatch, Some(token));
}

#[test]
fn a_renewal_cut_at_any_write_leaves_a_genuine_header() {
    let old = genuine();
    for damaged in [None, Some(0), Some(16_384)] {
        let mut disk = contiguous(&old);
        if let Some(at) = damaged {
            disk[at] ^= 1;
        }
        let found = only(disk.clone());
        assert_eq!(found.needs_repair(), damaged.is_some());
        let new = found.renewed(stamp(8, 1), &key()).unwrap();
        for step in new.steps() {
            let Step::Write(offset, copy) = step else {
                panic!("{step:?}")
            };
            let at = usize::try_from(offset).unwrap();
            // The binary part alone, whose checksum is that of metadata not yet there; then all of it.
            for len in [4096, copy.len()] {
                put(&mut disk, at, &copy[..len]);
                let good = ours(disk.clone()).unwrap();
                let genuine = good.iter().filter(|one| one.authenticate(&key()).is_ok());
                assert!(
                    genuine.count() >= 1,
                    "{damaged:?}, copy at {at}, {len} bytes"
                );
            }
        }
        assert!(disk == contiguous(&new), "{damaged:?}");
    }
}

#[test]
fn rule_b6_copies_that_differ_are_candidates_in_our_profile_only() {
    let old = genuine();
    let new = old.renewed(stamp(8, 1), &key()).unwrap();
    let mut disk = contiguous(&old);
    disk[16_384..32_768].copy_from_slice(&contiguous(&new)[16_384..32_768]);
    let good = ours(disk).unwrap();
    let seqids: Vec<u64> = good.iter().map(|one| one.seqid).collect();
    assert_eq!(seqids, [4, 3]);
    assert_eq!(contiguous(&good[0]), contiguous(&new));
    assert_eq!(contiguous(&good[1]), contiguous(&old));

    let strict = |disk| candidates(disk, Profile::Luks2Strict);
    let stock = Fixture::strict().build();
    assert_eq!(strict(stock.clone()).unwrap().len(), 1);
    let mut later = stock.clone();
    later[16_384 + 23] = 4;
    seal(&mut later);
    assert_eq!(
        refusal(strict(later)),
        "rule B6: secondary header: seqid: expected 3, found 4"
    );
    let mut damaged = stock;
    damaged[16_384 + 23] = 4;
    assert!(refusal(strict(damaged)).starts_with("rule B5: secondary header: csum: "));
}

#[test]
fn a_copy_that_breaks_the_template_is_no_candidate() {
    let good = genuine();
    let mut disk = contiguous(&good);
    let evil = Fixture::ours().with(r#""crypt""#, r#""linear""#).build();
    disk[..16_384].copy_from_slice(&evil[..16_384]);
    assert_eq!(contiguous(&only(disk.clone())), contiguous(&good));
    disk[16_384..32_768].copy_from_slice(&evil[16_384..32_768]);
    assert_eq!(
        refusal(ours(disk)),
        "rule C10: segments.0.type: expected \"crypt\", found \"linear\""
    );
}
