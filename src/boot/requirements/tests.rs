// SPDX-License-Identifier: Apache-2.0
//! Boots that are not what they have to be end before a disk is looked at. The control is one that gets to its disk, which is
//! none.

use crate::boot::fixture::{Node, REQUIRED};
use crate::config::SecureBoot;
use crate::error::Exit;
use crate::key::pcr::PcrKey;
use crate::pcr::{Bank, Pcr};
use crate::sealed::signature::SIGNATURES_PATH;
use crate::status::Status;
use crate::support::firmware::{Firmware, HOST, LOG_PATH};
use crate::support::pcr_key::{self, pcr_11, signatures};

const NOT_REQUIRED: &str = "boot.secure-boot = \"not-required\"\ntpm.pcrs = [2, 4, 9, 12]\n";
const BOTH: &str = "ro efi=noruntime nohibernate\n";

/// What a boot ends with on a node with these lines, and its record.
fn ended(node: &Node) -> (String, Status) {
    let (result, status) = node.boot();
    let error = result.unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    // Nothing is left open, whatever it ended with.
    assert_eq!(status.fence_pcr, Some(Pcr::KERNEL_CONFIG));
    let seen_its_disk = error.to_string().contains("/dev/null");
    assert_eq!(status.start.is_some(), seen_its_disk, "{error}");
    (error.to_string(), status)
}

fn started(lines: &str, firmware: &Firmware) -> (String, Status) {
    let node = Node::with(lines, BOTH);
    node.start(firmware);
    ended(&node)
}

/// The sentence of a boot that did not get to its disk.
fn refusal(lines: &str, firmware: &Firmware) -> String {
    let (said, _) = started(lines, firmware);
    let said = said.strip_prefix("proving the boot: ");
    said.unwrap().to_owned()
}

#[test]
fn a_boot_as_it_has_to_be_gets_to_its_disk_and_says_how_it_was_started() {
    let (said, status) = started(REQUIRED, &Firmware::signed());
    assert!(said.contains("/dev/null"), "{said}");
    let start = status.start.unwrap();
    assert_eq!(start.secure_boot, SecureBoot::Required);
    assert!(start.gives_up.is_empty() && start.tried_in_vain.is_empty());
    let digest = hex::encode(Bank::Sha256.hash(b"the image"));
    let program = format!("{digest} program \"\\EFI\\BOOT\\BOOTX64.EFI\"");
    assert_eq!(start.programs, [program]);

    // What is asked for less is said.
    let lines = format!("{NOT_REQUIRED}boot.first-boot = \"trusted\"\n");
    let (said, status) = started(&lines, &Firmware::unsigned());
    assert!(said.contains("/dev/null"), "{said}");
    let start = status.start.unwrap();
    assert_eq!(start.secure_boot, SecureBoot::NotRequired);
    let about: Vec<&str> = start
        .gives_up
        .iter()
        .filter_map(|sentence| sentence.split_once(':'))
        .map(|(about, _)| about)
        .collect();
    assert_eq!(
        about,
        [
            "boot.secure-boot = \"not-required\"",
            "boot.first-boot = \"trusted\""
        ]
    );
}

/// The image says of itself that it is the owner's, before anything is read, sealed or asked for.
#[test]
fn an_image_without_a_signature_of_its_own_value_of_pcr_11_ends_the_boot() {
    let (key, other) = (pcr_key::new(), pcr_key::new());
    let lines = format!("{REQUIRED}tpm.signed.keys = [\"/pcr.pem\"]\n");
    let started = || {
        let node = Node::with(&lines, BOTH);
        node.start(&Firmware::signed());
        node
    };
    let value = pcr_11(&mut started().tpm());
    let ends = |key: &PcrKey, value: Option<&[u8]>| {
        let node = started();
        node.write("pcr.pem", key.public().pem().as_bytes());
        if let Some(value) = value {
            let file = signatures(&other, &[value]).to_json().unwrap();
            node.write(SIGNATURES_PATH, file.as_bytes());
        }
        let (result, _) = node.boot();
        result.unwrap_err()
    };
    let missing = ends(&other, None);
    assert_eq!(missing.exit(), Exit::Refused);
    let missing = missing.to_string();
    assert!(
        missing.starts_with("tpm.signed: ")
            && missing
                .contains("systemd-stub has laid no signatures there: the image carries none"),
        "{missing}"
    );
    let foreign = ends(&key, Some(&value)).to_string();
    assert!(
        foreign.starts_with("preparing TPM: tpm.signed: the image carries no signature of PCR 11 by the key of the configuration"),
        "{foreign}"
    );
    let of_another = ends(&other, Some(&[7; 32])).to_string();
    assert!(
        of_another.contains("are of other values of PCR 11 than this boot's"),
        "{of_another}"
    );
    // The control gets to its disk.
    let good = ends(&other, Some(&value)).to_string();
    assert!(good.contains("/dev/null"), "{good}");
}

/// Who has a vendor's certificate in the list takes what that vendor signs, and nothing else would tell it.
#[test]
fn a_vendors_certificate_is_no_authority_beside_a_key_that_signs_images() {
    const DEBIAN: &[u8] = include_bytes!("../../../tests/fixtures/evidence/debian-uefi-ca.der");
    let key = pcr_key::new();
    let lines = "boot.authorities = [\"/authority.der\", \"/vendor.der\"]\n";
    let said = |more: &str, vendor: &[u8]| {
        let node = Node::with(&format!("{lines}{more}"), BOTH);
        node.start(&Firmware::signed());
        node.write("vendor.der", vendor);
        node.write("pcr.pem", key.public().pem().as_bytes());
        let value = pcr_11(&mut node.tpm());
        let file = signatures(&key, &[&value]).to_json().unwrap();
        node.write(SIGNATURES_PATH, file.as_bytes());
        let (result, _) = node.boot();
        result.unwrap_err()
    };
    let signed = "tpm.signed.keys = [\"/pcr.pem\"]\n";
    let refused = said(signed, DEBIAN);
    assert_eq!(refused.exit(), Exit::Config);
    let start = "proving the boot: boot.authorities: Debian Secure Boot CA is listed";
    assert!(refused.to_string().starts_with(start), "{refused}");
    // The controls: another certificate beside the key, and this one where PCR 4 is sealed to.
    for (more, vendor) in [(signed, HOST), ("", DEBIAN)] {
        let good = said(more, vendor).to_string();
        assert!(good.contains("/dev/null"), "{good}");
    }
}

#[test]
fn secure_boot_off_or_by_another_authority_ends_the_boot() {
    assert!(refusal(REQUIRED, &Firmware::unsigned()).starts_with("Secure Boot is off: turn it on"));
    let said = refusal(REQUIRED, &Firmware::signed_by(HOST));
    assert!(
        said.starts_with("somebody vouched for what ran whom boot.authorities does not list: "),
        "{said}"
    );
    let node = Node::with(REQUIRED, BOTH);
    node.write("authority.der", HOST);
    node.start(&Firmware::signed_by(HOST));
    assert!(ended(&node).0.contains("/dev/null"));
}

#[test]
fn a_machine_without_a_firmwares_log_is_refused_like_one_whose_log_does_not_replay() {
    for lines in [REQUIRED, NOT_REQUIRED] {
        let node = Node::with(lines, BOTH);
        node.start(&Firmware::signed());
        std::fs::remove_file(node.top.join(LOG_PATH)).unwrap();
        let said = ended(&node).0;
        assert!(
            said.ends_with(
                "there is no log of the firmware's measurements: \
                 start the machine by UEFI firmware that measures into this TPM"
            ),
            "{said}"
        );

        // The host's program replaced the log, and had measured something before.
        let node = Node::with(lines, BOTH);
        let mut tpm = node.tpm();
        tpm.event(Pcr::BOOT_PROGRAMS, b"the host's program")
            .unwrap();
        drop(tpm);
        node.start(&Firmware::signed());
        let said = ended(&node).0;
        assert!(
            said.starts_with("proving the boot: the firmware's log does not replay to PCR 4: "),
            "{said}"
        );

        let node = Node::with(lines, BOTH);
        node.start(&Firmware::signed());
        node.write(LOG_PATH, b"no log");
        assert!(ended(&node).0.contains("check firmware-log: "));
    }
}

#[test]
fn what_is_added_to_the_image_ends_the_boot_and_is_named() {
    let added = Firmware::signed().added(12, "systemd.debug_shell=ttyS0");
    let said = refusal(REQUIRED, &added);
    assert!(
        said.starts_with("PCR 12 is not zero but ")
            && said.contains("command line \"systemd.debug_shell=ttyS0\""),
        "{said}"
    );
    let extension = Firmware::signed().added(13, "an extension");
    assert!(refusal(REQUIRED, &extension).starts_with("PCR 13 is not zero but "));
    let unsigned = Firmware::unsigned().added(13, "an extension");
    assert!(refusal(NOT_REQUIRED, &unsigned).starts_with("PCR 13 is not zero but "));
}

#[test]
fn another_program_before_the_image_ends_the_boot_unless_it_is_the_loader() {
    let loaded = Firmware::with_secure_boot(true)
        .authority(crate::support::firmware::OWNER)
        .program(b"a loader")
        .program(b"the image")
        .image();
    assert!(refusal(REQUIRED, &loaded).starts_with("another program ran before the image: "));
    let lines = format!("{REQUIRED}boot.loader = \"systemd-boot\"\n");
    let (said, status) = started(&lines, &loaded);
    assert!(said.contains("/dev/null"), "{said}");
    let start = status.start.unwrap();
    assert_eq!((start.programs.len(), start.gives_up.len()), (2, 1));
}

#[test]
fn a_command_line_without_the_words_it_needs_ends_the_boot_before_the_tpm_is_opened() {
    for (lines, command_line, missing) in [
        (REQUIRED, "ro", "nohibernate"),
        (NOT_REQUIRED, "nohibernate", "efi=noruntime"),
    ] {
        let node = Node::with(lines, command_line);
        node.start(&Firmware::signed());
        let said = ended(&node).0;
        assert_eq!(
            said,
            format!(
                "the kernel's command line lacks {missing}: \
                 add it to the command line of the image, which is measured"
            )
        );
    }
    let node = Node::with(REQUIRED, "nohibernate");
    node.start(&Firmware::signed());
    assert!(ended(&node).0.contains("/dev/null"));
}

#[test]
fn an_authority_that_is_no_certificate_is_a_fault_of_the_configuration() {
    let node = Node::with(REQUIRED, BOTH);
    node.start(&Firmware::signed());
    node.write("authority.der", b"hello");
    let (result, _) = node.boot();
    let error = result.unwrap_err();
    assert_eq!(error.exit(), Exit::Config);
    assert_eq!(
        error.to_string(),
        "proving the boot: boot.authorities: /authority.der: expected certificates in PEM, or one in DER"
    );
}
