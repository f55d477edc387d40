// SPDX-License-Identifier: Apache-2.0
//! The next start after the firmware's keys have changed.

use super::next::{OWNERS, image, unknown, value};
use super::*;
use crate::evidence::fixture::utf16;
use crate::evidence::signature_list::tests::list;
use crate::evidence::signature_list::{SHA256, X509};

/// A start whose firmware has these lists, for which `signer` vouched.
fn with_lists(db: &[u8], dbx: &[u8], signer: &[u8]) -> FirmwareLog {
    let mut log = FirmwareLog::new();
    log.secure_boot(true);
    for (name, value) in [("KEK", &b""[..]), ("db", db), ("dbx", dbx)] {
        let lengths =
            [name.len(), value.len()].map(|len| u64::try_from(len).unwrap().to_le_bytes());
        let units = utf16(name);
        let name = &units[..units.len() - 2];
        let data = [&[0x77; 16][..], &lengths.concat(), name, value].concat();
        log.event(7, 0x8000_0001, &data, &data);
    }
    for pcr in 0..8 {
        log.event(pcr, 4, &[0; 4], &[0; 4]);
    }
    log.authority(signer)
        .program(b"image", "\\EFI\\BOOT\\BOOTX64.EFI");
    log.section(".linux", b"kernel");
    log
}

fn added(list: KeyList, update: &[u8]) -> Changes {
    Changes {
        added: vec![(list, update.to_vec())],
        signer: None,
    }
}

fn signed_by(signer: &[u8]) -> Changes {
    Changes {
        added: Vec::new(),
        signer: Some(signer.to_vec()),
    }
}

/// What follows for an image, which another one is or the one that runs.
fn after(log: &FirmwareLog, program: &[u8], changes: Changes, authorities: &[Vec<u8>]) -> Next {
    let image = NextImage {
        changes,
        ..image(program)
    };
    let parsed = Log::firmware(&log.0).unwrap();
    next(
        &parsed,
        &values_of(log),
        &image,
        OWNERS,
        &required(authorities),
    )
    .unwrap()
}

#[test]
fn what_is_added_to_a_list_is_in_pcr_7_and_what_is_there_already_changes_nothing() {
    let owners = [OWNER.to_vec()];
    let (db, old) = (list(X509, &[OWNER]), list(SHA256, &[&[1; 32]]));
    let log = with_lists(&db, &old, OWNER);
    let now = values_of(&log);
    let more = list(SHA256, &[&[2; 32]]);
    let then = values_of(&with_lists(&db, &[&old[..], &more].concat(), OWNER));
    assert_ne!(then[&7], now[&7]);
    let both = list(SHA256, &[&[1; 32], &[2; 32]]);
    for program in [b"image", b"other"] {
        for (update, expected) in [(&more, &then), (&both, &then), (&old, &now)] {
            let next = after(&log, program, added(KeyList::Dbx, update), &owners);
            assert_eq!(value(&next, 7), expected[&7]);
            assert_eq!(next.unmet, None);
            assert_eq!(value(&next, 4) == now[&4], program == b"image");
        }
    }
    let more = list(X509, &[b"another"]);
    for (which, then) in [
        (KeyList::Kek, None),
        (
            KeyList::Db,
            Some(with_lists(&[&db[..], &more].concat(), &old, OWNER)),
        ),
    ] {
        let next = after(&log, b"other", added(which, &more), &owners);
        assert_ne!(value(&next, 7), now[&7], "{which:?}");
        if let Some(then) = then {
            assert_eq!(value(&next, 7), values_of(&then)[&7]);
        }
    }
}

#[test]
fn who_will_have_signed_vouches_if_db_has_them_and_the_image_lists_them() {
    let another: &[u8] = b"another certificate";
    let db = list(X509, &[OWNER]);
    let both = [&db[..], &list(X509, &[another])].concat();
    let listed = [OWNER.to_vec(), another.to_vec()];
    let log = with_lists(&both, b"", OWNER);
    let next = after(&log, b"other", signed_by(another), &listed);
    assert_eq!(
        value(&next, 7),
        values_of(&with_lists(&both, b"", another))[&7]
    );
    assert_eq!(next.unmet, None);
    let same = after(&log, b"other", signed_by(OWNER), &listed);
    assert_eq!(value(&same, 7), values_of(&log)[&7]);
    let foreign = after(&log, b"other", signed_by(another), &listed[..1]);
    assert!(
        matches!(foreign.unmet, Some(Unmet::ForeignAuthority(_))),
        "{foreign:?}"
    );
    // Not in db yet, and added to it in the same step.
    let log = with_lists(&db, b"", OWNER);
    let next = after(&log, b"other", signed_by(another), &listed);
    let why = "the firmware's db does not have who will have signed the image";
    assert_eq!(next.pcrs[&pcr(7)], Outlook::Other(why.into()));
    let changes = Changes {
        added: vec![(KeyList::Db, list(X509, &[another]))],
        ..signed_by(another)
    };
    assert!(changes.lets_in(another) && !changes.lets_in(OWNER));
    let next = after(&log, b"other", changes, &listed);
    assert_eq!(
        value(&next, 7),
        values_of(&with_lists(&both, b"", another))[&7]
    );
}

#[test]
fn what_dbx_gets_of_the_image_ends_it() {
    let owners = [OWNER.to_vec()];
    let log = with_lists(&list(X509, &[OWNER]), b"", OWNER);
    let hash = BANK.hash(b"other");
    for (update, forbidden) in [
        (list(SHA256, &[&hash]), Some("the image's own hash")),
        (
            list(X509, &[OWNER]),
            Some("the certificate of who signed the image"),
        ),
        (list(SHA256, &[&[1; 32]]), None),
        (list(X509, &[HOST]), None),
    ] {
        let next = after(&log, b"other", added(KeyList::Dbx, &update), &owners);
        assert_eq!(next.unmet, forbidden.map(Unmet::Forbidden));
        // In another list they forbid nothing.
        let next = after(&log, b"other", added(KeyList::Kek, &update), &owners);
        assert_eq!(next.unmet, None);
    }
}

#[test]
fn what_is_not_known_of_a_list_is_said() {
    let owners = [OWNER.to_vec()];
    let update = list(X509, &[b"another"]);
    let without = log_with(|log| {
        log.authority(OWNER)
            .program(b"image", "\\EFI\\BOOT\\BOOTX64.EFI");
        log.section(".linux", b"kernel");
    });
    let next = after(&without, b"image", added(KeyList::Dbx, &update), &owners);
    assert_eq!(
        unknown(&next, 7),
        "the firmware's log does not have what dbx holds"
    );
    let next = after(&without, b"image", signed_by(OWNER), &owners);
    assert!(unknown(&next, 7).starts_with("not one entry of db vouched"));
    let log = with_lists(b"no list", b"", OWNER);
    let next = after(&log, b"image", added(KeyList::Db, &update), &owners);
    assert!(
        unknown(&next, 7).starts_with("what db will hold cannot be told: check encoding: "),
        "{next:?}"
    );
    assert_eq!(
        value(
            &after(&log, b"image", added(KeyList::Kek, &update), &owners),
            4
        ),
        values_of(&log)[&4]
    );
}
