// SPDX-License-Identifier: Apache-2.0
//! Boots that were recorded, with one thing more in the log of each: everything else is as it was.

mod handed;

use super::*;
use crate::evidence::eventlog::Log;
use crate::evidence::eventlog::tests::{
    IMAGE_LOG, SIGNED_CERTIFICATE, SIGNED_LOADER_LOG, SIGNED_LOG, SIGNED_PCRS, values,
};
use crate::evidence::fixture::{record, utf16};
use crate::evidence::{Expected, Registers};

/// What a boot with these logs says, of PCRs 0 to 15 but that of the kernel's integrity measurement.
fn machine(firmware: &FirmwareLog, userspace: &[u8]) -> Verified {
    let log = Log::of(Some(&firmware.0), Some(userspace)).unwrap();
    let mut values = log.replay(Bank::Sha256).unwrap();
    values.retain(|pcr, _| *pcr < 16 && *pcr != 10);
    let pcrs: Registers = values.keys().copied().collect();
    let sent = Sent {
        firmware_log: firmware.0.clone(),
        userspace_log: userspace.to_vec(),
        ..Sent::signed(&Key::new(7), &Statement::over(&values), values)
    };
    let expected = Expected { pcrs, ..expected() };
    verify(&expected, &sent.presented()).unwrap()
}

/// A policy about a recorded boot, with the rules that are given beside its programs and its command line.
fn of_the_boot(log: &[u8], command_line: &str, rules: &str) -> Policy {
    let events = Log::firmware(log).unwrap();
    let events = events.events(Bank::Sha256, Registers::of(&[4]).unwrap());
    let programs: Vec<String> = events
        .iter()
        .filter(|event| event.what.to_string().starts_with("program"))
        .map(|event| format!("\"{}\"", hex::encode(&event.digest)))
        .collect();
    let image = format!(
        "[[image]]\nname = \"usual\"\nuki-hash = [{}]\ncommand-line = [\"{command_line}\"]\n{rules}\n",
        programs.join(", ")
    );
    Policy::parse(&format!("{EK}{image}{ROLE}"), |file| {
        assert_eq!(file, "owner.pem");
        Ok(SIGNED_CERTIFICATE.into())
    })
    .unwrap()
}

const OWNERS: &str = "secure-boot = true\nauthorities = [\"owner.pem\"]";

/// What a policy with `rules` makes of the recorded boot under Secure Boot that `change` added to.
fn signed(rules: &str, change: impl FnOnce(&mut FirmwareLog)) -> String {
    let policy = of_the_boot(SIGNED_LOG, "console=ttyS0 nohibernate", rules);
    told(&policy, SIGNED_LOG, change)
}

/// The same of the boot without Secure Boot.
fn unsigned(rules: &str, change: impl FnOnce(&mut FirmwareLog)) -> String {
    let policy = of_the_boot(IMAGE_LOG, "console=ttyS0 quiet", rules);
    told(&policy, IMAGE_LOG, change)
}

fn told(policy: &Policy, log: &[u8], change: impl FnOnce(&mut FirmwareLog)) -> String {
    let mut log = FirmwareLog(log.to_vec());
    change(&mut log);
    let verified = machine(&log, &[]);
    let image = policy.image(&verified);
    image.map_or_else(|why| why.to_string(), ToOwned::to_owned)
}

fn additions(what: &[u8]) -> String {
    format!("additions = [\"{}\"]", hex::encode(Bank::Sha256.hash(what)))
}

/// The denial that names an event of which `what` was measured.
fn unexplained(pcr: u8, name: &str, what: &[u8]) -> String {
    let digest = hex::encode(Bank::Sha256.hash(what));
    format!("nearest image usual: PCR {pcr}: no rule explains {name} with digest {digest}")
}

#[test]
fn recorded_boots_are_the_usual_image() {
    assert_eq!(signed(OWNERS, |_| ()), "usual");
    assert_eq!(unsigned("secure-boot = false", |_| ()), "usual");
    // systemd-boot has measured its configuration into PCR 5.
    let loader = of_the_boot(SIGNED_LOADER_LOG, "console=ttyS0 nohibernate", OWNERS);
    assert_eq!(told(&loader, SIGNED_LOADER_LOG, |_| ()), "usual");
}

#[test]
fn a_program_more_is_denied() {
    let why = signed(OWNERS, |log| {
        log.program(b"evil", "\\evil.efi");
    });
    let seen = hex::encode(Bank::Sha256.hash(b"evil"));
    assert!(why.starts_with("nearest image usual: program \"\\evil.efi\" was started"));
    assert!(why.ends_with(&format!("found {seen}")), "{why}");
}

#[test]
fn the_kernel_of_an_image_counts_only_where_the_image_started_it() {
    let log = Log::firmware(IMAGE_LOG).unwrap();
    let events = log.events(Bank::Sha256, Registers::of(&[4]).unwrap());
    let programs: Vec<String> = events
        .iter()
        .filter(|event| event.what.to_string().starts_with("program"))
        .map(|event| hex::encode(&event.digest))
        .collect();
    let [image, kernel] = &programs[..] else {
        panic!("{programs:?}");
    };
    let rules = format!(
        "uki-hash = [\"{image}\"]\nkernel-hash = [\"{kernel}\"]\nsecure-boot = false\n\
         loader-hash = [\"{}\"]\ncommand-line = [\"console=ttyS0 quiet\", \"quiet ro\"]",
        hex::encode(Bank::Sha256.hash(b"a loader"))
    );
    let policy = policy(&rules);
    assert_eq!(told(&policy, IMAGE_LOG, |_| ()), "usual");
    let digests = |digest: &str| [(Bank::Sha256, hex::decode(digest).unwrap())];
    let started = |change: &dyn Fn(&mut FirmwareLog)| {
        let mut log = FirmwareLog::new();
        log.secure_boot(false).boot_options();
        change(&mut log);
        log.section(".cmdline", b"quiet ro");
        let image = policy.image(&verified(&log));
        image.map_or_else(|why| why.to_string(), ToOwned::to_owned)
    };
    let start = |log: &mut FirmwareLog, digest: &str| {
        log.digests(4, 0x8000_0003, &digests(digest), b"");
    };
    let alone = format!(
        "nearest image usual: the kernel {kernel} of an image was started by itself: \
         expected a program of uki-hash just before it"
    );
    assert_eq!(started(&|log| start(log, image)), "usual");
    assert_eq!(started(&|log| start(log, kernel)), alone);
    // After a loader, after another kernel, and after an image that came back.
    let loader = |log: &mut FirmwareLog| {
        log.program(b"a loader", "\\loader.efi");
    };
    let through_loader = started(&|log| {
        loader(log);
        start(log, image);
        start(log, kernel);
    });
    assert_eq!(through_loader, "usual");
    let past_the_image = started(&|log| {
        loader(log);
        start(log, kernel);
    });
    assert_eq!(past_the_image, alone);
    let twice = started(&|log| {
        start(log, image);
        start(log, kernel);
        start(log, kernel);
    });
    assert_eq!(twice, alone);
    let returned = started(&|log| {
        start(log, image);
        let action = b"Returning from EFI Application from Boot Option";
        log.event(4, 0x8000_0007, action, action);
        start(log, kernel);
    });
    assert_eq!(returned, alone);
    assert!(started(&loader).contains("no program was started"));
}

/// `SysPrep####` can name the image and then its kernel: the firmware measures nothing between the two, and its separator after.
#[test]
fn a_program_before_the_boot_options_is_none_of_the_image() {
    let denied = "nearest image usual: PCR 4: expected one separator, before all programs, \
                  as firmware measures it when it begins with its boot options";
    let rules = format!(
        "uki-hash = [\"{}\"]\nkernel-hash = [\"{}\"]\nsecure-boot = false\ncommand-line = [\"quiet ro\"]",
        hex::encode(Bank::Sha256.hash(b"the image")),
        hex::encode(Bank::Sha256.hash(b"its kernel")),
    );
    let policy = policy(&rules);
    let started = |separators: [bool; 2]| {
        let mut log = FirmwareLog::new();
        log.secure_boot(false);
        if separators[0] {
            log.boot_options();
        }
        log.program(b"the image", "\\x")
            .program(b"its kernel", "\\x");
        if separators[1] {
            log.boot_options();
        }
        log.section(".cmdline", b"quiet ro");
        let image = policy.image(&verified(&log));
        image.map_or_else(|why| why.to_string(), ToOwned::to_owned)
    };
    assert_eq!(started([true, false]), "usual");
    assert_eq!(started([false, true]), denied);
    assert_eq!(started([false, false]), denied);
    assert_eq!(started([true, true]), denied);
}

#[test]
fn a_driver_needs_a_rule_unless_its_authority_is_a_listed_one() {
    let driver = |log: &mut FirmwareLog| {
        log.driver(b"option ROM");
    };
    assert_eq!(signed(OWNERS, driver), "usual");
    let denied = unexplained(2, "driver \"not in a file\"", b"option ROM");
    assert_eq!(unsigned("secure-boot = false", driver), denied);
    let listed = format!("secure-boot = false\n{}", additions(b"option ROM"));
    assert_eq!(unsigned(&listed, driver), "usual");
    // With Secure Boot, and nothing said of whose keys: the recorded card's own driver is denied.
    let card = "b6b9cf6db3efeaba";
    let why = signed("secure-boot = true", |_| ());
    assert!(
        why.starts_with("nearest image usual: PCR 2: no rule explains driver"),
        "{why}"
    );
    assert!(why.contains(card), "{why}");
    // The value of PCR 7 says whose.
    let seven = hex::encode(&values(SIGNED_PCRS, Bank::Sha256)[&7]);
    let by_value = format!("secure-boot = true\npcrs.7 = [\"{seven}\"]");
    assert_eq!(signed(&by_value, |_| ()), "usual");
}

#[test]
fn a_partition_table_is_no_code_and_anything_else_beside_it_needs_a_rule() {
    let table = [&b"EFI PART"[..], &[7; 84]].concat();
    for kind in [0x8000_0006, 0x8000_000d] {
        let another_disk = |log: &mut FirmwareLog| {
            log.event(5, kind, &table, &table);
        };
        assert_eq!(signed(OWNERS, another_disk), "usual", "{kind:#x}");
    }
    // The digest is of something else, or the bytes are.
    for (measured, data) in [(&b"code"[..], &table[..]), (b"code", b"code")] {
        let foreign = |log: &mut FirmwareLog| {
            log.event(5, 0x8000_0006, measured, data);
        };
        let why = signed(OWNERS, foreign);
        assert!(
            why.starts_with("nearest image usual: PCR 5: no rule explains"),
            "{why}"
        );
        let listed = format!("{OWNERS}\n{}", additions(measured));
        assert_eq!(signed(&listed, foreign), "usual");
    }
}

#[test]
fn nobody_else_may_vouch() {
    let evil = hex::encode(Bank::Sha256.hash(b"the host's"));
    let stranger = |log: &mut FirmwareLog| {
        log.authority(b"the host's");
    };
    assert_eq!(
        signed(OWNERS, stranger),
        format!(
            "nearest image usual: authorities: expected owner.pem to vouch, \
             found an entry of db with sha256 {evil}"
        )
    );
    assert!(signed(&format!("{OWNERS}\n{}", additions(b"the host's")), stranger).contains(&evil));
    // A list of shim's, and what is only said.
    let mok = |log: &mut FirmwareLog| {
        log.event(7, 0x8000_00e0, b"MokList", b"harmless");
    };
    assert_eq!(
        signed(OWNERS, mok),
        "nearest image usual: authorities: expected owner.pem to vouch, \
         found EV_EFI_VARIABLE_AUTHORITY, said to be \"harmless\""
    );
    // Firmware that can be debugged, which no node takes either.
    let debugged = |log: &mut FirmwareLog| {
        log.event(7, 0x8000_0007, b"UEFI Debug Mode", b"UEFI Debug Mode");
    };
    assert_eq!(
        signed(OWNERS, debugged),
        "nearest image usual: authorities: expected owner.pem to vouch, \
         found EV_EFI_ACTION \"UEFI Debug Mode\""
    );
    let nobody = of_the_boot(IMAGE_LOG, "console=ttyS0 quiet", OWNERS);
    let why = told(&nobody, IMAGE_LOG, |_| ());
    assert_eq!(
        why,
        "nearest image usual: Secure Boot: expected on, found off"
    );
    let log = FirmwareLog::usual();
    let usual = of_the_boot(&log.0, "quiet ro", OWNERS);
    let why = usual.image(&machine(&log, &[])).unwrap_err().to_string();
    assert!(
        why.ends_with("expected owner.pem to vouch, found nobody"),
        "{why}"
    );
}
