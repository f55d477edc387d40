// SPDX-License-Identifier: Apache-2.0
//! The secret changed for another one that the node drew, or sealed anew: what may change in the header, and a boot that is cut
//! off while the request for it stays.

use base64ct::{Base64, Encoding};

use super::super::fixture::{Fixture, put, seal, stamp};
use super::super::{Area, Candidate, SlotPair};
use super::copies::{identified, key, ours, signed};
use super::cuts::every_cut;
use super::pairs::whole;

/// What libcryptsetup makes of `old`, whose secret is the node's own, if `fill` is the key material in the other pair.
fn changed(old: &Candidate, fill: u8) -> Area {
    let (from, to) = (old.checked.pair.unwrap(), old.checked.pair.unwrap().other());
    let token = old.checked.nightlatch.as_ref().unwrap();
    let epoch = match token.nonce {
        Some(nonce) => format!(
            r#""epoch":"{}","nonce":"{}""#,
            token.epoch,
            hex::encode(nonce.bytes())
        ),
        None => format!(r#""epoch":"{}""#, token.epoch),
    };
    let fixture = match to {
        SlotPair::First => Fixture::ours(),
        SlotPair::Second => Fixture::rekeyed(),
    };
    let mac = Base64::encode_string(&token.mac);
    let fixture = identified(&fixture.with_own_secret())
        .with("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", &mac)
        .with(r#""epoch":"7""#, &epoch);
    let mut area = fixture.build();
    for start in [0, 16_384] {
        put(&mut area, start + 16, &(old.seqid + 6).to_be_bytes());
    }
    seal(&mut area);
    area[from.area()].fill(0);
    area[to.area()].fill(fill);
    Area::from_vec(area).unwrap()
}

#[test]
fn a_rotated_secret_is_still_the_nodes_own_and_goes_back_and_forth() {
    let first = signed(&Fixture::ours().with_own_secret());
    let area = changed(&first, 0x66);
    // The header says whose it is, and it has to be what was meant.
    assert!(first.rekeyed(&area, false).is_err());
    let second = first.rekeyed(&area, true).unwrap();
    let second = second.renewed(stamp(8, 1), &key()).unwrap().written();
    second.authenticate(&key()).unwrap();
    assert_eq!(second.checked.keyslots, [2, 3]);
    let third = second.rekeyed(&changed(&second, 0x77), true).unwrap();
    let third = third.renewed(stamp(9, 2), &key()).unwrap().written();
    third.authenticate(&key()).unwrap();
    assert_eq!(third.checked.keyslots, [0, 1]);
    let token = |it: &Candidate| it.checked.nightlatch.clone().unwrap();
    assert!(token(&third).own_secret);
    assert_eq!(
        (
            token(&first).salt,
            token(&first).key_id,
            token(&first).evidence
        ),
        (
            token(&third).salt,
            token(&third).key_id,
            token(&third).evidence
        )
    );
}

/// The newest genuine header: each has its secret sealed, so the TPM opens every one.
fn taken(disk: &[u8]) -> Option<Candidate> {
    let good = ours(disk.to_vec()).unwrap();
    let genuine = good
        .into_iter()
        .filter(|it| it.authenticate(&key()).is_ok());
    let epoch = |it: &Candidate| it.checked.nightlatch.as_ref().unwrap().epoch;
    // Of the same epoch it is the first one, as the boot has it.
    genuine.reduce(|best, it| if epoch(&best) < epoch(&it) { it } else { best })
}

/// What the next boot writes, which the request stands before.
fn next_boot(disk: &[u8], fill: u8, nonce: u8) -> Candidate {
    let found = taken(disk).expect("nothing opens it");
    let epoch = found.checked.nightlatch.as_ref().unwrap().epoch + 1;
    let base = found.rekeyed(&changed(&found, fill), true).unwrap();
    base.renewed(stamp(epoch, nonce), &key()).unwrap()
}

/// A power cut at every write of a rotation, torn writes among them, and then one at every write of the boot after it, which rotates
/// once more, as the request is still there: something always opens the volume, and the boot that is let finish leaves one secret.
#[test]
fn a_rotation_that_is_cut_anywhere_is_finished_by_the_next_boot() {
    let old = signed(&Fixture::ours().with_own_secret());
    let mut ends = [0, 0];
    for damaged in [None, Some(0), Some(16_384)] {
        let mut disk = whole(&old)[..2 << 20].to_vec();
        if let Some(at) = damaged {
            disk[at] ^= 1;
        }
        let first = next_boot(&disk, 0x66, 1);
        for (index, cut) in every_cut(&disk, &first.steps()).into_iter().enumerate() {
            let second = next_boot(&cut, 0x77, 2);
            let mut disks = every_cut(&cut, &second.steps());
            let end = disks.pop().unwrap();
            // Some of the cuts in the second boot too, in turn.
            for twice in disks.iter().skip(index % 11).step_by(11) {
                assert!(taken(twice).is_some());
            }
            let last = ours(end.clone()).unwrap();
            assert_eq!(last.len(), 1);
            assert!(!last[0].needs_repair());
            last[0].authenticate(&key()).unwrap();
            assert!(last[0].checked.nightlatch.as_ref().unwrap().own_secret);
            let pair = last[0].checked.pair.unwrap();
            assert!(end[pair.area()].iter().all(|byte| *byte == 0x77));
            assert!(end[pair.other().area()].iter().all(|byte| *byte == 0));
            ends[usize::from(pair == SlotPair::First)] += 1;
        }
    }
    // The second boot found the old header, and the new one.
    assert!(ends.iter().all(|ends| *ends >= 20), "{ends:?}");
}
