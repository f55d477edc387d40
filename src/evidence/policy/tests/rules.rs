// SPDX-License-Identifier: Apache-2.0
//! Rules about what was measured, and machines that lie about it.

use super::*;
use crate::evidence::eventlog::Log;
use crate::evidence::eventlog::tests::{IMAGE_LOG, IMAGE_PCRS, values};
use crate::evidence::fixture::{record, utf16};

#[test]
fn every_program_has_to_be_on_the_list_under_whatever_name() {
    let evil = hex::encode(Bank::Sha256.hash(b"evil"));
    let expected = program();
    assert_eq!(
        differs(|log| {
            log.program(b"evil", "\\evil.efi");
        }),
        format!(
            "nearest image usual: program \"\\evil.efi\" was started: \
             expected {expected}, found {evil}"
        )
    );
    // Called an action, a separator, a variable: only the digest counts.
    for (kind, name) in [
        (0x8000_0007, "EV_EFI_ACTION, said to be \"harmless\""),
        (4, "EV_SEPARATOR, said to be \"harmless\""),
        (
            0x8000_00e0,
            "EV_EFI_VARIABLE_AUTHORITY, said to be \"harmless\"",
        ),
    ] {
        let why = differs(|log| {
            log.event(4, kind, b"evil", b"harmless");
        });
        assert_eq!(
            why,
            format!("nearest image usual: {name} was started: expected {expected}, found {evil}")
        );
    }
    let mut none = FirmwareLog::new();
    none.secure_boot(true).section(".cmdline", b"quiet ro");
    let why = policy(&rules()).image(&verified(&none)).unwrap_err();
    assert!(why.to_string().contains("no program was started"), "{why}");
}

#[test]
fn a_command_line_from_outside_has_to_be_on_the_list() {
    let listed = differs(|log| {
        log.command_line("quiet rw");
    });
    assert_eq!(listed, "usual");
    assert_eq!(
        differs(|log| {
            log.command_line("quiet ro init=/evil");
        }),
        "nearest image usual: command line: expected \"quiet ro\" or \"quiet rw\", \
         found \"quiet ro init=/evil\""
    );
    // One part is good and another is not.
    let why = differs(|log| {
        log.command_line("quiet ro").command_line("init=/evil");
    });
    assert!(why.ends_with("found \"init=/evil\""), "{why}");
    let why = differs(|log| {
        log.event(12, 0xd, &utf16("init=/evil"), &utf16("quiet ro"));
    });
    assert_eq!(
        why,
        "nearest image usual: command line: expected \"quiet ro\" or \"quiet rw\", \
         found what may be a part of one: EV_IPL, said to be \"quiet ro\""
    );
}

#[test]
fn the_command_line_of_the_image_is_recognised_by_its_digest() {
    let with = |line: &[u8]| {
        let mut log = FirmwareLog::new();
        log.secure_boot(true)
            .boot_options()
            .program(b"the image", "\\x");
        log.section(".osrel", b"ID=x").section(".cmdline", line);
        let policy = policy(&rules());
        let image = policy.image(&verified(&log));
        image.map(ToOwned::to_owned).map_err(|why| why.to_string())
    };
    for line in ["quiet ro", "quiet rw\n", "quiet ro\0"] {
        assert_eq!(with(line.as_bytes()), Ok("usual".into()), "{line:?}");
    }
    let digest = hex::encode(Bank::Sha256.hash(b"quiet"));
    assert_eq!(
        with(b"quiet").unwrap_err(),
        format!(
            "nearest image usual: command line: expected \"quiet ro\" or \"quiet rw\", \
             found that of the image, with digest {digest}"
        )
    );
    // No command line, none inside but one from outside, and one whose section has another name.
    let bare = || {
        let mut log = FirmwareLog::new();
        log.secure_boot(true)
            .boot_options()
            .program(b"the image", "\\x");
        log.section(".osrel", b"ID=x");
        log
    };
    let why = |log: &FirmwareLog| {
        let policy = policy(&rules());
        let image = policy.image(&verified(log));
        image.map_or_else(|why| why.to_string(), ToOwned::to_owned)
    };
    assert!(why(&bare()).ends_with("found none"));
    let mut outside = bare();
    outside.command_line("quiet ro");
    assert_eq!(why(&outside), "usual");
    let mut nameless = bare();
    nameless.event(11, 0xd, b"quiet ro", &utf16(".cmdline"));
    assert!(why(&nameless).contains("what may be a part of one: EV_IPL"));
}

#[test]
fn a_command_line_of_the_image_cannot_be_told_as_something_else() {
    // The image's own is not on the list; a good one is measured later by whoever it started.
    let name = b".cmdline\0";
    for (kind, data) in [
        (0xd, utf16(".other")),
        (4, Vec::new()),
        (6, utf16(".cmdline")),
    ] {
        let why = differs(|log| {
            *log = FirmwareLog::new();
            log.secure_boot(true)
                .boot_options()
                .program(b"the image", "\\x");
            log.event(11, kind, name, &data);
            log.event(11, 0xd, b"init=/evil", &utf16("harmless"));
            log.section(".cmdline", b"quiet ro");
        });
        assert!(why.contains("what may be a part of one: "), "{why}");
    }
    let both = differs(|log| {
        *log = FirmwareLog::new();
        log.secure_boot(true)
            .boot_options()
            .program(b"the image", "\\x");
        log.section(".cmdline", b"init=/evil");
        log.section(".cmdline", b"quiet ro");
    });
    assert!(both.contains("that of the image"), "{both}");
    // Nor is it an action, when what stands before it is the proven name.
    let action = differs(|log| {
        *log = FirmwareLog::new();
        log.secure_boot(true)
            .boot_options()
            .program(b"the image", "\\x");
        log.event(11, 0xd, name, &utf16(".cmdline"));
        log.event(11, 5, b"init=/evil", b"init=/evil");
        log.section(".cmdline", b"quiet ro");
    });
    assert!(action.contains("that of the image"), "{action}");
    // One from outside does not make up for one inside.
    let inside = differs(|log| {
        *log = FirmwareLog::new();
        log.secure_boot(true)
            .boot_options()
            .program(b"the image", "\\x");
        log.section(".cmdline", b"init=/evil")
            .command_line("quiet ro");
    });
    assert!(inside.contains("that of the image"), "{inside}");
}

#[test]
fn user_space_cannot_hide_a_command_line_under_another_name() {
    let mut log = FirmwareLog::usual();
    log.command_line("init=/evil");
    let honest = Sent::of(&log);
    // The same digests, told as if the boot's phases had been measured.
    let text = "init=/evil".chars().chain(['\0']);
    let wide: String = text.flat_map(|c| [c, '\0']).collect();
    let lying = [&record(12, "phase", &wide)[..], &honest.userspace_log].concat();
    let sent = Sent {
        firmware_log: FirmwareLog::usual().0,
        userspace_log: lying,
        ..honest
    };
    let verified = verify(&expected(), &sent.presented()).unwrap();
    assert!(verified.explained.contains(12));
    let why = policy(&rules()).image(&verified).unwrap_err().to_string();
    assert!(why.contains("what may be a part of one: phase"), "{why}");
}

#[test]
fn only_a_cluster_id_is_told_in_hexadecimal_digits() {
    let mut log = FirmwareLog::usual();
    log.command_line("init=/evil");
    let honest = Sent::of(&log);
    let bytes = utf16("init=/evil");
    let told_as = |kind: &str| {
        let digests = serde_json::json!([{
            "hashAlg": "sha256",
            "digest": hex::encode(Bank::Sha256.hash(&bytes)),
        }]);
        let record = serde_json::json!({
            "pcr": 12,
            "digests": digests,
            "content": {"clusterId": hex::encode(&bytes), "eventType": kind},
        });
        let record = format!("\u{1e}{record}\n");
        let sent = Sent {
            firmware_log: FirmwareLog::usual().0,
            userspace_log: [record.as_bytes(), &honest.userspace_log].concat(),
            ..honest.clone()
        };
        let verified = verify(&expected(), &sent.presented()).unwrap();
        policy(&rules()).image(&verified).unwrap_err().to_string()
    };
    for kind in ["phase", "nightlatch-cluster-id"] {
        let why = told_as(kind);
        assert!(why.contains("what may be a part of one: "), "{why}");
    }
}

#[test]
fn secure_boot_is_what_the_firmware_measured_first() {
    let boot = |first: Option<bool>, then: Option<bool>| {
        let mut log = FirmwareLog::new();
        let action = b"UEFI Debug Mode";
        log.event(7, 0x8000_0007, action, action);
        if let Some(first) = first {
            log.secure_boot(first);
        }
        log.event(7, 4, &[0; 4], &[0; 4]);
        if let Some(then) = then {
            log.secure_boot(then);
        }
        log.boot_options()
            .program(b"the image", "\\x")
            .section(".cmdline", b"quiet ro");
        log
    };
    let image = |log: &FirmwareLog| {
        let image = policy(&rules());
        let image = image.image(&verified(log));
        image.map(ToOwned::to_owned).map_err(|why| why.to_string())
    };
    assert_eq!(image(&boot(Some(true), None)), Ok("usual".into()));
    assert_eq!(image(&boot(Some(true), Some(false))), Ok("usual".into()));
    let off = "nearest image usual: Secure Boot: expected on, found off";
    assert_eq!(image(&boot(Some(false), None)), Err(off.into()));
    assert_eq!(image(&boot(Some(false), Some(true))), Err(off.into()));
    let unknown = "nearest image usual: Secure Boot: expected on, found unknown";
    assert_eq!(image(&boot(None, Some(true))), Err(unknown.into()));
}

#[test]
fn a_recorded_boot_is_recognised() {
    let log = Log::firmware(IMAGE_LOG).unwrap();
    let replayed = log.replay(Bank::Sha256).unwrap();
    let pcrs: crate::evidence::Values = values(IMAGE_PCRS, Bank::Sha256)
        .into_iter()
        .filter(|(pcr, _)| *pcr != 10)
        .collect();
    let sent = Sent {
        firmware_log: IMAGE_LOG.to_vec(),
        ..Sent::signed(&Key::new(7), &Statement::over(&pcrs), pcrs.clone())
    };
    let expected = crate::evidence::Expected {
        pcrs: pcrs.keys().copied().collect(),
        ..expected()
    };
    let verified = verify(&expected, &sent.presented()).unwrap();
    assert_eq!(verified.pcrs[&4], replayed[&4]);
    let programs: Vec<String> = verified
        .events
        .iter()
        .filter(|event| event.pcr == 4 && event.what.to_string().starts_with("program"))
        .map(|event| format!("\"{}\"", hex::encode(&event.digest)))
        .collect();
    // The image, and the kernel in it, which the stub has the firmware start.
    assert_eq!(programs.len(), 2);
    let rules = |secure_boot: bool| {
        let list = programs.join(", ");
        format!(
            "uki-hash = [{list}]\ncommand-line = [\"console=ttyS0 quiet\"]\n\
             secure-boot = {secure_boot}"
        )
    };
    assert_eq!(policy(&rules(false)).image(&verified), Ok("usual"));
    assert_eq!(
        policy(&rules(true))
            .image(&verified)
            .unwrap_err()
            .to_string(),
        "nearest image usual: Secure Boot: expected on, found off"
    );
    policy(&rules(true)).early(&verified).unwrap();
}
