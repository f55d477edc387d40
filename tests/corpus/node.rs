// SPDX-License-Identifier: Apache-2.0
//! A state disk of Constellation from first boot to joined node, by real `cryptsetup`, in the eyes of `nightlatchctl`.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::PoisonError;

use serde_json::{Value, json};

use crate::hostile::base::{Bases, UUID};
use crate::judge::Disk;
use crate::{ALONE, Place};

/// What disk-mapper asks for, at the least cost.
const PBKDF: &str =
    "--pbkdf argon2id --pbkdf-force-iterations 4 --pbkdf-memory 32 --pbkdf-parallel 1";

fn cryptsetup(words: &str, paths: &[&Path]) {
    let output = Command::new("cryptsetup")
        .args(words.split(' '))
        .args(paths)
        .stdin(Stdio::null())
        .output()
        .expect("cryptsetup is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "cryptsetup {words}: {said}");
}

fn header_check(disk: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nightlatchctl"))
        .args(["--json", "header", "check", "--profile", "constellation"])
        .arg(disk)
        .output()
        .unwrap()
}

/// Checks the disk's header area alone: dm-integrity's superblock takes device-mapper to make.
fn report(place: &Place, disk: &Disk) -> (Option<i32>, Value) {
    let header = place.file("header");
    let before = disk.start(16 << 20);
    std::fs::write(&header, &before).unwrap();
    let output = header_check(&header);
    assert!(
        std::fs::read(&header).unwrap() == before,
        "the file was written to"
    );
    let said = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_state_disk_is_accepted_from_its_first_boot_on_and_refused_with_rule_and_field() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new("node");
    let mut draft = Bases::real(&place.0).constellation;
    draft.edit(|json| json["tokens"] = json!({}));
    let disk = Disk::new(&place.file("state.img"), &draft.finish());
    let (exit, said) = report(&place, &disk);
    assert_eq!(exit, Some(77));
    let error = said["error"].as_str().unwrap();
    assert!(
        error.ends_with("rule C13: tokens: expected [0], found []"),
        "{error}"
    );

    // The first boot formats; joining changes the passphrase in keyslot 0 and the token.
    let (first, key, next) = (
        place.file("passphrase"),
        place.file("token"),
        place.file("next"),
    );
    let mut replace = "";
    for initialized in [false, true] {
        let token = json!({
            "type": "constellation-state-disk", "keyslots": [], "diskIsInitialized": initialized,
        });
        std::fs::write(&key, token.to_string()).unwrap();
        cryptsetup(
            &format!("token import --token-id 0{replace} --json-file"),
            &[&key, &disk.0],
        );
        replace = " --token-replace";
        let (exit, said) = report(&place, &disk);
        assert_eq!(exit, Some(0), "{said}");
        assert_eq!(said["profile"], "constellation");
        assert_eq!(
            (&said["uuid"], &said["initialized"]),
            (&json!(UUID), &json!(initialized))
        );
        if !initialized {
            std::fs::write(&next, [7; 32]).unwrap();
            let change = format!("luksChangeKey --batch-mode --key-slot 0 {PBKDF} --key-file");
            cryptsetup(&change, &[&first, &disk.0, &next]);
            cryptsetup("open --test-passphrase --key-file", &[&next, &disk.0]);
        }
    }

    cryptsetup("config --key-slot 0 --priority prefer", &[&disk.0]);
    let (exit, said) = report(&place, &disk);
    assert_eq!(exit, Some(77));
    let error = said["error"].as_str().unwrap();
    let expected = "rule C11: keyslots.0.priority: expected 1, found 2";
    assert!(error.ends_with(expected), "{error}");
}
