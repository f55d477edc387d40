// SPDX-License-Identifier: Apache-2.0
//! The hooks that ask `nightlatchctl check` say what it says, and never end an installation.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sources::{read, top};

const PLUGIN: &str = "units/check/95-nightlatch-check.install";

/// An ESP with an image for version 1, and stand-ins for the programs that the plugin calls. It is gone after the test.
struct Machine(PathBuf);

impl Drop for Machine {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

impl Machine {
    fn new(name: &str, image: &str, control: &str) -> Self {
        let machine = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        drop(fs::remove_dir_all(&machine.0));
        machine.put(&format!("efi/EFI/Linux/{image}"), "");
        machine.put("status.json", "{}");
        machine.program("nightlatchctl", control);
        let journal = machine.0.join("journal");
        machine.program(
            "systemd-cat",
            &format!("echo \"$*\" >{0}; cat >>{0}", journal.display()),
        );
        machine
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.put(&format!("bin/{name}"), &format!("#!/bin/sh\n{text}\n"));
        let path = self.0.join("bin").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the plugin says on both streams, and what is in the journal then.
    fn run(&self, command: &str, layout: &str) -> (String, String) {
        let path = format!(
            "{}:{}",
            self.0.join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let mut plugin = Command::new(top().join(PLUGIN));
        plugin.args([command, "1", "/nowhere", "/vmlinuz"]);
        plugin
            .env("PATH", path)
            .env("KERNEL_INSTALL_LAYOUT", layout);
        plugin.env("KERNEL_INSTALL_BOOT_ROOT", self.0.join("efi"));
        plugin.env("KERNEL_INSTALL_ENTRY_TOKEN", "debian");
        plugin.env("NIGHTLATCH_STATUS", self.0.join("status.json"));
        let ended = plugin.output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        let said = [ended.stdout, ended.stderr].concat();
        let journal = fs::read_to_string(self.0.join("journal"));
        (
            String::from_utf8(said).unwrap(),
            journal.unwrap_or_default(),
        )
    }
}

#[test]
fn a_new_image_that_would_not_open_the_volumes_is_told_loudly_and_is_installed() {
    for image in ["debian-1.efi", "debian-1+3.efi"] {
        let no = Machine::new("check-no", image, "echo \"$1 $2: closed\" >&2; exit 77");
        let (said, journal) = no.run("add", "uki");
        let file = no.0.join("efi/EFI/Linux").join(image);
        let words = format!(
            "nightlatch: do not boot this image before this is settled:\ncheck {}: closed\n",
            file.display()
        );
        assert_eq!(said, words);
        let head = "--identifier=nightlatch-check --priority=crit\n";
        assert_eq!(journal, format!("{head}{words}"));
    }
    let yes = Machine::new("check-yes", "debian-1.efi", "echo opens; echo more");
    assert_eq!(yes.run("add", "uki"), ("opens\n".into(), String::new()));
}

#[test]
fn nothing_is_said_of_what_is_no_image_or_where_nightlatch_opened_nothing() {
    let nothing = (String::new(), String::new());
    let no = Machine::new("check-quiet", "debian-1.efi", "echo closed; exit 77");
    assert_ne!(no.run("add", "uki"), nothing);
    fs::remove_file(no.0.join("journal")).unwrap();
    assert_eq!(no.run("remove", "uki"), nothing);
    assert_eq!(no.run("add", "bls"), nothing);
    fs::remove_file(no.0.join("status.json")).unwrap();
    assert_eq!(no.run("add", "uki"), nothing);
    let other = Machine::new("check-other", "debian-10.efi", "echo closed; exit 77");
    assert_eq!(other.run("add", "uki"), nothing);
}

#[test]
fn the_hooks_start_the_service_that_there_is() {
    let service = read("units/nightlatch-check.service");
    assert!(service.contains("ExecStart=/usr/bin/nightlatchctl check\n"));
    let apt = read("units/check/nightlatch-check.apt.conf");
    assert!(apt.contains("systemctl start nightlatch-check.service"));
    // Neither is switched on by whoever makes images.
    let installed = read("mkosi/install").replace("nightlatch-checkpoint", "");
    assert!(!installed.contains("nightlatch-check"));
}
