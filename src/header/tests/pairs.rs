// SPDX-License-Identifier: Apache-2.0
//! Two pairs of keyslots, of which a header uses one: rule C11, and the change from one to the other.

use base64ct::{Base64, Encoding};

use super::super::fixture::{Fixture, put, seal, stamp};
use super::super::{AREA_LEN, Area, Candidate, SlotPair, Step};
use super::copies::{identified, key, ours, signed};
use super::cuts::every_cut;
use super::rules::{check, refused};
use super::{contiguous, refusal};
use crate::config::Profile;

/// The whole area of a header, zeros at its end too.
pub(super) fn whole(header: &Candidate) -> Vec<u8> {
    let mut bytes = contiguous(header);
    bytes.resize(AREA_LEN, 0);
    bytes
}

/// A volume without a TPM after its secret was changed.
fn plain_rekeyed() -> Fixture {
    Fixture::plain()
        .with(r#"{"keyslots":{"0":{"#, r#"{"keyslots":{"2":{"#)
        .with(r#""32768""#, r#""802816""#)
        .with(r#""keyslots":["0"]"#, r#""keyslots":["2"]"#)
}

#[test]
fn rule_c11_a_header_uses_one_pair_of_keyslots() {
    for (fixture, pair, tpm) in [
        (Fixture::ours(), SlotPair::First, Some(1)),
        (Fixture::plain(), SlotPair::First, None),
        (Fixture::rekeyed(), SlotPair::Second, Some(3)),
        (plain_rekeyed(), SlotPair::Second, None),
    ] {
        let checked = check(&fixture, Profile::Nightlatch1).unwrap();
        assert_eq!(checked.pair, Some(pair));
        assert_eq!(checked.secret_keyslot(), pair.secret());
        assert_eq!(checked.tpm.map(|token| token.keyslot), tpm);
    }
    let expected = "rule C11: keyslots: expected [0], [0, 1], [2] or [2, 3], found ";
    let two = |first: &str, second: &str| {
        Fixture::ours()
            .with(
                r#"{"keyslots":{"0":{"#,
                &format!(r#"{{"keyslots":{{"{first}":{{"#),
            )
            .with(
                r#""1":{"type":"luks2""#,
                &format!(r#""{second}":{{"type":"luks2""#),
            )
    };
    for (first, second, found) in [
        ("0", "3", "[0, 3]"),
        ("2", "1", "[1, 2]"),
        ("0", "2", "[0, 2]"),
        ("1", "3", "[1, 3]"),
    ] {
        let refusal = refusal(check(&two(first, second), Profile::Nightlatch1));
        assert_eq!(refusal, format!("{expected}{found}"));
    }
    // Both pairs at once: whole, each in its place, and still one too many.
    let (ours, rekeyed) = (Fixture::ours(), Fixture::rekeyed());
    let slots = |fixture: &Fixture| {
        let (_, rest) = fixture.json.split_once(r#"{"keyslots":{"#).unwrap();
        let (slots, _) = rest.split_once(r#"},"tokens""#).unwrap();
        slots.to_owned()
    };
    let both = ours
        .with(
            &slots(&ours),
            &format!("{},{}", slots(&ours), slots(&rekeyed)),
        )
        .with(r#""keyslots":["0","1"]"#, r#""keyslots":["0","1","2","3"]"#);
    assert_eq!(
        refusal(check(&both, Profile::Nightlatch1)),
        format!("{expected}[0, 1, 2, 3]")
    );
}

#[test]
fn rule_c11_each_keyslot_has_a_place_of_its_own() {
    refused(
        &Fixture::rekeyed(),
        Profile::Nightlatch1,
        &[
            (
                r#""802816""#,
                r#""32768""#,
                "rule C11: keyslots.2.area.offset: expected 802816, found 32768",
            ),
            (
                r#""1187840""#,
                r#""417792""#,
                "rule C11: keyslots.3.area.offset: expected 1187840, found 417792",
            ),
            (
                r#""1187840""#,
                r#""1572864""#,
                "rule C11: keyslots.3.area.offset: expected 1187840, found 1572864",
            ),
            (
                r#""keyslots":["3"]"#,
                r#""keyslots":["2"]"#,
                "rule C13: keyslot of token \"systemd-tpm2\": expected Some(3), found Some(2)",
            ),
        ],
    );
    refused(
        &Fixture::ours(),
        Profile::Nightlatch1,
        &[(
            r#""32768""#,
            r#""802816""#,
            "rule C11: keyslots.0.area.offset: expected 32768, found 802816",
        )],
    );
}

#[test]
fn rule_c11_only_the_places_of_other_keyslots_may_have_something_in_them() {
    let (first, second) = (SlotPair::First.area(), SlotPair::Second.area());
    let recovery_end = 2_342_912;
    for (fixture, other, strays) in [
        (
            Fixture::ours(),
            second.clone(),
            vec![recovery_end, 8 << 20, AREA_LEN - 4097],
        ),
        (
            Fixture::rekeyed(),
            first.clone(),
            vec![recovery_end, 8 << 20, AREA_LEN - 4097],
        ),
        (
            Fixture::ours().with_recovery(&[5]),
            second.clone(),
            vec![recovery_end, 8 << 20],
        ),
        // The place of the TPM's keyslot that this one does not have is no other pair's.
        (
            Fixture::plain(),
            second.clone(),
            vec![417_792, second.start - 1],
        ),
        (plain_rekeyed(), first, vec![1_187_840, second.end - 1]),
    ] {
        let good = signed(&fixture);
        assert!(!good.has_leftover() && !good.needs_repair());
        let disk = whole(&good);
        for at in [other.start, other.end - 1] {
            let mut disk = disk.clone();
            disk[at] = 7;
            let [found] = <[Candidate; 1]>::try_from(ours(disk).unwrap()).unwrap();
            assert!(found.has_leftover() && found.needs_repair());
            // The MAC is not over it, and nobody is given it to read.
            found.authenticate(&key()).unwrap();
            assert!(contiguous(&found) == contiguous(&good));
            let renewed = found.renewed(stamp(8, 1), &key()).unwrap();
            let last = renewed.steps().pop();
            assert_eq!(last, Some(Step::Clear(other.clone())));
        }
        for at in strays {
            let mut disk = disk.clone();
            disk[at] = 7;
            assert_eq!(
                refusal(ours(disk)),
                format!(
                    "rule C11: keyslots area: expected zeros outside the keyslots, found something at byte {at}"
                )
            );
        }
    }
}

/// What libcryptsetup makes of `old`, a header that uses the first pair, if `fill` is the new key material.
fn changed(old: &Candidate, fill: u8) -> Area {
    let token = old.checked.nightlatch.as_ref().unwrap();
    let mac = Base64::encode_string(&token.mac);
    let epoch = format!(r#""epoch":"{}""#, token.epoch);
    let fixture = identified(&Fixture::rekeyed())
        .with("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", &mac)
        .with(r#""epoch":"7""#, &epoch);
    let mut area = fixture.build();
    for start in [0, 16_384] {
        put(&mut area, start + 16, &(old.seqid + 6).to_be_bytes());
    }
    seal(&mut area);
    area[SlotPair::Second.area()].fill(fill);
    Area::from_vec(area).unwrap()
}

#[test]
fn a_header_that_was_rekeyed_changed_in_nothing_else() {
    let old = signed(&Fixture::ours().with_own_secret());
    assert!(old.checked.nightlatch.as_ref().unwrap().own_secret);
    let good = changed(&old, 0x66);
    let new = old
        .rekeyed(&good, false)
        .unwrap()
        .renewed(stamp(8, 1), &key())
        .unwrap();
    new.authenticate(&key()).unwrap();
    assert_eq!(new.checked.keyslots, [2, 3]);
    let (before, after) = (old.checked.nightlatch.clone(), new.checked.nightlatch);
    let (before, after) = (before.unwrap(), after.unwrap());
    assert_eq!((before.salt, before.key_id), (after.salt, after.key_id));
    assert_eq!((before.evidence, after.epoch), (after.evidence, 8));
    assert!(!after.own_secret);
    let with = |from: &str, to: &str| {
        let text = String::from_utf8(good.bytes()[4096..16_384].to_vec()).unwrap();
        let text = text.trim_end_matches('\0').replacen(from, to, 1);
        let mut area = good.bytes().to_vec();
        for start in [0, 16_384] {
            area[start + 4096..start + 16_384].fill(0);
            put(&mut area, start + 4096, text.as_bytes());
        }
        seal(&mut area);
        Area::starting_with(area).unwrap()
    };
    for (from, to) in [
        (r#""volume":"data""#, r#""volume":"date""#),
        (r#""epoch":"7""#, r#""epoch":"9""#),
        (r#""epoch":"7""#, r#""own-secret":true,"epoch":"7""#),
        ("ICEiIyQl", "ICEiIyQm"),
    ] {
        let error = old.rekeyed(&with(from, to), false).unwrap_err().to_string();
        assert_eq!(
            error,
            "re-keying changed more of the header than its keyslots"
        );
    }
    // The same header once more is no change at all.
    assert!(old.rekeyed(&old.area().unwrap(), true).is_err());
}

/// The header a boot takes: the newest genuine one whose keyslots one of these secrets opens.
fn taken(disk: &[u8], secrets: &[SlotPair]) -> Option<Candidate> {
    let good = ours(disk.to_vec()).unwrap();
    let mut good: Vec<Candidate> = good
        .into_iter()
        .filter(|one| one.authenticate(&key()).is_ok())
        .filter(|one| secrets.contains(&one.checked.pair.unwrap()))
        .collect();
    let epoch = |one: &Candidate| one.checked.nightlatch.as_ref().unwrap().epoch;
    // Of the same epoch it is the first one, as the boot has it.
    good.sort_by_key(|one| std::cmp::Reverse(epoch(one)));
    good.into_iter().next()
}

/// What the next boot writes: with the service in reach the volume gets its secret, if it has not got it.
fn next_boot(disk: &[u8], in_reach: bool, fill: u8) -> Candidate {
    let by_service = in_reach.then(|| taken(disk, &[SlotPair::Second])).flatten();
    let found = by_service.or_else(|| taken(disk, &[SlotPair::First, SlotPair::Second]));
    let found = found.expect("no secret opens it");
    let epoch = found.checked.nightlatch.as_ref().unwrap().epoch + 1;
    let base = match found.checked.pair.unwrap() {
        SlotPair::First if in_reach => found.rekeyed(&changed(&found, fill), false).unwrap(),
        SlotPair::First | SlotPair::Second => found,
    };
    base.renewed(stamp(epoch, 1), &key()).unwrap()
}

/// A power cut at every write of a change of the secret, torn writes among them, and then one at every write of the boot
/// after it: the old or the new secret always opens the volume, and the boot that is let finish leaves nothing over.
#[test]
fn a_change_of_the_secret_that_is_cut_anywhere_is_finished_by_the_next_boot() {
    let old = signed(&Fixture::ours().with_own_secret());
    let mut ends = 0;
    for damaged in [None, Some(0), Some(16_384)] {
        let mut disk = whole(&old)[..2 << 20].to_vec();
        if let Some(at) = damaged {
            disk[at] ^= 1;
        }
        let first = next_boot(&disk, true, 0x66);
        for (index, cut) in every_cut(&disk, &first.steps()).into_iter().enumerate() {
            for in_reach in [true, false]
                .into_iter()
                .filter(|in_reach| *in_reach || damaged.is_none())
            {
                let second = next_boot(&cut, in_reach, 0x77);
                let mut disks = every_cut(&cut, &second.steps());
                let end = disks.pop().unwrap();
                // Some of the cuts in the second boot too, in turn.
                for twice in disks.iter().skip(index % 11).step_by(11) {
                    assert!(taken(twice, &[SlotPair::First, SlotPair::Second]).is_some());
                }
                let last = ours(end).unwrap();
                assert_eq!(last.len(), 1);
                assert!(!last[0].needs_repair());
                last[0].authenticate(&key()).unwrap();
                if in_reach {
                    assert_eq!(last[0].checked.pair, Some(SlotPair::Second));
                }
                ends += 1;
            }
        }
    }
    assert!(ends >= 80, "only {ends} cuts");
}
