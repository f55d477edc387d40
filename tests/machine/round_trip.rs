// SPDX-License-Identifier: Apache-2.0
//! Volumes that are formatted, closed and opened again.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nightlatch::volume::{self, How};
use nix::sys::stat::{Mode, umask};

use crate::disk::{self, Disk, close, config, run, try_run, volume};

/// Formats, leaves a file, opens again and finds it.
fn round_trip(disk: &Disk, kind: &str) {
    let config = config(disk, &[&format!("file-system = \"{kind}\"")]);
    let volume = volume(&config);
    assert_eq!(disk::format(volume).keyed().how, How::Formatted);
    disk::mount(kind);
    fs::write("/mnt/file", b"still here").unwrap();
    close();

    let opened = volume::open(volume, disk::key(volume).unwrap(), None).unwrap();
    assert_eq!(opened.keyed().how, How::Unlocked);
    disk::mount(kind);
    assert_eq!(fs::read("/mnt/file").unwrap(), b"still here");
    close();
}

#[test]
fn a_btrfs_volume_keeps_its_files() {
    round_trip(&Disk::virtio("blank4g"), "btrfs");
}

#[test]
fn an_xfs_volume_keeps_its_files() {
    round_trip(&Disk::virtio("blank4g"), "xfs");
}

#[test]
fn an_ext4_volume_keeps_its_files() {
    round_trip(&Disk::virtio("blank4g"), "ext4");
}

/// What is written for a disk 256 times the size: the same but for the tables a file system keeps of its space.
#[test]
fn a_tebibyte_is_provisioned_without_writing_to_most_of_it() {
    for (kind, limit_mib) in [("btrfs", 288), ("xfs", 416), ("ext4", 768)] {
        let disk = Disk::virtio("blank1t");
        let before = disk.bytes_written();
        round_trip(&disk, kind);
        let written_mib = (disk.bytes_written() - before) >> 20;
        println!("{kind}: {written_mib} MiB written");
        assert!(written_mib <= limit_mib, "{kind}: {written_mib} MiB");
    }
}

#[test]
fn a_new_file_system_stands_parallel_writers_without_reading_what_was_never_written() {
    for kind in ["btrfs", "xfs", "ext4"] {
        let disk = Disk::virtio("blank4g");
        let config = config(&disk, &[&format!("file-system = \"{kind}\"")]);
        disk::format(volume(&config));
        // Other cases provoke errors on purpose, and udev looks at a new mapping before its head is written.
        run("dmesg", &["--clear"], b"");
        disk::mount(kind);
        // 300 files of 5000 bytes each.
        let script = "for d in 1 2 3 4; do (mkdir /mnt/$d && head -c 1500000 /dev/urandom | \
                      split -b 5000 -a 3 - /mnt/$d/ && [ -e /mnt/$d/aln ] && rm -r /mnt/$d) & done; \
                      for job in $(jobs -p); do wait $job || exit 1; done; sync";
        run("bash", &["-c", script], b"");
        run("blkid", &["-p", "/dev/mapper/case"], b"");
        let log = run("dmesg", &[], b"");
        assert!(!log.contains("AEAD ERROR"), "{kind}: {log}");
    }
}

#[test]
fn an_overlay_volume_has_its_two_directories() {
    let disk = Disk::virtio("blank4g");
    let config = config(
        &disk,
        &[
            "role = \"root\"",
            "mode = \"overlay\"",
            "lower = \"/dev/mapper/root\"",
            "mount none",
        ],
    );
    // As in the unit.
    umask(Mode::from_bits_truncate(0o077));
    disk::format(volume(&config));
    umask(Mode::from_bits_truncate(0o022));
    disk::mount("btrfs");
    let mut names: Vec<_> = fs::read_dir("/mnt")
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["upper", "work"]);
    // The overlay's root has the mode of `upper`; services without privileges have to get past it.
    let mode = fs::metadata("/mnt/upper").unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn a_full_wipe_makes_every_sector_readable_and_edges_do_not() {
    let middle = [
        "if=/dev/mapper/case",
        "of=/dev/null",
        "bs=1M",
        "skip=150",
        "count=1",
        "iflag=direct",
    ];
    for (wipe, readable) in [("edges", false), ("full", true)] {
        let disk = Disk::in_memory(256);
        let config = config(&disk, &[&format!("wipe = \"{wipe}\"")]);
        disk::format(volume(&config));
        assert_eq!(
            try_run("dd", &middle, b"").status.success(),
            readable,
            "{wipe}"
        );
        let table = run("dmsetup", &["table", "case_dif"], b"");
        assert!(
            table.contains(" 32 J "),
            "the journal is on after a wipe: {table}"
        );
    }
}

#[test]
fn the_key_derivation_on_disk_is_the_one_that_was_configured() {
    for (kdf, kind, field, value) in [
        ("argon2id", "argon2id", "time", 4),
        ("argon2id", "argon2id", "memory", 65536),
        ("pbkdf2", "pbkdf2", "iterations", 1000),
    ] {
        let disk = Disk::in_memory(256);
        let config = config(&disk, &[&format!("kdf = \"{kdf}\"")]);
        disk::format(volume(&config));
        let json = run(
            "cryptsetup",
            &["luksDump", "--dump-json-metadata", disk.as_str()],
            b"",
        );
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let found = &json["keyslots"]["0"]["kdf"];
        assert_eq!(found["type"], kind);
        assert_eq!(found[field], value);
    }
}
