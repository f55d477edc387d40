// SPDX-License-Identifier: Apache-2.0
//! Starts as they have to be, each with one thing changed; and starts that firmware recorded.

mod changes;
mod firmware;
mod next;
mod programs;

use super::*;
use crate::evidence::eventlog::tests::{IMAGE_LOG, IMAGE_PCRS, values as recorded};
use crate::evidence::fixture::FirmwareLog;

const BANK: Bank = Bank::Sha256;
const OWNER: &[u8] = b"the owner's certificate";
const HOST: &[u8] = b"the host's certificate";

fn pcr(index: u8) -> Pcr {
    Pcr::try_from(index).unwrap()
}

fn pcrs(indices: &[u8]) -> PcrSet {
    indices
        .iter()
        .map(|index| pcr(*index))
        .collect::<Vec<_>>()
        .into()
}

/// A start as the default configuration wants it, with `change` in the middle of it.
fn log_with(change: impl FnOnce(&mut FirmwareLog)) -> FirmwareLog {
    let mut log = FirmwareLog::new();
    log.secure_boot(true);
    for pcr in 0..8 {
        log.event(pcr, 4, &[0; 4], &[0; 4]);
    }
    change(&mut log);
    // The kernel measures the initrd that it was handed.
    log.event(9, 6, b"initrd", b"initrd");
    log
}

fn honest() -> FirmwareLog {
    log_with(|log| {
        log.authority(OWNER)
            .program(b"image", "\\EFI\\BOOT\\BOOTX64.EFI");
        log.section(".linux", b"kernel");
    })
}

/// The values that follow from a log.
fn values_of(log: &FirmwareLog) -> Values {
    Log::firmware(&log.0).unwrap().replay(BANK).unwrap()
}

fn required(authorities: &[Vec<u8>]) -> Expected<'_> {
    Expected {
        bank: BANK,
        authorities: Some(authorities),
        first: First::Image,
        sealed: pcrs(&[4, 7, 11, 12, 13]),
        added: [12, 13].map(|index| (pcr(index), BANK.zero())),
        firmware: None,
    }
}

fn not_required() -> Expected<'static> {
    Expected {
        authorities: None,
        sealed: pcrs(&[2, 4, 9, 12]),
        ..required(&[])
    }
}

fn prove_it(log: &FirmwareLog, values: &Values) -> Result<Start, Unmet> {
    let authorities = [OWNER.to_vec()];
    prove(
        &Log::firmware(&log.0).unwrap(),
        values,
        &required(&authorities),
    )
}

/// What a log lacks whose TPM has the values that follow from it.
fn unmet(log: &FirmwareLog) -> Unmet {
    prove_it(log, &values_of(log)).unwrap_err()
}

/// Extends these PCRs as systemd's separator does.
fn separate(values: &mut Values, pcrs: &[u8]) {
    for pcr in pcrs {
        let value = values.get_mut(pcr).unwrap();
        *value = BANK.extended(value, &BANK.hash(b"os-separator"));
    }
}

#[test]
fn a_start_by_a_listed_authority_is_proven_with_the_separator_and_without() {
    let log = honest();
    let mut values = values_of(&log);
    let start = prove_it(&log, &values).unwrap();
    assert_eq!(start.programs.len(), 1);
    assert_eq!(start.programs[0].said, r#"program "\EFI\BOOT\BOOTX64.EFI""#);
    assert_eq!(start.programs[0].digest, BANK.hash(b"image"));
    assert!(start.is_unified && !start.is_separated && start.tried.is_empty());

    separate(&mut values, &[0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14]);
    assert_eq!(
        prove_it(&log, &values).unwrap(),
        Start {
            is_separated: true,
            ..start
        }
    );
}

#[test]
fn the_separator_is_in_all_pcrs_or_in_none() {
    let log = honest();
    for some in [&[7][..], &[4], &[0], &[0, 1, 2, 3, 4, 5, 6]] {
        let mut values = values_of(&log);
        separate(&mut values, some);
        let unmet = prove_it(&log, &values).unwrap_err();
        assert!(
            matches!(unmet, Unmet::HalfSeparated { .. }),
            "{some:?}: {unmet}"
        );
    }
    // Twice is somebody else's work as well.
    let mut values = values_of(&log);
    separate(&mut values, &[0, 1, 2, 3, 4, 5, 6, 7, 12, 13]);
    separate(&mut values, &[4, 7]);
    assert_eq!(
        prove_it(&log, &values),
        Err(Unmet::Unexplained { pcr: pcr(4) })
    );
    // Additions have it where the firmware's PCRs do, and there alone.
    for half in [&[12, 13][..], &[0, 1, 2, 3, 4, 5, 6, 7, 13]] {
        let mut values = values_of(&log);
        separate(&mut values, half);
        assert!(matches!(
            prove_it(&log, &values),
            Err(Unmet::Added {
                pcr: Pcr::KERNEL_CONFIG,
                ..
            })
        ));
    }
}

#[test]
fn a_log_that_does_not_replay_is_refused_for_the_pcrs_that_count() {
    let log = honest();
    for other in [4, 7] {
        let mut values = values_of(&log);
        values.insert(other, vec![0x11; 32]);
        assert_eq!(
            prove_it(&log, &values),
            Err(Unmet::Unexplained { pcr: pcr(other) })
        );
    }
    // What the firmware does in other PCRs is its own business.
    let mut values = values_of(&log);
    values.insert(1, vec![0x11; 32]);
    values.insert(2, vec![0x11; 32]);
    prove_it(&log, &values).unwrap();
    let parsed = Log::firmware(&log.0).unwrap();
    assert_eq!(
        prove(&parsed, &values, &not_required()),
        Err(Unmet::Unexplained { pcr: pcr(2) })
    );
    // A bank that the log has nothing of proves nothing.
    let expected = Expected {
        bank: Bank::Sha384,
        ..not_required()
    };
    assert!(matches!(
        prove(&parsed, &values, &expected),
        Err(Unmet::Log(_))
    ));
}

#[test]
fn secure_boot_has_to_be_on_and_said_first() {
    let mut off = FirmwareLog::new();
    off.secure_boot(false);
    let rest = honest().0;
    let start = FirmwareLog::new().0.len();
    off.0.extend(&rest[start..]);
    assert_eq!(unmet(&off), Unmet::SecureBootOff);
    assert_eq!(
        Unmet::SecureBootOff.to_string(),
        "Secure Boot is off: turn it on in the firmware, with your own keys, or set boot.secure-boot = \"not-required\", \
         which takes PCRs 2, 4, 9 and 12 in tpm.pcrs, efi=noruntime in the image's command line, and the first secret from the \
         key service"
    );
    let mut silent = FirmwareLog::new();
    for pcr in 0..8 {
        silent.event(pcr, 4, &[0; 4], &[0; 4]);
    }
    silent.program(b"image", "\\x").section(".linux", b"kernel");
    assert_eq!(unmet(&silent), Unmet::SecureBootUnknown);
}

/// S13: the genuine image, signed anew by somebody whose key is in db.
#[test]
fn an_authority_that_is_not_listed_is_refused_beside_one_that_is() {
    let image = |log: &mut FirmwareLog| {
        log.program(b"image", "\\x").section(".linux", b"kernel");
    };
    let foreign = log_with(|log| image(log.authority(HOST)));
    assert!(matches!(unmet(&foreign), Unmet::ForeignAuthority(_)));
    assert!(unmet(&foreign).to_string().contains(&format!(
        "authority of db with SHA-256 {}",
        hex::encode(BANK.hash(HOST))
    )));
    let both = log_with(|log| image(log.authority(OWNER).authority(HOST)));
    assert!(matches!(unmet(&both), Unmet::ForeignAuthority(_)));
    let nobody = log_with(image);
    assert_eq!(unmet(&nobody), Unmet::NoAuthority);

    let authorities = [OWNER.to_vec(), HOST.to_vec()];
    let log = Log::firmware(&both.0).unwrap();
    prove(&log, &values_of(&both), &required(&authorities)).unwrap();
}

#[test]
fn what_no_rule_knows_in_pcr_7_is_refused() {
    let image = |log: &mut FirmwareLog| {
        log.authority(OWNER)
            .program(b"image", "\\x")
            .section(".linux", b"kernel");
    };
    let debugged = log_with(|log| {
        log.event(7, 0x8000_0007, b"UEFI Debug Mode", b"UEFI Debug Mode");
        image(log);
    });
    let said = log_with(|log| {
        log.event(7, 0x8000_00e0, b"another thing", b"harmless");
        image(log);
    });
    for log in [debugged, said] {
        assert!(matches!(unmet(&log), Unmet::UnknownInSecureBoot(_)));
    }
    // Not for whom Secure Boot proves nothing.
    let log = log_with(|log| {
        log.event(7, 0x8000_0007, b"UEFI Debug Mode", b"UEFI Debug Mode");
        image(log);
    });
    let values = values_of(&log);
    prove(&Log::firmware(&log.0).unwrap(), &values, &not_required()).unwrap();
}

#[test]
fn what_was_added_is_what_the_configuration_names() {
    let log = log_with(|log| {
        log.authority(OWNER)
            .program(b"image", "\\x")
            .section(".linux", b"kernel");
        log.command_line("systemd.debug_shell");
    });
    let message = unmet(&log).to_string();
    let value = hex::encode(&values_of(&log)[&12]);
    assert_eq!(
        message,
        format!(
            "PCR 12 is not zero but {value}: something was added to the image, command line \"systemd.debug_shell\": \
             take it away, from the ESP, the firmware's boot entry or the machine's definition, or name the value that is \
             meant as boot.pcr-12"
        )
    );
    let authorities = [OWNER.to_vec()];
    let named = |value: Vec<u8>| Expected {
        added: [(pcr(12), value), (pcr(13), BANK.zero())],
        ..required(&authorities)
    };
    let parsed = Log::firmware(&log.0).unwrap();
    let mut values = values_of(&log);
    let addon = values[&12].clone();
    prove(&parsed, &values, &named(addon.clone())).unwrap();
    separate(&mut values, &[0, 1, 2, 3, 4, 5, 6, 7, 12, 13]);
    prove(&parsed, &values, &named(addon)).unwrap();
    // Behind the separator too the value that is told is the one to name.
    assert_eq!(prove_it(&log, &values).unwrap_err().to_string(), message);
    // What the log does not explain has none.
    values.insert(12, vec![0x11; 32]);
    let message = prove_it(&log, &values).unwrap_err().to_string();
    assert!(
        message.contains("and the log does not explain that value: take away")
            && !message.contains("boot.pcr-12"),
        "{message}"
    );
    // The addon that is named has to be there.
    let honest = honest();
    let other = prove(
        &Log::firmware(&honest.0).unwrap(),
        &values_of(&honest),
        &named(vec![7; 32]),
    );
    assert!(matches!(
        other,
        Err(Unmet::Added {
            expected: Some(_),
            ..
        })
    ));
    let extension = log_with(|log| {
        log.authority(OWNER)
            .program(b"image", "\\x")
            .section(".linux", b"kernel");
        log.event(13, 0xd, b"an extension", b"");
    });
    assert!(
        unmet(&extension)
            .to_string()
            .starts_with("PCR 13 is not zero but ")
    );
}

#[test]
fn a_pcr_that_is_sealed_to_was_extended_by_somebody() {
    let log = log_with(|log| {
        log.authority(OWNER).program(b"kernel", "\\x");
    });
    let unmet = unmet(&log);
    assert_eq!(unmet, Unmet::NeverExtended { pcr: pcr(11) });
    assert!(
        unmet
            .to_string()
            .starts_with("tpm.pcrs has PCR 11, which nobody has extended")
    );
    let authorities = [OWNER.to_vec()];
    let sealed = |sealed: &[u8]| Expected {
        sealed: pcrs(sealed),
        ..required(&authorities)
    };
    let parsed = Log::firmware(&log.0).unwrap();
    let mut values = values_of(&log);
    let start = prove(&parsed, &values, &sealed(&[4, 7, 12, 13])).unwrap();
    assert!(!start.is_unified);
    // The separator alone binds nothing either.
    values.insert(9, BANK.zero());
    separate(&mut values, &[0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14]);
    prove(&parsed, &values, &sealed(&[4, 7, 12])).unwrap();
    assert_eq!(
        prove(&parsed, &values, &sealed(&[4, 7, 9, 12])),
        Err(Unmet::NeverExtended { pcr: pcr(9) })
    );
}

/// Firmware without Secure Boot, which found the image with its second boot option.
#[test]
fn a_recorded_start_is_proven_and_the_option_tried_in_vain_is_named() {
    let log = Log::firmware(IMAGE_LOG).unwrap();
    let values = recorded(IMAGE_PCRS, BANK);
    let start = prove(&log, &values, &not_required()).unwrap();
    let said: Vec<&str> = start.programs.iter().map(|it| it.said.as_str()).collect();
    assert_eq!(
        said,
        [
            r#"program "\EFI\BOOT\BOOTX64.EFI""#,
            r#"program "not in a file""#
        ]
    );
    assert_eq!(start.tried, ["UEFI QEMU DVD-ROM QM00005"]);
    assert!(start.is_unified);
    let authorities = [OWNER.to_vec()];
    assert_eq!(
        prove(&log, &values, &required(&authorities)),
        Err(Unmet::SecureBootOff)
    );
}
