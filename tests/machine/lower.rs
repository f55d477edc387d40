// SPDX-License-Identifier: Apache-2.0
//! The image below an overlay.

use std::fs;
use std::path::Path;

use nightlatch::config::Config;
use nightlatch::error::{Error, Exit};
use nightlatch::volume::root;

use crate::disk::{Disk, run};

/// A directory in the place of `/`, with the kernel's command line.
const TOP: &str = "/tmp/lower-top";

/// What a boot says of the image below, with this command line.
fn check(lower: &str, command_line: &str) -> Result<(), Error> {
    let top = Path::new(TOP);
    fs::create_dir_all(top.join("proc")).unwrap();
    fs::write(top.join("proc/cmdline"), command_line).unwrap();
    root::check(top, &config(lower))
}

fn config(lower: &str) -> Config {
    Config::parse(&format!(
        "[boot]\nsecure-boot = \"not-required\"\nfirst-boot = \"trusted\"\n[tpm]\npcrs = [2, 4, 9, 12]\n\
         [[volume]]\nname = \"system\"\nrole = \"root\"\nmode = \"overlay\"\nlower = \"{lower}\"\ndevice = \"/dev/none\"\n\
         sources = [\"tpm\"]\n"
    ))
    .unwrap()
}

/// Formats a verity device, and gives its root hash.
fn format(data: &Disk) -> String {
    let arguments = ["format", data.as_str(), "/tmp/hashes"];
    let said = run("veritysetup", &arguments, b"");
    let mut hash = said
        .lines()
        .filter_map(|line| line.strip_prefix("Root hash:"));
    hash.next().unwrap().trim().to_owned()
}

fn open(data: &Disk, hash: &str, more: &[&str]) {
    let arguments = ["open", data.as_str(), "lower", "/tmp/hashes", hash];
    run("veritysetup", &[&arguments[..], more].concat(), b"");
}

fn close() {
    run("veritysetup", &["close", "lower"], b"");
}

#[test]
fn only_a_mapping_of_dm_verity_may_be_below_an_overlay() {
    let data = Disk::in_memory(65);
    let hash = format(&data);
    let line = format!("roothash={hash}");
    open(&data, &hash, &[]);
    let verified = check("/dev/mapper/lower", &line);
    close();
    verified.unwrap();

    let plain = check(data.as_str(), &line).unwrap_err();
    assert_eq!(plain.exit(), Exit::Refused);
    let linear = format!("0 1024 linear {} 0\n", data.as_str());
    run("dmsetup", &["create", "lower"], linear.as_bytes());
    let mapped = check("/dev/mapper/lower", &line);
    run("dmsetup", &["remove", "--retry", "lower"], b"");
    assert_eq!(
        mapped.unwrap_err().to_string(),
        "checking lower image /dev/mapper/lower: target: expected \"verity\", found \"linear\""
    );
}

#[test]
fn an_image_is_refused_that_verity_vouches_for_with_another_root_hash_or_lets_corruption_through() {
    let data = Disk::in_memory(65);
    let hash = format(&data);
    let measured = format!("quiet roothash={}", hash.to_uppercase());
    let other = format!("roothash={}", "0".repeat(hash.len()));

    open(&data, &hash, &[]);
    let verdicts = [&measured, &other, "quiet"].map(|line| check("/dev/mapper/lower", line));
    close();
    let [control, replaced, unnamed] = verdicts;
    control.unwrap();
    for (error, said) in [
        (replaced.unwrap_err(), "root hash: expected \"000"),
        (unnamed.unwrap_err(), "no root hash is measured for it"),
    ] {
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }

    for option in ["--ignore-corruption", "--check-at-most-once"] {
        open(&data, &hash, &[option]);
        let verdict = check("/dev/mapper/lower", &measured);
        close();
        let error = verdict.unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{error}");
        assert!(
            error
                .to_string()
                .contains("so what it vouches for may change"),
            "{error}"
        );
    }
}
