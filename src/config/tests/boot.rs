// SPDX-License-Identifier: Apache-2.0
//! The table `[boot]`, and what it asks of the rest.

use super::*;
use crate::pcr::Bank;

#[test]
fn what_a_boot_must_be_has_the_documented_defaults_and_spellings() {
    let config = parse(STATE).unwrap();
    assert_eq!(config.tpm.pcrs.to_string(), "4+7+11+12+13");
    let boot = config.boot;
    assert_eq!(boot.secure_boot, SecureBoot::Required);
    assert_eq!(
        boot.authorities[0].as_str(),
        "/etc/nightlatch/authority.pem"
    );
    assert!(!boot.other_volumes && boot.added(Pcr::KERNEL_CONFIG).is_none());
    assert_eq!((boot.loader, boot.first_boot), (None, None));

    let value = "b0".repeat(32);
    let all = [
        "boot.secure-boot = \"required\"\nboot.loader = \"systemd-boot\"\n",
        "boot.first-boot = \"trusted\"\nboot.other-volumes = true\n",
        &format!("boot.pcr-13 = \"{value}\"\n{STATE}"),
    ]
    .concat();
    let boot = parse(&all).unwrap().boot;
    assert_eq!(boot.loader, Some(Loader::SystemdBoot));
    assert_eq!(boot.first_boot, Some(FirstBoot::Trusted));
    let added = boot.added(Pcr::SYSTEM_EXTENSIONS).unwrap();
    assert!(added.as_bytes() == [0xb0; 32] && added.is_of(Bank::Sha256));
    for wrong in ["b0".repeat(31), "x0".repeat(32), String::new()] {
        let message = refusal(&all.replace(&value, &wrong));
        assert!(
            message.contains("expected the value of a PCR, 64 or 96 hexadecimal digits"),
            "{message}"
        );
    }
}

#[test]
fn secure_boot_is_required_with_the_authorities_that_count() {
    let error = Config::parse(STATE).unwrap_err().to_string();
    assert!(
        error.contains("boot.authorities: expected the certificates"),
        "{error}"
    );
    let with = |head: &str| format!("{head}\n{STATE}");
    parse(&with("tpm.pcrs = [7, 12, 13]")).unwrap();
    parse(&with("tpm.pcrs = [4, 7, 11, 12, 13]")).unwrap();
    for (head, message) in [
        (
            "tpm.pcrs = [4, 11, 12]",
            "line 1: tpm.pcrs: expected 7 among them with boot.secure-boot = \"required\", or a boot without it could unseal",
        ),
        (
            "tpm.pcrs = [7, 11, 12, 13]",
            "line 1: tpm.pcrs: expected 4 beside 11, which is extended by the program that was booted, whichever that is",
        ),
        (
            "tpm = { pcrs = [4, 7, 13], fence-pcr = 4 }",
            "line 1: tpm.pcrs: expected 12 among them, or the host could add to the image once a secret is sealed",
        ),
        (
            "tpm.pcrs = [7, 12]",
            "line 1: tpm.pcrs: expected 13 among them with boot.secure-boot = \"required\", \
             or an extension that the host adds to the initrd could unseal",
        ),
        (
            "boot.first-boot = \"trusted\"",
            "line 1: boot.first-boot means nothing with secure-boot = \"required\" and no loader",
        ),
        (
            "tpm.pcrs = [7, 12]\nboot.pcr-13 = \"c0ffee\"",
            "line 3: boot.pcr-13: expected the value of a PCR, 64 or 96 hexadecimal digits, found \"c0ffee\"",
        ),
    ] {
        assert_eq!(refusal(&with(head)), message);
    }
    let twice = format!(
        "{}\n{STATE}",
        BOOT.replace(']', ", \"/etc/nightlatch/authority.pem\"]")
    );
    let error = Config::parse(&twice).unwrap_err().to_string();
    assert!(error.ends_with("authority.pem is there twice"), "{error}");
}

#[test]
fn what_is_sealed_to_a_key_is_sealed_to_no_image() {
    let signed = "tpm.signed.keys = [\"/etc/nightlatch/pcr.pem\"]";
    let with = |more: &str| format!("{signed}\n{more}\n{STATE}");
    let config = parse(&with("")).unwrap();
    assert_eq!(config.tpm.pcrs.to_string(), "7+12+13");
    let files: Vec<_> = config.files().map(FilePath::as_str).collect();
    assert!(files.contains(&"/etc/nightlatch/pcr.pem"), "{files:?}");
    // What else it is sealed to is for the administrator to say.
    let config = parse(&with("tpm.pcrs = [0, 7, 12, 13]")).unwrap();
    assert_eq!(config.tpm.pcrs.to_string(), "0+7+12+13");
    for (more, message) in [
        (
            "tpm.pcrs = [7, 11, 12, 13]",
            "expected no 11 beside tpm.signed: its value is another one in each image",
        ),
        (
            "tpm.pcrs = [4, 7, 11, 12, 13]",
            "expected no 11 beside tpm.signed: its value is another one in each image",
        ),
        (
            "tpm.pcrs = [4, 7, 12, 13]",
            "expected no 4 beside tpm.signed: its value is another one in each image",
        ),
        (
            "tpm.pcrs = [7, 9, 12, 13]",
            "expected no 9 beside tpm.signed: its value is another one in each image",
        ),
    ] {
        assert_eq!(refusal(&with(more)), format!("line 1: tpm.pcrs: {message}"));
    }
    let unsigned = "boot.secure-boot = \"not-required\"\nboot.first-boot = \"trusted\"\ntpm.pcrs = [2, 4, 9, 12]";
    let refused = Config::parse(&format!("{signed}\n{unsigned}\n{STATE}")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "line 1: tpm.signed: expected boot.secure-boot = \"required\": with \"not-required\" any program of the host's \
         extends PCR 11 as the image would"
    );
    for from_outside in ["/.extra/tpm2-pcr-public-key.pem", "/run/systemd/pcr.pem"] {
        assert_eq!(
            refusal(&format!("tpm.signed.keys = [\"{from_outside}\"]\n{STATE}")),
            format!(
                "line 1: tpm.signed.keys: expected a file of the initrd, found {from_outside}: what lies there can come from \
                 outside of the image"
            )
        );
    }
    for (keys, found) in [("[]", 0), ("[\"/a\", \"/b\"]", 2)] {
        assert_eq!(
            refusal(&format!("tpm.signed.keys = {keys}\n{STATE}")),
            format!("line 1: tpm.signed.keys: expected one file, found {found}")
        );
    }
}

#[test]
fn a_value_that_a_pcr_is_to_have_fits_its_bank_and_is_sealed_to() {
    let with = |tpm: &str, digits: usize| {
        let value = "a".repeat(digits);
        format!("{tpm}\nboot.pcr-13 = \"{value}\"\n{STATE}")
    };
    parse(&with("tpm.bank = \"sha256\"", 64)).unwrap();
    parse(&with("tpm.bank = \"sha384\"", 96)).unwrap();
    let message = refusal(&with("tpm.bank = \"sha384\"", 64));
    assert_eq!(
        message,
        "line 1: boot.pcr-13: expected 96 digits, for tpm.bank is sha384"
    );
    // Without Secure Boot 13 may be left out.
    let boot = "boot.secure-boot = \"not-required\"\nboot.first-boot = \"trusted\"";
    let without = &format!("tpm.pcrs = [2, 4, 9, 12]\n{boot}");
    Config::parse(&format!("{without}\n{STATE}")).unwrap();
    let message = Config::parse(&with(without, 64)).unwrap_err().to_string();
    assert_eq!(
        message,
        "line 1: boot.pcr-13: expected 13 among tpm.pcrs, found 2+4+9+12"
    );
}

#[test]
fn without_secure_boot_the_programs_and_a_trusted_first_boot_stand_in() {
    let boot = |pcrs: &str, first: &str, volume: &str| {
        let table = format!("[boot]\nsecure-boot = \"not-required\"\n{first}\n");
        Config::parse(&format!("{table}[tpm]\npcrs = {pcrs}\n{volume}"))
            .map_err(|error| error.to_string())
    };
    let trusted = "first-boot = \"trusted\"";
    boot("[2, 4, 9, 12]", trusted, STATE).unwrap();
    // The control for what follows: a volume that is there already, and one that the service gives the first secret to.
    let existing = STATE
        .replace("if-blank", "never")
        .replace(", \"generate\"", "");
    boot("[2, 4, 9, 12]", "", &existing).unwrap();
    let served = SERVICE.replace(", \"generate\"", "");
    boot("[2, 4, 9, 12]", "", &served).unwrap();

    for pcrs in ["[2, 4, 12]", "[4, 9, 12]", "[2, 9, 12]", "[7, 11, 12]"] {
        let error = boot(pcrs, trusted, STATE).unwrap_err();
        assert!(
            error.contains(
                "expected 2, 4, 9 and 12 among them with boot.secure-boot = \"not-required\", found"
            ),
            "{error}"
        );
    }
    for volume in [STATE, SERVICE] {
        let error = boot("[2, 4, 9, 12]", "", volume).unwrap_err();
        assert!(
            error.contains(
                "sources: the host chooses what the first boot is with boot.secure-boot = \"not-required\", \
                 so its secret has to come from the key service"
            ),
            "{error}"
        );
    }
    let listed = "authorities = [\"/etc/nightlatch/authority.pem\"]";
    let error = boot("[2, 4, 9, 12]", listed, &existing).unwrap_err();
    assert!(
        error.ends_with("boot.authorities means nothing with secure-boot = \"not-required\""),
        "{error}"
    );
}

#[test]
fn a_firmware_that_is_listed_has_a_part() {
    let listed = |parts: &str| format!("boot.firmware = {parts}\n{STATE}");
    let config = parse(&listed("[\"2026.08\", \"00ff\"]")).unwrap();
    let parts: Vec<&String> = config
        .boot
        .firmware
        .iter()
        .flat_map(Firmware::iter)
        .collect();
    assert_eq!(parts, ["2026.08", "00ff"]);
    assert!(parse(STATE).unwrap().boot.firmware.is_none());
    let digest = |digits: usize| listed(&format!("[\"{}\"]", "a".repeat(digits)));
    for digits in [39, 64] {
        parse(&digest(digits)).unwrap();
    }
    for digits in [40, 63, 96] {
        let error = refusal(&digest(digits));
        let sentence =
            format!("expected 64 digits in a digest, for tpm.bank is sha256, found {digits}: ");
        assert!(error.contains(&sentence), "{error}");
    }
    for parts in ["[]", "[\"\"]", "[\"2026.08\", \"\"]"] {
        let error = refusal(&listed(parts));
        let sentence = "expected versions or digests of the firmware, at least one and none empty";
        assert!(error.contains(sentence), "{error}");
    }
}

#[test]
fn a_loader_in_front_of_the_image_wants_a_first_secret_from_elsewhere() {
    let loader = "boot.loader = \"systemd-boot\"";
    let error = refusal(&format!("{loader}\n{STATE}"));
    assert!(
        error.contains(
            "the host chooses what the first boot is with boot.loader = \"systemd-boot\", which takes an initrd from the ESP"
        ),
        "{error}"
    );
    parse(&format!("{loader}\nboot.first-boot = \"trusted\"\n{STATE}")).unwrap();
    let served = SERVICE.replace(", \"generate\"", "");
    parse(&format!("{loader}\n{served}")).unwrap();
}
