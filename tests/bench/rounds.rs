// SPDX-License-Identifier: Apache-2.0
//! What is measured, in which order.

use std::path::Path;

use serde_json::{Value, json};

use crate::files;
use crate::guest::{
    Disk, close, cluster_pcrs, config, finish, marked, ours, run as program, start, timed,
};

const SYSTEMD: &str = "/usr/lib/systemd/systemd-cryptsetup";

/// Rounds of provisioning with btrfs, of which the tables give the median.
const PROVISIONINGS: usize = 3;
/// Of the unlocks, this many with two volumes; the others with one, and the first of them warms up.
const UNLOCKS_OF_TWO: usize = 2;

pub(crate) fn run() {
    provisioning();
    full_wipe();
    unlocking();
    files::list();
}

pub(crate) fn say(value: &Value) {
    println!("{value}");
}

fn provisioning() {
    let disks = ["blank4g", "blank64g", "blank1t"].map(Disk::named);
    // Nothing is measured while provisioning, so one PCR does for all.
    let pcr = cluster_pcrs()[0];
    let once = |disk: &Disk, file_system: &str| {
        disk.blank();
        let config = config(&[disk], pcr, file_system);
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

fn unlocking() {
    let both = ["blank4g", "blank4g2"].map(Disk::named);
    let pcrs = cluster_pcrs();
    let singles = pcrs.len() - UNLOCKS_OF_TWO;
    for (round, pcr) in pcrs.into_iter().enumerate() {
        let disks: Vec<&Disk> = both
            .iter()
            .take(1 + usize::from(round >= singles))
            .collect();
        let part = u16::try_from(2 * round).unwrap();
        unlock(&disks, pcr, part, round == 0);
    }
}

/// Opens the same new volumes with systemd, then with us, which ends with the fence.
fn unlock(disks: &[&Disk], cluster_pcr: u8, part: u16, warm_up: bool) {
    for disk in disks {
        disk.blank();
    }
    let config = config(disks, cluster_pcr, "btrfs");
    ours("provision", &config);
    let one = |who: &str, part: u16, work: &dyn Fn() -> Value| {
        close();
        for disk in disks {
            disk.cool();
        }
        let (seconds, report) = marked(part, || timed(work));
        say(&json!({
            "kind": "unlock",
            "who": who,
            "volumes": disks.len(),
            "part": part,
            "warm_up": warm_up,
            "seconds": seconds,
            "report": report,
        }));
    };
    one("systemd-cryptsetup", part, &|| attach(disks));
    one("nightlatch", part + 1, &|| unlock_ours(&config));
    close();
}

fn unlock_ours(config: &Path) -> Value {
    ours("unlock", config)
}

/// A process for each volume, all at once, as systemd starts them.
fn attach(disks: &[&Disk]) -> Value {
    let options = "tpm2-device=auto,headless=1";
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
