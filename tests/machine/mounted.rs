// SPDX-License-Identifier: Apache-2.0
//! What is mounted is what was opened, on real file systems: a disk of the host's in the place of a volume is refused.

use std::path::Path;

use nightlatch::anchor::checkpoint::PinnedMount;
use nightlatch::error::{Error, Exit};
use nightlatch::mounted::Mounted;
use nightlatch::volume as volumes;

use crate::disk::{self, Disk, close, config, run, volume};

const MAPPING: &str = "/dev/mapper/case";

/// A new volume with a file system of this kind.
fn opened(kind: &str, len_mib: u64) -> Disk {
    let disk = Disk::in_memory(len_mib);
    let config = config(&disk, &[&format!("file-system = \"{kind}\"")]);
    disk::format(volume(&config));
    disk
}

/// What the boot and the final system say of what is mounted at `/mnt`.
fn check() -> Result<(), Error> {
    Mounted::expected("/mnt", MAPPING)?.check(Path::new("/"))
}

fn refused(checked: Result<(), Error>, said: &str) {
    let error = checked.unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
    assert!(error.to_string().contains(said), "{error}");
}

/// The identifier of the file system on a device.
fn identifier(device: &str) -> String {
    let said = run("blkid", &["-p", "-o", "value", "-s", "UUID", device], b"");
    said.trim().to_owned()
}

#[test]
fn each_file_system_is_on_its_mapping_alone_and_a_disk_in_its_place_is_refused() {
    for (kind, len_mib, options) in [
        ("btrfs", 256, &["-f", "-q"][..]),
        ("xfs", 400, &["-f", "-q"]),
        ("ext4", 256, &["-F", "-q"]),
    ] {
        let disk = opened(kind, len_mib);
        run("mount", &["-t", kind, MAPPING, "/mnt"], b"");
        let control = check();
        run("umount", &["/mnt"], b"");
        control.unwrap();

        // What a host can put in its place, whatever its name.
        let other = Disk::at(&another(len_mib));
        let mkfs = format!("mkfs.{kind}");
        run(&mkfs, &[options, &[other.as_str()]].concat(), b"");
        run("mount", &["-t", kind, other.as_str(), "/mnt"], b"");
        let replaced = check();
        run("umount", &["/mnt"], b"");
        refused(replaced, "detach the disks that are not this machine's");
        run("losetup", &["--detach", other.as_str()], b"");

        // Nothing mounted at all is what the machine's own root is on.
        refused(
            check(),
            "checking that /dev/mapper/case is what is mounted at /mnt",
        );
        drop(disk);
    }
}

/// A loop device more, which the volume's own cannot know of: they are let go of by number.
fn another(len_mib: u64) -> String {
    let file = format!("/tmp/mounted-{len_mib}");
    std::fs::remove_file(&file).unwrap_or_default();
    std::fs::File::create(&file)
        .unwrap()
        .set_len(len_mib << 20)
        .unwrap();
    let name = run("losetup", &["--find", "--show", &file], b"");
    name.trim().to_owned()
}

#[test]
fn a_btrfs_of_two_devices_is_refused() {
    let _disk = opened("btrfs", 256);
    run("mount", &[MAPPING, "/mnt"], b"");
    check().unwrap();
    let more = another(300);
    run("btrfs", &["device", "add", "-K", "-f", &more, "/mnt"], b"");
    let grown = check();
    run("btrfs", &["device", "remove", &more, "/mnt"], b"");
    let control = check();
    run("umount", &["/mnt"], b"");
    run("losetup", &["--detach", &more], b"");
    refused(grown, "alone: detach the disks that are not this machine's");
    control.unwrap();
}

#[test]
fn a_journal_on_another_device_is_refused() {
    let _disk = opened("ext4", 256);
    let journal = another(301);
    run(
        "mke2fs",
        &["-q", "-F", "-O", "journal_dev", "-b", "4096", &journal],
        b"",
    );
    run("tune2fs", &["-O", "^has_journal", MAPPING], b"");
    run("mount", &["-t", "ext4", MAPPING, "/mnt"], b"");
    let without = check();
    run("umount", &["/mnt"], b"");
    let device = format!("device={journal}");
    run("tune2fs", &["-J", &device, MAPPING], b"");
    run("mount", &["-t", "ext4", MAPPING, "/mnt"], b"");
    let external = check();
    run("umount", &["/mnt"], b"");
    run("losetup", &["--detach", &journal], b"");
    // Control: one without a journal has none elsewhere.
    without.unwrap();
    refused(
        external,
        "the journal of the file system is on another device",
    );
}

/// Two disks of the host's with the identifier of the volume's btrfs, seen by the kernel before the volume is mounted: up to
/// Linux 6.6 it would take them for the volume. From 6.7 on it gives the mount an identifier of its own, and level
/// `checkpoint` says so.
#[test]
fn two_disks_with_the_identifier_of_a_btrfs_are_not_mounted_in_its_place() {
    let disk = Disk::in_memory(256);
    let config = config(&disk, &[]);
    disk::format(volume(&config));
    let id = identifier(MAPPING);
    // The control: nothing else has the identifier.
    drop(PinnedMount::mount(Path::new(MAPPING), "case").unwrap());
    close();

    // mkfs does not take an identifier that it sees in use, so the host makes its disks while the volume is closed.
    let twins = [another(302), another(303)];
    let kind = ["-q", "-f", "-d", "single", "-m", "raid1", "-U", &id];
    run(
        "mkfs.btrfs",
        &[&kind[..], &[twins[0].as_str(), twins[1].as_str()]].concat(),
        b"",
    );
    run("btrfs", &["device", "scan", &twins[0], &twins[1]], b"");
    let keyed = disk::key(volume(&config)).unwrap();
    volumes::open(volume(&config), keyed, None).unwrap();

    let pinned = PinnedMount::mount(Path::new(MAPPING), "case").map(drop);
    run("mount", &["-t", "btrfs", MAPPING, "/mnt"], b"");
    let checked = check();
    let source = run("findmnt", &["-no", "SOURCE", "/mnt"], b"");
    run("umount", &["/mnt"], b"");
    close();
    run("btrfs", &["device", "scan", "--forget"], b"");
    for twin in &twins {
        run("losetup", &["--detach", twin], b"");
    }
    refused(
        pinned,
        "another disk has the identifier of this file system",
    );
    // The mount itself is the volume's, and the check agrees.
    assert_eq!(source.trim(), MAPPING);
    checked.unwrap();
}
