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
/// Pairs of unlocks, of which the first warms up.
const PAIRS: usize = 13;
/// What a volume gets where its configuration says nothing.
const DEFAULT_LEVEL: &str = "epoch";
const LEVELS: [&str; 3] = ["off", "identity", "epoch"];

pub(crate) fn run() {
    let mut chip = Chip::start();
    let both = ["blank4g", "blank4g2"].map(Disk::named);
    let [first, _] = &both;
    for level in LEVELS {
        unlocks(&mut chip, &[first], level);
    }
    say(&json!({ "kind": "mac", "microseconds": mac(&first.path) }));
    unlocks(&mut chip, &both.each_ref(), DEFAULT_LEVEL);
    provisioning(&mut chip);
    full_wipe();
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

/// Opens the same volumes with systemd, then with us, and again. The first pair warms up.
fn unlocks(chip: &mut Chip, disks: &[&Disk], level: &str) {
    for disk in disks {
        disk.blank();
    }
    chip.replace();
    ours("provision", &config(chip, disks, level, "btrfs"));
    let mut one = |who: &str, warm_up: bool, work: &dyn Fn(&Chip) -> Value| {
        close();
        for disk in disks {
            disk.cool();
        }
        chip.reset();
        let ((seconds, report), commands) = counted(|| timed(|| work(chip)));
        say(&json!({
            "kind": "unlock",
            "who": who,
            "level": level,
            "volumes": disks.len(),
            "commands": commands,
            "warm_up": warm_up,
            "seconds": seconds,
            "report": report,
        }));
    };
    for pair in 0..PAIRS {
        let warm_up = pair == 0;
        one("systemd-cryptsetup", warm_up, &|chip| attach(chip, disks));
        one("nightlatch", warm_up, &|chip| {
            ours("unlock", &config(chip, disks, level, "btrfs"))
        });
    }
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
