// SPDX-License-Identifier: Apache-2.0
//! Each check, failing alone, with a control that passes it.

use super::*;
use crate::evidence::eventlog::What;
use crate::evidence::fixture::{
    AK_ATTRIBUTES, FirmwareLog, Key, NONCE, PCRS, Sent, Statement, expected, record,
};

fn honest() -> Sent {
    Sent::of(&FirmwareLog::usual())
}

fn refusal(sent: &Sent) -> Refusal {
    verify(&expected(), &sent.presented()).unwrap_err()
}

fn check(sent: &Sent) -> Check {
    refusal(sent).check
}

/// The same machine, its statement made by `change`, signed again.
fn stating(change: impl FnOnce(&mut Statement)) -> Sent {
    let sent = honest();
    let mut statement = Statement::over(&sent.values);
    change(&mut statement);
    let attest = statement.bytes();
    Sent {
        signature: Key::new(7).sign(&attest),
        attest,
        ..sent
    }
}

#[test]
fn an_honest_machine_is_verified_with_all_it_says() {
    let sent = honest();
    let verified = verify(&expected(), &sent.presented()).unwrap();
    assert_eq!(verified.pcrs, sent.values);
    assert_eq!(verified.explained, Registers::of(&PCRS).unwrap());
    assert_eq!((verified.clock.resets, verified.clock.safe), (8, true));
    assert_eq!(verified.ak_name, Ak::parse(&sent.ak).unwrap().name());
    let what = |pcr| -> Vec<String> {
        let events = verified.events.iter().filter(|event| event.pcr == pcr);
        events.map(|event| event.what.to_string()).collect()
    };
    assert_eq!(what(7), ["Secure Boot on", "separator"]);
    assert_eq!(
        what(4),
        [
            "EV_EFI_ACTION \"Calling EFI Application\"",
            "separator",
            r#"program "\EFI\BOOT\BOOTX64.EFI""#
        ]
    );
    assert_eq!(
        what(11),
        [
            "EV_IPL \".cmdline\"",
            "section .cmdline",
            "phase \"enter-initrd\""
        ]
    );
}

#[test]
fn evidence_without_logs_is_verified_and_explains_nothing() {
    let sent = Sent {
        firmware_log: Vec::new(),
        userspace_log: Vec::new(),
        ..honest()
    };
    let verified = verify(&expected(), &sent.presented()).unwrap();
    assert!(verified.explained.is_empty() && verified.events.is_empty());
}

#[test]
fn check_encoding() {
    let sent = honest();
    let longer = |part: &[u8]| [part, &[0]].concat();
    for sent in [
        Sent {
            ak: longer(&sent.ak),
            ..sent.clone()
        },
        Sent {
            attest: longer(&sent.attest),
            ..sent.clone()
        },
        Sent {
            signature: longer(&sent.signature),
            ..sent.clone()
        },
    ] {
        assert_eq!(check(&sent), Check::Encoding);
    }
}

#[test]
fn check_magic() {
    assert_eq!(check(&stating(|it| it.magic = 0)), Check::Magic);
    verify(&expected(), &stating(|_| ()).presented()).unwrap();
}

#[test]
fn check_type() {
    assert_eq!(check(&stating(|it| it.kind = 0x801a)), Check::Kind);
}

#[test]
fn check_ak_attributes() {
    let sent = honest();
    let with = |attributes: u32| Sent {
        ak: Key::new(7).area(attributes, &[0, 0x10], &[0, 0x18, 0, 0x0b]),
        ..sent.clone()
    };
    verify(&expected(), &with(AK_ATTRIBUTES).presented()).unwrap();
    // Neither userWithAuth nor noDA changes what the key signs.
    verify(&expected(), &with(AK_ATTRIBUTES & !0x440).presented()).unwrap();
    // fixedTPM, fixedParent, sensitiveDataOrigin, restricted and sign are needed; decrypt is one too many.
    for bit in [1, 4, 5, 16, 18] {
        let without = with(AK_ATTRIBUTES & !(1 << bit));
        assert_eq!(check(&without), Check::AkAttributes, "{bit}");
    }
    let decrypts = with(AK_ATTRIBUTES | 1 << 17);
    assert_eq!(check(&decrypts), Check::AkAttributes);
}

#[test]
fn check_ak_scheme() {
    let sent = honest();
    for scheme in [
        &[0x00, 0x10][..],
        // ECDSA with SHA-1, RSASSA on a curve, ECDAA
        &[0x00, 0x18, 0x00, 0x04],
        &[0x00, 0x14, 0x00, 0x0b],
        &[0x00, 0x1a, 0x00, 0x0b, 0x00, 0x00],
    ] {
        let sent = Sent {
            ak: Key::new(7).area(AK_ATTRIBUTES, &[0, 0x10], scheme),
            ..sent.clone()
        };
        assert_eq!(check(&sent), Check::AkScheme, "{scheme:?}");
    }
}

#[test]
fn check_signature() {
    let sent = honest();
    let by_another = Sent {
        signature: Key::new(8).sign(&sent.attest),
        ..sent.clone()
    };
    assert_eq!(check(&by_another), Check::Signature);
    // The last byte is one of the digest, so that it can still be read.
    let mut altered = sent.clone();
    *altered.attest.last_mut().unwrap() ^= 1;
    assert_eq!(check(&altered), Check::Signature);
}

#[test]
fn check_selection() {
    let octets = |octets: [u8; 3]| vec![(0x000b, octets.to_vec())];
    let right = [0xb4, 0xfa, 0x00];
    verify(
        &expected(),
        &stating(|it| it.selections = octets(right)).presented(),
    )
    .unwrap();
    for selections in [
        octets([0xb4, 0xfa, 0x01]),
        octets([0xb4, 0x7a, 0x00]),
        vec![(0x0004, right.to_vec())],
        vec![(0x000b, right.to_vec()), (0x0004, right.to_vec())],
        Vec::new(),
    ] {
        let sent = stating(|it| it.selections.clone_from(&selections));
        assert_eq!(check(&sent), Check::Selection, "{selections:?}");
    }
    let refusal = refusal(&stating(|it| it.selections = octets([0x80, 0, 0])));
    assert_eq!(
        refusal.to_string(),
        "check selection: expected a quote over PCRs 2+4+5+7+9+11+12+13+14+15 of sha256, found 7 of sha256"
    );
}

#[test]
fn check_nonce() {
    for nonce in [
        b"what was asked for, 32 bytes of?".to_vec(),
        NONCE[..31].to_vec(),
        [NONCE, &[0]].concat(),
        Vec::new(),
    ] {
        let sent = stating(|it| it.extra_data.clone_from(&nonce));
        assert_eq!(check(&sent), Check::Nonce, "{nonce:?}");
    }
}

#[test]
fn check_digest() {
    let sent = honest();
    let with = |change: &dyn Fn(&mut Values)| {
        let mut sent = sent.clone();
        change(&mut sent.values);
        sent
    };
    verify(&expected(), &with(&|_| ()).presented()).unwrap();
    let cases: [&dyn Fn(&mut Values); 4] = [
        &|values| values.get_mut(&14).unwrap()[0] ^= 1,
        &|values| drop(values.remove(&14)),
        &|values| drop(values.insert(16, vec![0; 32])),
        // The same bytes, divided otherwise.
        &|values| {
            let last = values.get_mut(&11).unwrap().pop().unwrap();
            values.get_mut(&12).unwrap().insert(0, last);
        },
    ];
    for change in cases {
        assert_eq!(check(&with(change)), Check::Digest);
    }
}

#[test]
fn check_firmware_log() {
    let mut sent = honest();
    sent.firmware_log.push(0);
    assert_eq!(check(&sent), Check::FirmwareLog);
}

#[test]
fn check_userspace_log() {
    let mut sent = honest();
    sent.userspace_log.extend(b"\x1e{");
    assert_eq!(check(&sent), Check::UserspaceLog);
}

#[test]
fn check_event_log() {
    let sent = honest();
    let more = Sent {
        userspace_log: [&sent.userspace_log[..], &record(12, "phase", "sysinit")].concat(),
        ..sent.clone()
    };
    assert_eq!(
        refusal(&more).to_string(),
        "check event-log: PCRs 12 do not follow from the event logs"
    );
    let less = Sent {
        userspace_log: Vec::new(),
        ..sent.clone()
    };
    assert_eq!(
        refusal(&less).to_string(),
        "check event-log: PCRs 11 do not follow from the event logs"
    );
    let mut other_program = FirmwareLog::usual();
    other_program.program(b"evil", "\\evil.efi");
    let lying = Sent {
        firmware_log: other_program.0,
        ..sent
    };
    assert_eq!(
        refusal(&lying).to_string(),
        "check event-log: PCRs 4 do not follow from the event logs"
    );
}

#[test]
fn a_log_without_the_firmwares_is_held_to_the_cluster_pcr_only() {
    let sent = Sent {
        firmware_log: Vec::new(),
        userspace_log: record(12, "phase", "sysinit"),
        ..honest()
    };
    let verified = verify(&expected(), &sent.presented()).unwrap();
    assert_eq!(
        verified.explained,
        Registers::of(&[2, 5, 9, 13, 14, 15]).unwrap()
    );
    assert!(verified.events.is_empty());
    let sent = Sent {
        userspace_log: record(15, "phase", "sysinit"),
        ..sent
    };
    assert_eq!(check(&sent), Check::EventLog);
}

#[test]
fn what_was_measured_into_a_pcr_that_does_not_follow_is_not_told() {
    // PCR 16 need not follow: anybody may reset it.
    let mut log = FirmwareLog::usual();
    log.event(16, 0x8000_0007, b"said", b"said");
    let sent = Sent::of(&log);
    let mut values = sent.values.clone();
    values.insert(16, vec![0; 32]);
    let statement = Statement::over(&values);
    let sent = Sent {
        firmware_log: log.0,
        userspace_log: sent.userspace_log,
        ..Sent::signed(&Key::new(7), &statement, values)
    };
    let expected = Expected {
        pcrs: Registers::of(&[&PCRS[..], &[16]].concat()).unwrap(),
        ..expected()
    };
    let verified = verify(&expected, &sent.presented()).unwrap();
    assert!(!verified.explained.contains(16));
    assert!(verified.events.iter().all(|event| event.pcr != 16));
    assert!(
        verified
            .events
            .iter()
            .any(|event| event.what == What::SecureBoot(true))
    );
}

#[test]
fn the_words_of_the_checks_are_all_different() {
    let words = [
        Check::Encoding,
        Check::Magic,
        Check::Kind,
        Check::AkAttributes,
        Check::AkScheme,
        Check::Signature,
        Check::AkKey,
        Check::Selection,
        Check::Nonce,
        Check::Digest,
        Check::FirmwareLog,
        Check::UserspaceLog,
        Check::EventLog,
        Check::EkTemplate,
        Check::EkKey,
        Check::EkChain,
        Check::EkTrust,
        Check::EarlyBoot,
        Check::Role,
        Check::Image,
    ]
    .map(Check::as_str);
    let different: std::collections::BTreeSet<_> = words.iter().collect();
    assert_eq!(different.len(), words.len());
}
