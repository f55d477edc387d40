// SPDX-License-Identifier: Apache-2.0
//! Recovery keyslots: what form `nightlatch-2` has beside a pair, and their coming and going.

use super::super::fixture::{Fixture, put, seal, stamp};
use super::super::recovery::place;
use super::super::{Area, Candidate, Form, Step};
use super::copies::{identified, key, ours, signed};
use super::cuts::every_cut;
use super::pairs::whole;
use super::rules::{check, refused};
use super::{contiguous, refusal};
use crate::config::Profile;

const OURS: Profile = Profile::Nightlatch1;

#[test]
fn a_header_has_up_to_two_recovery_keyslots_beside_either_pair() {
    for base in [Fixture::ours(), Fixture::rekeyed(), Fixture::plain()] {
        let without = check(&base, OURS).unwrap();
        assert_eq!(without.profile_name(), "nightlatch-1");
        assert!(without.recovery.is_empty());
        for keyslots in [&[4][..], &[5], &[4, 5]] {
            let checked = check(&base.with_recovery(keyslots), OURS).unwrap();
            assert_eq!(checked.profile_name(), "nightlatch-2");
            assert_eq!(checked.recovery, keyslots);
            assert_eq!(checked.pair, without.pair);
            assert_eq!(checked.secret_keyslot(), without.secret_keyslot());
        }
    }
}

#[test]
fn rule_c11_the_form_says_whether_there_are_recovery_keyslots() {
    let second = r#""nightlatch-2""#;
    let first = r#""nightlatch-1""#;
    refused(
        &Fixture::ours().with_recovery(&[4]),
        OURS,
        &[(
            second,
            first,
            "rule C11: keyslots: expected [0], [0, 1], [2] or [2, 3], found [0, 1, 4]",
        )],
    );
    let both = "rule C11: keyslots: expected [0], [0, 1], [2] or [2, 3], and 4, 5 or both beside them, found ";
    refused(
        &Fixture::ours(),
        OURS,
        &[(first, second, &format!("{both}[0, 1]"))],
    );
    let six = Fixture::ours().with_recovery(&[4]);
    let six = six.with(r#""4":{"type""#, r#""6":{"type""#);
    assert_eq!(refusal(check(&six, OURS)), format!("{both}[0, 1, 6]"));
}

#[test]
fn rule_c11_each_recovery_keyslot_has_a_place_of_its_own() {
    refused(
        &Fixture::ours().with_recovery(&[4, 5]),
        OURS,
        &[
            (
                r#""1572864""#,
                r#""802816""#,
                "rule C11: keyslots.4.area.offset: expected 1572864, found 802816",
            ),
            (
                r#""1957888""#,
                r#""2342912""#,
                "rule C11: keyslots.5.area.offset: expected 1957888, found 2342912",
            ),
        ],
    );
    refused(
        &Fixture::ours().with_recovery(&[5]),
        OURS,
        &[(
            r#""1957888""#,
            r#""1572864""#,
            "rule C11: keyslots.5.area.offset: expected 1957888, found 1572864",
        )],
    );
    let cost = r#""1957888","size":"385024","encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"pbkdf2","hash":"sha512","iterations":"#;
    refused(
        &Fixture::ours().with_recovery(&[5]),
        OURS,
        &[(
            &format!("{cost}1000"),
            &format!("{cost}1000000"),
            "rule C11: keyslots.5.kdf.iterations: expected 1000, found 1000000",
        )],
    );
}

#[test]
fn rule_c13_each_recovery_keyslot_has_one_token_and_no_other_keyslot_any() {
    let field = "rule C13: keyslots of tokens \"systemd-recovery\": expected";
    let token = r#","2":{"type":"systemd-recovery","keyslots":["4"]}"#;
    let other = |id: &str| token.replace(r#"["4"]"#, &format!("[\"{id}\"]"));
    let twice = format!("{token}{}", token.replace(r#""2":"#, r#""9":"#));
    refused(
        &Fixture::ours().with_recovery(&[4]),
        OURS,
        &[
            (token, "", &format!("{field} [4], found []")),
            (token, &other("0"), &format!("{field} [4], found [0]")),
            (token, &other("1"), &format!("{field} [4], found [1]")),
            (token, &twice, &format!("{field} [4], found [4, 4]")),
            (
                token,
                &other("5"),
                "rule C13: tokens.2.keyslots: expected a keyslot there is, found 5",
            ),
            (
                token,
                &token.replace(r#"["4"]"#, r#"["4","0"]"#),
                "rule C13: tokens.2.keyslots: expected exactly one keyslot, found an array",
            ),
        ],
    );
    refused(
        &Fixture::ours().with_recovery(&[4, 5]),
        OURS,
        &[(token, &other("5"), &format!("{field} [4, 5], found [5, 5]"))],
    );
}

#[test]
fn rule_d16_the_mac_covers_the_recovery_keyslots() {
    let good = signed(&Fixture::ours().with_recovery(&[4, 5]));
    good.authenticate(&key()).unwrap();
    let disk = whole(&good);
    let only = |disk: Vec<u8>| <[Candidate; 1]>::try_from(ours(disk).unwrap()).unwrap();
    only(disk.clone())[0].authenticate(&key()).unwrap();
    for at in [place(4).start, place(5).start, place(5).start + 383_999] {
        let mut disk = disk.clone();
        disk[at] ^= 1;
        assert!(refusal(only(disk)[0].authenticate(&key())).starts_with("rule D16: "));
    }
    // Each other's key material.
    let mut swapped = disk.clone();
    swapped[place(4)].copy_from_slice(&disk[place(5)]);
    swapped[place(5)].copy_from_slice(&disk[place(4)]);
    assert!(refusal(only(swapped)[0].authenticate(&key())).starts_with("rule D16: "));
    // One that the header does not have is nobody's, and is cleared by the next header.
    let without = signed(&Fixture::ours().with_recovery(&[5]));
    let mut disk = whole(&without);
    disk[place(4).start + 7] = 1;
    let [found] = only(disk);
    found.authenticate(&key()).unwrap();
    assert!(found.has_leftover() && contiguous(&found) == contiguous(&without));
    let renewed = found.renewed(stamp(8, 1), &key()).unwrap();
    assert_eq!(renewed.steps().pop(), Some(Step::Clear(place(4))));
    assert!(!renewed.written().has_leftover());
}

/// What libcryptsetup makes of `old`, so that it has these recovery keyslots.
fn changed(base: &Fixture, old: &Candidate, keyslots: &[u8], fill: u8) -> Area {
    let token = old.checked.nightlatch.as_ref().unwrap();
    let fixture = if keyslots.is_empty() {
        base.clone()
    } else {
        base.with_recovery(keyslots)
    };
    let mut json = String::from_utf8(contiguous(old)[4096..16_384].to_vec()).unwrap();
    json.truncate(json.trim_end_matches('\0').len());
    let stamp = |text: &str| {
        let (_, rest) = text.split_once(r#""epoch""#).unwrap();
        let (stamp, _) = rest.split_once(r#","volume-key-id""#).unwrap();
        stamp.to_owned()
    };
    let mac = |text: &str| text.split_once(r#""mac":""#).unwrap().1[..44].to_owned();
    let fixture = identified(&fixture);
    let (its_stamp, its_mac) = (stamp(&fixture.json), mac(&fixture.json));
    let fixture = fixture
        .with(&its_stamp, &stamp(&json))
        .with(&its_mac, &mac(&json));
    assert!(token.epoch > 0);
    let mut area = fixture.build();
    for start in [0, 16_384] {
        put(&mut area, start + 16, &(old.seqid + 4).to_be_bytes());
    }
    seal(&mut area);
    for id in keyslots {
        // What both have is as it was.
        if old.checked.recovery.contains(id) {
            area[place(*id)].copy_from_slice(old.material_in(&place(*id)));
        } else {
            area[place(*id)].fill(fill);
        }
    }
    Area::from_vec(area).unwrap()
}

#[test]
fn a_header_that_got_or_lost_a_recovery_keyslot_changed_in_nothing_else() {
    let base = Fixture::ours();
    let old = signed(&base);
    let made = changed(&base, &old, &[4], 0x66);
    let next = old.with_recovery(&made, &[4]).unwrap();
    let next = next.renewed(stamp(8, 1), &key()).unwrap();
    next.authenticate(&key()).unwrap();
    assert_eq!(next.checked.nightlatch.as_ref().unwrap().form, Form::Second);
    assert_eq!(next.steps().len(), 6);
    // It has what was asked for.
    for asked in [&[][..], &[5], &[4, 5]] {
        assert!(old.with_recovery(&made, asked).is_err());
    }
    assert!(old.with_recovery(&old.area().unwrap(), &[]).is_err());
    // Another key in the keyslot that was there, and another keyslot of the pair.
    let next = next.written();
    let both = changed(&base, &next, &[4, 5], 0x77);
    assert!(next.with_recovery(&both, &[4, 5]).is_ok());
    for at in [place(4).start, 32_768, 417_792] {
        let mut bytes = both.bytes().to_vec();
        bytes[at] ^= 1;
        let area = Area::starting_with(bytes).unwrap();
        let error = next.with_recovery(&area, &[4, 5]).unwrap_err().to_string();
        assert_eq!(
            error,
            "making a recovery keyslot changed more of the header than that"
        );
    }
    // Without one it is the form of before again.
    let none = next.with_recovery(&changed(&base, &next, &[], 0), &[]);
    let none = none.unwrap().renewed(stamp(9, 1), &key()).unwrap();
    assert_eq!(none.checked.nightlatch.as_ref().unwrap().form, Form::First);
    assert_eq!(none.steps().pop(), Some(Step::Clear(place(4))));
}

fn epoch(header: &Candidate) -> u64 {
    header.checked.nightlatch.as_ref().unwrap().epoch
}

/// The newest genuine header on a disk.
fn newest(disk: &[u8]) -> Candidate {
    let good = ours(disk.to_vec()).unwrap();
    let good = good.into_iter();
    let good = good.filter(|one| one.authenticate(&key()).is_ok());
    good.max_by_key(epoch).expect("no header is genuine")
}

/// A power cut at every write of one that comes or goes, torn writes among them: the boot after it comes to the same end.
#[test]
fn a_change_of_recovery_keyslots_that_is_cut_anywhere_is_finished_by_the_next_boot() {
    let base = Fixture::ours();
    let next_boot = |disk: &[u8], wanted: &[u8]| {
        let found = newest(disk);
        let next = if found.checked.recovery == wanted {
            found.clone()
        } else {
            let made = changed(&base, &found, wanted, 0x66);
            found.with_recovery(&made, wanted).unwrap()
        };
        next.renewed(stamp(epoch(&found) + 1, 1), &key()).unwrap()
    };
    let mut ends = 0;
    for (before, wanted) in [
        (&[][..], &[4][..]),
        (&[4], &[4, 5]),
        (&[4, 5], &[5]),
        (&[5], &[]),
    ] {
        let old = match before {
            [] => signed(&base),
            some => signed(&base.with_recovery(some)),
        };
        let disk = whole(&old)[..3 << 20].to_vec();
        let first = next_boot(&disk, wanted);
        for cut in every_cut(&disk, &first.steps()) {
            let second = next_boot(&cut, wanted);
            let end = every_cut(&cut, &second.steps()).pop().unwrap();
            let [last] = <[Candidate; 1]>::try_from(ours(end).unwrap()).unwrap();
            last.authenticate(&key()).unwrap();
            assert_eq!(last.checked.recovery, wanted);
            assert!(!last.needs_repair());
            ends += 1;
        }
    }
    assert!(ends >= 60, "only {ends} cuts");
}
