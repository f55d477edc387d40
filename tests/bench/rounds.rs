// SPDX-License-Identifier: Apache-2.0
//! What is measured, in which order.

use serde_json::{Value, json};

use crate::chip::{Chip, counted};
use crate::files;
use crate::guest::{Disk, close, config, finish, ours, run as program, start, timed};
use crate::ours::mac;

const SYSTEMD: &str = "/usr/lib/systemd/systemd-cryptsetup";

/// Rounds of provisioning with btrfs, of which the tables give the median.
const PROVISIONINGS: usize = 3;
/// Unlocks of one volume, of which the first warms up.
const UNLOCKS_OF_ONE: usize = 4;
const UNLOCKS_OF_TWO: usize = 2;
/// What a volume gets where its configuration says nothing.
const DEFAULT_LEVEL: &str = "epoch";
const LEVELS: [&str; 3] = ["off", "identity", "epoch"];
/// Unlocks at each level, of which the table gives the median.
const UNLOCKS_OF_LEVEL: usize = 3;

pub(crate) fn run() {
    let mut chip = Chip::start();
    levels(&mut chip);
    provisioning(&mut chip);
    full_wipe();
    unlocking(&mut chip);
    files::list();
}

pub(crate) fn say(value: &Value) {
    println!("{value}");
}

fn provisioning(chip: &mut Chip) {
    let disks = ["blank4g", "blank64g", "blank1t"].map(Disk::named);
    let mut once = |disk: &Disk, file_system: &str| {
        disk.blank();
        chip.replace();
        let config = config(chip, &[disk], DEFAULT_LEVEL, file_system);
        let before = disk.bytes_written();
        let (seconds, report) = timed(|| ours("provision", &config));
        close();
        let bytes = disk.bytes_written() - before;
        say(&json!({
            "kind": "provision",
            "gib": disk.len_gib(),
            "file_system": file_system,
            "seconds": seconds,
            "bytes": bytes,
            "report": report,
        }));
        disk.blank();
    };
    for _ in 0..PROVISIONINGS {
        for disk in &disks {
            once(disk, "btrfs");
        }
    }
    for file_system in ["xfs", "ext4"] {
        once(&disks[0], file_system);
        once(&disks[2], file_system);
    }
}

/// The same volume made by stock cryptsetup, with and without its wipe.
fn full_wipe() {
    let disk = Disk::named("blank1g");
    let common = [
        "luksFormat",
        "--batch-mode",
        "--type=luks2",
        "--key-file=-",
        "--sector-size=4096",
        "--cipher=aes-xts-plain64",
        "--key-size=512",
        "--integrity=hmac-sha256",
        "--pbkdf=argon2id",
        "--pbkdf-force-iterations=4",
        "--pbkdf-memory=65536",
        "--pbkdf-parallel=4",
    ];
    for wipe in [false, true] {
        disk.blank();
        let mut arguments = common.to_vec();
        if !wipe {
            arguments.push("--integrity-no-wipe");
        }
        arguments.push(disk.as_str());
        let before = disk.bytes_written();
        let (seconds, _) = timed(|| program("cryptsetup", &arguments, &[0x5a; 32]));
        say(&json!({
            "kind": "cryptsetup",
            "gib": disk.len_gib(),
            "wipe": wipe,
            "seconds": seconds,
            "bytes": disk.bytes_written() - before,
        }));
    }
    disk.blank();
}

/// The same volume opened at each level: what the anchor costs.
fn levels(chip: &mut Chip) {
    let disk = Disk::named("blank4g");
    for level in LEVELS {
        disk.blank();
        chip.replace();
        let path = config(chip, &[&disk], level, "btrfs");
        ours("provision", &path);
        for _ in 0..UNLOCKS_OF_LEVEL {
            close();
            disk.cool();
            chip.reset();
            let path = config(chip, &[&disk], level, "btrfs");
            let ((seconds, report), commands) = counted(|| timed(|| ours("unlock", &path)));
            say(&json!({
                "kind": "level",
                "level": level,
                "commands": commands,
                "seconds": seconds,
                "report": report,
            }));
        }
        close();
    }
    say(&json!({ "kind": "mac", "microseconds": mac(&disk.path) }));
    disk.blank();
}

fn unlocking(chip: &mut Chip) {
    let both = ["blank4g", "blank4g2"].map(Disk::named);
    let [first, _] = &both;
    for round in 0..UNLOCKS_OF_ONE {
        unlock(chip, &[first], round == 0);
    }
    for _ in 0..UNLOCKS_OF_TWO {
        unlock(chip, &both.each_ref(), false);
    }
}

/// Opens the same new volumes with systemd, then with us.
fn unlock(chip: &mut Chip, disks: &[&Disk], warm_up: bool) {
    for disk in disks {
        disk.blank();
    }
    chip.replace();
    ours("provision", &config(chip, disks, DEFAULT_LEVEL, "btrfs"));
    let mut one = |who: &str, work: &dyn Fn(&Chip) -> Value| {
        close();
        for disk in disks {
            disk.cool();
        }
        chip.reset();
        let ((seconds, report), commands) = counted(|| timed(|| work(chip)));
        say(&json!({
            "kind": "unlock",
            "who": who,
            "volumes": disks.len(),
            "commands": commands,
            "warm_up": warm_up,
            "seconds": seconds,
            "report": report,
        }));
    };
    one("systemd-cryptsetup", &|chip| attach(chip, disks));
    one("nightlatch", &|chip| {
        ours("unlock", &config(chip, disks, DEFAULT_LEVEL, "btrfs"))
    });
    close();
}

/// A process for each volume, all at once, as systemd starts them.
fn attach(chip: &Chip, disks: &[&Disk]) -> Value {
    let options = &format!("tpm2-device={},headless=1", chip.shared());
    let attach = |disk: &&Disk| {
        start(
            SYSTEMD,
            &["attach", disk.name, disk.as_str(), "-", options],
            &[],
        )
    };
    let processes: Vec<_> = disks.iter().map(attach).collect();
    for process in processes {
        finish(process);
    }
    Value::Null
}
