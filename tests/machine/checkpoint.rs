// SPDX-License-Identifier: Apache-2.0
//! Level `checkpoint` on real btrfs: what is on the disk is looked at before it can be written to, and a superblock that is
//! put there later is not looked at.

use std::fs;
use std::path::Path;

use nightlatch::anchor::checkpoint::{PinnedMount, durable};

use crate::disk::{self, Disk, config, run, try_run, volume};

const MAPPING: &str = "/dev/mapper/case";
/// Superblock and its first mirror, in KiB.
const SUPERBLOCKS_KIB: [u32; 2] = [64, 64 << 10];

fn opened(len_mib: u64) -> Disk {
    let disk = Disk::in_memory(len_mib);
    let config = config(&disk, &[]);
    disk::format(volume(&config));
    disk
}

/// Writes a file and waits for the commit, in a mount that is gone afterwards.
fn write_file(name: &str) {
    run("mount", &["-o", "notreelog", MAPPING, "/mnt"], b"");
    fs::write(Path::new("/mnt").join(name), name).unwrap();
    run("umount", &["/mnt"], b"");
}

/// The superblock as it is on the disk.
fn superblock() -> String {
    let from = format!("if={MAPPING}");
    let to = "/tmp/superblock";
    run(
        "dd",
        &[
            &from,
            &format!("of={to}"),
            "bs=4k",
            "skip=16",
            "count=1",
            "iflag=direct",
        ],
        b"",
    );
    to.into()
}

/// Puts an earlier superblock back, with tags that are valid, as a host does that kept the sectors.
fn put_back(superblock: &str) {
    for at_kib in SUPERBLOCKS_KIB {
        let seek = format!("seek={}", at_kib / 4);
        let (from, to) = (format!("if={superblock}"), format!("of={MAPPING}"));
        run(
            "dd",
            &[
                &from,
                &to,
                "bs=4k",
                &seek,
                "count=1",
                "oflag=direct",
                "conv=notrunc",
            ],
            b"",
        );
    }
}

fn look() -> PinnedMount {
    PinnedMount::mount(Path::new(MAPPING), "case").unwrap()
}

#[test]
fn what_is_durable_never_exceeds_what_the_next_mount_finds() {
    let _disk = opened(256);
    run("mount", &["-o", "notreelog", MAPPING, "/mnt"], b"");
    let mut last = 0;
    for round in 0..5 {
        fs::write(format!("/mnt/{round}"), vec![round; 100_000]).unwrap();
        let now = durable(Path::new("/mnt")).unwrap().generation;
        assert!(now > last, "{now} after {last}");
        last = now;
    }
    let last = durable(Path::new("/mnt")).unwrap();
    run("umount", &["/mnt"], b"");
    let pinned = look();
    pinned.compare(Some(&last)).unwrap();
    pinned.allow_writes().unwrap();
    assert!(pinned.seen().generation >= last.generation);
}

/// What anything has written to the mapping since it exists, in sectors of 512 bytes (Linux, Documentation/block/stat.rst). The
/// disk below does not tell: dm-integrity moves what is in its journal whenever it likes.
fn sectors_written() -> u64 {
    let device = fs::canonicalize(MAPPING).unwrap();
    let name = device.file_name().unwrap().to_str().unwrap();
    let stat = fs::read_to_string(format!("/sys/class/block/{name}/stat")).unwrap();
    stat.split_whitespace().nth(6).unwrap().parse().unwrap()
}

#[test]
fn looking_writes_nothing_and_a_superblock_put_there_later_is_not_looked_at() {
    let _disk = opened(256);
    write_file("first");
    let old = superblock();
    write_file("second");
    let before = sectors_written();

    let pinned = look();
    pinned.compare(None).unwrap();
    assert_eq!(
        sectors_written(),
        before,
        "a mount to look at wrote something"
    );
    pinned.allow_writes().unwrap();

    // The host is quick, and systemd mounts the volume.
    put_back(&old);
    run("mount", &["-o", "nosuid,nodev", MAPPING, "/mnt"], b"");
    assert!(Path::new("/mnt/second").exists());
    let options = run("findmnt", &["-no", "OPTIONS", "/mnt"], b"");
    assert!(
        options.contains("notreelog") && options.starts_with("rw,"),
        "{options}"
    );
    drop(pinned);
    fs::write("/mnt/third", "third").unwrap();
    let now = durable(Path::new("/mnt")).unwrap();
    assert!(sectors_written() > before, "a write was not counted");
    run("umount", &["/mnt"], b"");

    // What the kernel kept is what it wrote.
    look().compare(Some(&now)).unwrap();
}

#[test]
fn one_superblock_put_back_to_before_the_checkpoint_is_refused() {
    let _disk = opened(256);
    write_file("first");
    let old = superblock();
    run("mount", &["-o", "notreelog", MAPPING, "/mnt"], b"");
    fs::write("/mnt/second", "second").unwrap();
    let anchored = durable(Path::new("/mnt")).unwrap();
    run("umount", &["/mnt"], b"");
    look().compare(Some(&anchored)).unwrap();

    put_back(&old);
    let pinned = look();
    let error = pinned.compare(Some(&anchored)).unwrap_err().to_string();
    assert!(
        error.contains("it was put back to an earlier state"),
        "{error}"
    );
    drop(pinned);

    // Without an anchor nobody notices: the kernel mounts it, and a file is gone.
    run("mount", &["-o", "ro", MAPPING, "/mnt"], b"");
    assert!(Path::new("/mnt/first").exists() && !Path::new("/mnt/second").exists());
    run("umount", &["/mnt"], b"");
}

#[test]
fn a_log_tree_is_refused_and_the_option_leaves_none() {
    for (options, is_accepted) in [("notreelog", true), ("treelog", false)] {
        let _disk = opened(256);
        write_file("first");
        run("mount", &["-o", options, MAPPING, "/mnt"], b"");
        fs::write("/mnt/synced", "synced").unwrap();
        run("sync", &["/mnt/synced"], b"");
        // The power goes now: what is on the disk is what is there after the reset.
        let crashed = superblock();
        run("umount", &["/mnt"], b"");
        put_back(&crashed);
        let seen = PinnedMount::mount(Path::new(MAPPING), "case");
        assert_eq!(seen.is_ok(), is_accepted, "{options}: {seen:?}");
        match seen {
            Ok(pinned) => assert!(pinned.allow_writes().is_ok()),
            Err(error) => assert!(error.to_string().contains("has a log tree"), "{error}"),
        }
    }
    let none = try_run("findmnt", &["/run/nightlatch/held/case"], b"");
    assert!(!none.status.success(), "something is still held");
}

/// The host shows a superblock without a log tree to whoever looks, and another one to the mount: the kernel replays it, and
/// its own count gives it away.
#[test]
fn a_log_that_was_replayed_behind_our_back_is_refused() {
    let _disk = opened(256);
    write_file("first");
    run("mount", &["-o", "treelog", MAPPING, "/mnt"], b"");
    fs::write("/mnt/synced", "synced").unwrap();
    run("sync", &["/mnt/synced"], b"");
    let crashed = superblock();
    run("umount", &["/mnt"], b"");
    put_back(&crashed);
    run("mount", &["-o", "ro", MAPPING, "/mnt"], b"");
    let commits = run("sh", &["-c", "cat /sys/fs/btrfs/*-*/commit_stats"], b"");
    assert!(!commits.contains("commits 0\n"), "{commits}");
    run("umount", &["/mnt"], b"");
    // Control: once replayed there is none, and a mount commits nothing.
    drop(look());
}
