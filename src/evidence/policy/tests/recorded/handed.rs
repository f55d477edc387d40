// SPDX-License-Identifier: Apache-2.0
//! What the kernel, systemd and the stub were handed or say of themselves, beside what the firmware started.

use super::*;

#[test]
fn the_kernel_is_handed_its_own_two_things_and_no_more() {
    let initrd = |log: &mut FirmwareLog| {
        log.tagged(0x8f3b_22ec, b"the host's initrd", "Linux initrd");
    };
    let name = "tag 0x8f3b22ec, said to be \"Linux initrd\"";
    let denied = unexplained(9, name, b"the host's initrd");
    assert_eq!(signed(OWNERS, initrd), denied);
    let listed = format!("{OWNERS}\n{}", additions(b"the host's initrd"));
    assert_eq!(signed(&listed, initrd), "usual");
    let grub = |log: &mut FirmwareLog| {
        log.event(9, 0xd, b"vmlinuz", b"(hd0)/vmlinuz\0");
    };
    let why = signed(OWNERS, grub);
    assert_eq!(
        why,
        unexplained(9, "EV_IPL, said to be \"(hd0)/vmlinuz\"", b"vmlinuz")
    );
}

/// Stubs of systemd from 261 on put an initrd that the host registered before the image's own, and every other PCR is as ever.
#[test]
fn an_initrd_that_is_named_is_the_only_one() {
    let log = Log::firmware(SIGNED_LOG).unwrap();
    let events = log.events(Bank::Sha256, Registers::of(&[9]).unwrap());
    let initrd = events
        .iter()
        .find(|event| event.what.to_string().starts_with("tag 0x8f3b22ec"))
        .unwrap();
    let digest = hex::encode(&initrd.digest);
    let listed = |digests: &str| signed(&format!("{OWNERS}\ninitrd-hash = [{digests}]"), |_| ());
    assert_eq!(listed(&format!("\"{digest}\"")), "usual");
    let other = "5a".repeat(32);
    assert_eq!(listed(&format!("\"{other}\", \"{digest}\"")), "usual");
    let why = listed(&format!("\"{other}\""));
    assert!(
        why.starts_with("nearest image usual: PCR 9: no rule explains tag 0x8f3b22ec")
            && why.ends_with(&digest),
        "{why}"
    );
}

#[test]
fn where_the_rules_leave_open_what_ran_the_kernels_own_two_need_one() {
    let four = hex::encode(&values(SIGNED_PCRS, Bank::Sha256)[&4]);
    let eleven = hex::encode(&values(SIGNED_PCRS, Bank::Sha256)[&11]);
    let zeros = "00".repeat(32);
    let image = |rules: &str| {
        let image = format!("[[image]]\nname = \"usual\"\n{OWNERS}\n{rules}\n");
        let policy = Policy::parse(&format!("{EK}{image}{ROLE}"), |_| {
            Ok(SIGNED_CERTIFICATE.into())
        });
        told(&policy.unwrap(), SIGNED_LOG, |_| ())
    };
    let by_value = |pcrs: &str| image(&format!("pcrs = {{ {pcrs} }}"));
    let (four, eleven) = (format!("4 = [\"{four}\"]"), format!("11 = [\"{eleven}\"]"));
    let twelve = format!("12 = [\"{zeros}\"]");
    assert_eq!(by_value(&format!("{four}, {eleven}, {twelve}")), "usual");
    for pcrs in [format!("{four}, {eleven}"), format!("{four}, {twelve}")] {
        let why = by_value(&pcrs);
        assert_eq!(
            why.matches("PCR 9: no rule explains tag").count(),
            2,
            "{why}"
        );
    }
    // And without a word about the programs these are denied by themselves.
    let why = by_value(&format!("{eleven}, {twelve}"));
    assert!(why.contains("PCR 4: no rule explains program"), "{why}");
}

#[test]
fn extensions_and_keys_of_shims_need_a_rule() {
    for (pcr, what) in [(13, b"an extension"), (14, b"MOK, a key..")] {
        let foreign = |log: &mut FirmwareLog| {
            log.event(pcr, 0xd, what, &utf16("sysext"));
        };
        let pcr = u8::try_from(pcr).unwrap();
        let denied = unexplained(pcr, "EV_IPL, said to be \"sysext\"", what);
        assert_eq!(signed(OWNERS, foreign), denied);
        assert_eq!(
            signed(&format!("{OWNERS}\n{}", additions(what)), foreign),
            "usual"
        );
    }
    // A value says all there is to say.
    let value = Bank::Sha256.extended(&[0; 32], &Bank::Sha256.hash(b"an extension"));
    let by_value = format!("{OWNERS}\npcrs.13 = [\"{}\"]", hex::encode(value));
    let extension = |log: &mut FirmwareLog| {
        log.event(13, 0xd, b"an extension", b"");
    };
    assert_eq!(signed(&by_value, extension), "usual");
    assert!(signed(&by_value, |_| ()).starts_with("nearest image usual: PCR 13: expected"));
}

#[test]
fn the_firmware_is_looked_at_where_it_is_listed() {
    let blob = |log: &mut FirmwareLog| {
        log.event(0, 0x8000_0008, b"a volume", b"");
    };
    assert_eq!(signed(OWNERS, blob), "usual");
    let log = Log::firmware(SIGNED_LOG).unwrap();
    let parts = log.events(Bank::Sha256, Registers::of(&[0]).unwrap());
    let parts: Vec<String> = parts
        .iter()
        .filter(|event| event.what.to_string().contains("PLATFORM_FIRMWARE"))
        .map(|event| format!("\"{}\"", hex::encode(&event.digest)))
        .collect();
    assert_eq!(parts.len(), 2);
    // The recorded firmware has an empty version.
    let listed = format!("{OWNERS}\nfirmware = [\"\", {}]", parts.join(", "));
    assert_eq!(signed(&listed, |_| ()), "usual");
    let why = signed(&listed, blob);
    assert!(why.contains("firmware: expected version \"\" or "), "{why}");
    assert!(
        why.ends_with(&hex::encode(Bank::Sha256.hash(b"a volume"))),
        "{why}"
    );
    let newer = listed.replace("[\"\",", "[\"2026.08\",");
    assert!(signed(&newer, |_| ()).contains("found EV_S_CRTM_VERSION"));
}

#[test]
fn what_systemd_measures_of_itself_needs_no_rule() {
    let policy = of_the_boot(SIGNED_LOG, "console=ttyS0 nohibernate", OWNERS);
    let log = FirmwareLog(SIGNED_LOG.to_vec());
    let separators = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14]
        .map(|pcr| record(pcr, "os-separator", "os-separator"))
        .concat();
    let index = record(9, "nvpcr-init", "nvpcr-init:hardware:0x1d10200:000bff");
    let userspace = [separators, index].concat();
    assert_eq!(policy.image(&machine(&log, &userspace)), Ok("usual"));
    // Nothing else passes for it.
    for (pcr, kind, text) in [
        (13, "os-separator", "evil"),
        (14, "nvpcr-init", "nvpcr-init:x"),
    ] {
        let why = policy.image(&machine(&log, &record(pcr, kind, text)));
        let why = why.unwrap_err().to_string();
        assert!(
            why.contains(&format!("PCR {pcr}: no rule explains {kind}")),
            "{why}"
        );
    }
}

#[test]
fn a_pcr_without_a_log_has_to_have_a_value_or_be_untouched() {
    let zeros = "00".repeat(32);
    let four = hex::encode(&values(SIGNED_PCRS, Bank::Sha256)[&4]);
    let pcrs = format!("pcrs = {{ 4 = [\"{four}\"], 11 = [\"{zeros}\"], 12 = [\"{zeros}\"] }}");
    let policy = policy(&pcrs);
    let value = |pcr: u8| match pcr {
        4 => hex::decode(&four).unwrap(),
        _ => vec![0; 32],
    };
    let quoted = |touched: Option<u8>| {
        let mut pcrs: crate::evidence::Values = (0..16).map(|pcr| (pcr, value(pcr))).collect();
        if let Some(pcr) = touched {
            pcrs.insert(pcr, vec![1; 32]);
        }
        let registers: Registers = pcrs.keys().copied().collect();
        let sent = Sent::signed(&Key::new(7), &Statement::over(&pcrs), pcrs.clone());
        let expected = Expected {
            pcrs: registers,
            ..expected()
        };
        verify(&expected, &sent.presented()).unwrap()
    };
    assert_eq!(policy.image(&quoted(None)), Ok("usual"));
    for pcr in [2, 5, 9, 13, 14] {
        let why = policy.image(&quoted(Some(pcr))).unwrap_err().to_string();
        let expected = format!("nearest image usual: PCR {pcr}: the policy has no value for it");
        assert!(why.starts_with(&expected), "{why}");
    }
}
