// SPDX-License-Identifier: Apache-2.0
//! Boots that were not started as they have to be: no disk is opened for them, and none is formatted.

use nightlatch::config::Config;
use nightlatch::error::Exit;
use nightlatch::volume::How;

use crate::boots;
use crate::disk::{self, BOOT, Disk, is_blank};
use crate::support::firmware::{Firmware, HOST, OWNER};
use crate::tpm_private::Private;

const DISK_MIB: u64 = 160;
const NOT_REQUIRED: &str = "boot.secure-boot = \"not-required\"\nboot.first-boot = \"trusted\"\ntpm.pcrs = [2, 4, 9, 12]\n";

struct Node {
    disk: Disk,
    tpm: Private,
    /// What the configuration says of the boot.
    lines: &'static str,
}

impl Node {
    fn new(lines: &'static str) -> Self {
        Self {
            disk: Disk::in_memory(DISK_MIB),
            tpm: Private::start(),
            lines,
        }
    }

    /// A boot that this firmware started: how the volume was opened, or the sentence of a refusal that wrote nothing.
    fn boot(&mut self, firmware: &Firmware) -> Result<How, String> {
        self.tpm.reset_to(firmware);
        self.boot_as_it_is()
    }

    fn boot_as_it_is(&self) -> Result<How, String> {
        let port = self.tpm.port();
        let volume = disk::lines(&self.disk, &[]);
        let text = format!("tpm.tcti = \"swtpm:port={port}\"\n{}{volume}", self.lines);
        let written = self.disk.bytes_written();
        match boots::boot(&Config::parse(&text).unwrap(), || {}) {
            Ok(volume) => Ok(volume.how),
            Err(error) => {
                assert_eq!(error.exit(), Exit::Refused, "{error}");
                assert_eq!(self.disk.bytes_written(), written, "it wrote to the disk");
                println!("    {error}");
                Err(error.to_string())
            }
        }
    }
}

/// What the host can start in place of the owner's image, or around it, and what is said of it.
fn attacks() -> Vec<(Firmware, &'static str)> {
    vec![
        (Firmware::unsigned(), "Secure Boot is off"),
        // The genuine image signed anew by the host, whose key is in db as well.
        (
            Firmware::signed_by(HOST),
            "somebody vouched for what ran whom boot.authorities does not list",
        ),
        // A program of the host's before it.
        (
            Firmware::with_secure_boot(true)
                .authority(HOST)
                .program(b"the host's")
                .authority(OWNER)
                .program(b"the image")
                .image(),
            "somebody vouched for what ran whom boot.authorities does not list",
        ),
        // The owner's own loader, which takes an initrd from the host's disk.
        (
            Firmware::with_secure_boot(true)
                .authority(OWNER)
                .program(b"the loader")
                .program(b"the image")
                .image(),
            "another program ran before the image",
        ),
        (
            Firmware::signed().added(12, "systemd.debug_shell=ttyS0"),
            "PCR 12 is not zero",
        ),
        (
            Firmware::signed().added(13, "a system extension"),
            "PCR 13 is not zero",
        ),
        // A kernel started by a way around the firmware's own.
        (
            Firmware::with_secure_boot(true).authority(OWNER).image(),
            "the firmware measured no program into PCR 4",
        ),
    ]
}

#[test]
fn an_image_that_another_vouched_for_gets_no_disk_neither_a_blank_one_nor_the_owners() {
    let mut node = Node::new(BOOT);
    for (firmware, said) in attacks() {
        let error = node.boot(&firmware).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    assert!(is_blank(&node.disk.contents()));
    // The controls: the owner's start makes a volume, and opens it after everything that was tried.
    assert_eq!(node.boot(&Firmware::signed()), Ok(How::Formatted));
    let made = node.disk.contents();
    for (firmware, said) in attacks() {
        let error = node.boot(&firmware).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    assert!(node.disk.contents() == made, "the disk was changed");
    assert_eq!(node.boot(&Firmware::signed()), Ok(How::Unlocked));
}

#[test]
fn a_machine_without_a_log_that_replays_gets_no_disk() {
    for lines in [BOOT, NOT_REQUIRED] {
        let mut node = Node::new(lines);
        // The log is that of an honest start, and the host's program was measured before.
        let host = Firmware::default().program(b"the host's");
        let honest = Firmware::signed().loaded(b"the initrd");
        node.tpm.reset_to(&host);
        honest.start_machine(&mut node.tpm.open());
        let error = node.boot_as_it_is().unwrap_err();
        assert!(error.contains("does not replay to PCR 4"), "{error}");

        node.tpm.reset_to(&honest);
        Firmware::forget_log();
        let error = node.boot_as_it_is().unwrap_err();
        assert!(
            error.contains("there is no log of the firmware's measurements"),
            "{error}"
        );
        assert!(is_blank(&node.disk.contents()));
        assert_eq!(node.boot(&honest), Ok(How::Formatted));
    }
}

/// Without Secure Boot it is the seal that tells programs, drivers and initrds apart.
#[test]
fn without_secure_boot_another_program_or_initrd_finds_the_volume_sealed() {
    let mut node = Node::new(NOT_REQUIRED);
    assert_eq!(node.boot(&Firmware::unsigned()), Ok(How::Formatted));
    let other = Firmware::with_secure_boot(false)
        .program(b"another image")
        .image()
        .loaded(b"the initrd");
    // And of the image that which initrd its kernel was handed.
    let handed = Firmware::with_secure_boot(false)
        .program(b"the image")
        .image()
        .loaded(b"the host's");
    for firmware in [other, handed] {
        let error = node.boot(&firmware).unwrap_err();
        assert!(error.contains("made under other PCR values"), "{error}");
    }
    assert_eq!(node.boot(&Firmware::unsigned()), Ok(How::Unlocked));
}

/// A boot option in front of the image changes PCR 4, and the refusal says so. The disk opens when it is gone.
#[test]
fn a_boot_option_tried_in_vain_is_named_by_the_refusal() {
    let mut node = Node::new(BOOT);
    assert_eq!(node.boot(&Firmware::signed()), Ok(How::Formatted));
    let tried = Firmware::with_secure_boot(true)
        .option("UEFI Misc Device")
        .authority(OWNER)
        .program(b"the image")
        .image();
    let error = node.boot(&tried).unwrap_err();
    assert!(
        error.contains(
            "the firmware tried in vain before the image, and PCR 4 has it: \"UEFI Misc Device\"; \
             put the image's disk first"
        ),
        "{error}"
    );
    assert_eq!(node.boot(&Firmware::signed()), Ok(How::Unlocked));
}
