// SPDX-License-Identifier: Apache-2.0
//! The next start, told from this one's log.

use super::*;
use crate::evidence::eventlog::tests::{SIGNED_CERTIFICATE, SIGNED_LOG, SIGNED_PCRS};

const ALL: [u8; 9] = [0, 2, 4, 7, 9, 11, 12, 13, 14];

pub(super) fn image(program: &[u8]) -> NextImage {
    NextImage {
        digest: BANK.hash(program),
        kernel: KernelInside::Past,
        pcr_11: BANK.hash(b"PCR 11"),
        is_separated: false,
        changes: Changes::default(),
    }
}

/// An image that carries the owner's signature, and nobody else's.
pub(super) const OWNERS: &dyn Fn(&[u8]) -> Option<bool> = &|certificate| Some(certificate == OWNER);

fn told(log: &FirmwareLog, image: &NextImage, expected: &Expected<'_>) -> Next {
    let seen = values_of(log);
    next(
        &Log::firmware(&log.0).unwrap(),
        &seen,
        image,
        OWNERS,
        expected,
    )
    .unwrap()
}

pub(super) fn value(next: &Next, index: u8) -> Vec<u8> {
    match &next.pcrs[&pcr(index)] {
        Outlook::Value(value) => value.clone(),
        other @ (Outlook::Other(_) | Outlook::Unknown(_)) => panic!("PCR {index}: {other:?}"),
    }
}

/// Why the value of a PCR is not known.
pub(super) fn unknown(next: &Next, index: u8) -> String {
    match &next.pcrs[&pcr(index)] {
        Outlook::Unknown(why) => why.clone(),
        other @ (Outlook::Other(_) | Outlook::Value(_)) => panic!("PCR {index}: {other:?}"),
    }
}

/// A start with these programs, in order.
fn with_programs(programs: &[&[u8]]) -> FirmwareLog {
    log_with(|log| {
        log.authority(OWNER);
        for program in programs {
            log.program(program, "\\EFI\\BOOT\\BOOTX64.EFI");
        }
        log.section(".linux", b"kernel");
    })
}

#[test]
fn another_image_changes_what_it_is_measured_into_and_nothing_else() {
    let owner = [OWNER.to_vec()];
    let expected = Expected {
        sealed: pcrs(&ALL),
        ..required(&owner)
    };
    let log = with_programs(&[b"image"]);
    let same = told(&log, &image(b"image"), &expected);
    assert!(same.is_running && same.unmet.is_none(), "{same:?}");
    let other = told(&log, &image(b"other"), &expected);
    assert!(!other.is_running && other.unmet.is_none(), "{other:?}");
    // It is what a machine measures that starts the other one.
    let then = values_of(&with_programs(&[b"other"]));
    for index in [0, 2, 4, 7, 12, 13] {
        assert_eq!(value(&other, index), then[&index], "PCR {index}");
        let is_same = value(&same, index) == value(&other, index);
        assert_eq!(is_same, index != 4, "PCR {index}");
    }
    assert_eq!(value(&other, 11), BANK.hash(b"PCR 11"));
    for index in [9, 14] {
        assert!(
            unknown(&other, index).contains("does not say"),
            "PCR {index}"
        );
    }
}

#[test]
fn the_separator_follows_where_the_image_has_it_and_this_boot_is_not_its_own() {
    let owner = [OWNER.to_vec()];
    let expected = required(&owner);
    let log = with_programs(&[b"image"]);
    let separated = |image: &NextImage| {
        let next = told(&log, image, &expected);
        assert_eq!(next.unmet, None);
        let mut values = values_of(&with_programs(&[b"other"]));
        separate(&mut values, &[0, 1, 2, 3, 4, 5, 6, 7, 12, 13]);
        [4, 7, 12, 13].map(|index| value(&next, index) == values[&index])
    };
    let mut other = image(b"other");
    assert_eq!(separated(&other), [false; 4]);
    other.is_separated = true;
    assert_eq!(separated(&other), [true; 4]);
    // What this boot measured is better than what a file says.
    let mut same = image(b"image");
    same.is_separated = true;
    assert!(!told(&log, &same, &expected).is_separated);
}

#[test]
fn behind_a_loader_the_second_program_is_the_image() {
    let owner = [OWNER.to_vec()];
    let expected = Expected {
        first: First::Loader,
        ..required(&owner)
    };
    let log = with_programs(&[b"loader", b"image"]);
    let next = told(&log, &image(b"other"), &expected);
    assert_eq!(next.unmet, None);
    let then = values_of(&with_programs(&[b"loader", b"other"]));
    assert_eq!(value(&next, 4), then[&4]);
    // With more or fewer of them it is not known which.
    let direct = told(&log, &image(b"other"), &required(&owner));
    assert!(
        unknown(&direct, 4)
            .starts_with("this boot started 2 programs where the image's configuration has 1")
    );
    let none = told(&with_programs(&[b"image"]), &image(b"other"), &expected);
    assert!(
        unknown(&none, 4)
            .starts_with("this boot started 1 programs where the image's configuration has 2")
    );
}

#[test]
fn the_kernel_inside_is_measured_where_secure_boot_is_off_and_the_stub_is_old() {
    let start = |programs: &[&[u8]]| {
        let mut log = FirmwareLog::new();
        log.secure_boot(false);
        for pcr in 0..8 {
            log.event(pcr, 4, &[0; 4], &[0; 4]);
        }
        for program in programs {
            log.program(program, "\\EFI\\BOOT\\BOOTX64.EFI");
        }
        log.section(".linux", b"kernel");
        log.event(9, 6, b"initrd", b"initrd");
        log.event(2, 4, &[0; 4], &[0; 4]);
        log
    };
    let log = start(&[b"image", b"kernel"]);
    let mut other = image(b"other");
    other.kernel = KernelInside::Started(BANK.hash(b"another kernel"));
    let next = told(&log, &other, &not_required());
    assert_eq!(next.unmet, None);
    let then = values_of(&start(&[b"other", b"another kernel"]));
    assert_eq!(value(&next, 4), then[&4]);
    other.kernel = KernelInside::Past;
    let next = told(&log, &other, &not_required());
    assert!(unknown(&next, 4).contains("in another way than that of this boot"));
    other.kernel = KernelInside::Unknown;
    let next = told(&log, &other, &not_required());
    assert!(unknown(&next, 4).contains("does not say which systemd-stub"));
    // The image that runs needs no word of its file.
    let mut same = image(b"image");
    same.kernel = KernelInside::Unknown;
    let next = told(&log, &same, &not_required());
    assert_eq!(value(&next, 4), values_of(&log)[&4]);
}

#[test]
fn pcr_7_stays_only_where_the_same_certificate_vouches() {
    let both = [OWNER.to_vec(), HOST.to_vec()];
    let expected = required(&both);
    let log = log_with(|log| {
        log.authority(HOST).program(b"image", "x");
        log.section(".linux", b"kernel");
    });
    let next = told(&log, &image(b"other"), &expected);
    let Outlook::Other(why) = &next.pcrs[&pcr(7)] else {
        panic!("{next:?}");
    };
    assert!(why.contains("carries no signature by who vouched"), "{why}");
    assert_eq!(next.unmet, None);

    let two = log_with(|log| {
        log.authority(HOST).authority(OWNER).program(b"image", "x");
        log.section(".linux", b"kernel");
    });
    let next = told(&two, &image(b"other"), &expected);
    assert!(unknown(&next, 7).starts_with("2 entries of db vouched"));

    let hash = |_: &[u8]| None;
    let log = Log::firmware(&log.0).unwrap();
    let seen = log.replay(BANK).unwrap();
    let next = next_of(&log, &seen, &hash, &expected);
    assert!(unknown(&next, 7).contains("is no certificate"));
}

fn next_of(
    log: &Log,
    seen: &Values,
    names: &dyn Fn(&[u8]) -> Option<bool>,
    expected: &Expected<'_>,
) -> Next {
    next(log, seen, &image(b"other"), names, expected).unwrap()
}

#[test]
fn what_the_boot_would_refuse_is_told_and_a_log_that_explains_nothing_is_none() {
    let owner = [OWNER.to_vec()];
    let log = with_programs(&[b"image"]);
    // Another configuration wants somebody else to vouch.
    let host = [HOST.to_vec()];
    let expected = required(&host);
    let unmet = told(&log, &image(b"other"), &expected).unmet;
    assert!(
        matches!(unmet, Some(Unmet::ForeignAuthority(_))),
        "{unmet:?}"
    );
    assert_eq!(told(&log, &image(b"other"), &required(&owner)).unmet, None);

    let mut seen = values_of(&log);
    seen.insert(4, BANK.hash(b"more"));
    let read = Log::firmware(&log.0).unwrap();
    let refused = next(&read, &seen, &image(b"other"), OWNERS, &required(&owner));
    assert_eq!(refused.unwrap_err(), Unmet::Unexplained { pcr: pcr(4) });
}

/// A boot of OVMF with Secure Boot on.
#[test]
fn a_start_that_firmware_recorded_is_its_own_next_one() {
    let log = Log::firmware(SIGNED_LOG).unwrap();
    let seen = recorded(SIGNED_PCRS, BANK);
    let owner = certificates(SIGNED_CERTIFICATE.as_bytes()).unwrap();
    let names = |certificate: &[u8]| Some(certificate == owner[0]);
    let events = log.events(BANK, Registers::from(pcrs(&[4])));
    let program = events.iter().find(|event| event.may_be_program()).unwrap();
    let mut image = image(b"other");
    let expected = Expected {
        sealed: pcrs(&[0, 1, 2, 3, 4, 5, 6, 7]),
        ..required(&owner)
    };
    let other = next(&log, &seen, &image, &names, &expected).unwrap();
    image.digest = program.digest.clone();
    let same = next(&log, &seen, &image, &names, &expected).unwrap();
    assert!(same.is_running && !other.is_running);
    assert_eq!((&same.unmet, &other.unmet), (&None, &None));
    for index in 0..8 {
        assert_eq!(value(&same, index), seen[&index], "PCR {index}");
        let is_same = value(&other, index) == seen[&index];
        assert_eq!(is_same, index != 4, "PCR {index}");
    }
}
