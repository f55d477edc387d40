// SPDX-License-Identifier: Apache-2.0
//! A volume opened on another machine than its node, by the program as a person runs it: what can be read, and that the disk
//! stays as it is, byte for byte.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nightlatch::key::Secret;
use nightlatch::volume::{self, Found, ProvisionHooks};

use crate::disk::{self, Disk, SECRET, Saved, close, config, run, try_run, volume};
use crate::stock::luks_format;

const PROGRAM: &str = "/payload/bin/nightlatchctl";
const MAPPING: &str = "/dev/mapper/rescue-case";
const SECRET_FILE: &str = "/tmp/open-secret";
/// What a case leaves in a file: enough for dm-integrity's journal to be full of it.
const FILE_LEN: usize = 4 << 20;

/// Takes away what a case that failed has left.
struct Mapped;

impl Drop for Mapped {
    fn drop(&mut self) {
        try_run("umount", &["/mnt"], b"");
        for name in ["rescue-case", "rescue-case_dif", "rescue-case_snapshot"] {
            if Path::new("/dev/mapper").join(name).exists() {
                run("dmsetup", &["remove", "--retry", name], b"");
            }
        }
    }
}

fn ctl(arguments: &[&str]) -> Output {
    fs::write(SECRET_FILE, SECRET).unwrap();
    try_run(PROGRAM, arguments, b"")
}

fn open_with(disk: &Disk, arguments: &[&str]) -> Output {
    ctl(&[&["open"], arguments, &[disk.as_str()]].concat())
}

/// With the volume's secret.
fn open(disk: &Disk, more: &[&str]) -> Output {
    open_with(disk, &[&["--secret-file", SECRET_FILE], more].concat())
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{err}")
}

/// It ended well, and what it said.
#[expect(
    clippy::needless_pass_by_value,
    reason = "what it is given was made for it"
)]
fn good(output: Output) -> String {
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    println!("{said}");
    said
}

/// It was refused with this exit code, for this reason.
#[expect(
    clippy::needless_pass_by_value,
    reason = "what it is given was made for it"
)]
fn refused(output: Output, exit: i32, why: &str) {
    let said = said(&output);
    println!("{said}");
    assert_eq!(output.status.code(), Some(exit), "{said}");
    assert!(said.contains(why), "{said}");
    assert!(!Path::new(MAPPING).exists());
    let left = run("dmsetup", &["ls"], b"");
    assert!(!left.contains("rescue"), "{left}");
}

fn close_it() -> String {
    good(ctl(&["close", "rescue-case"]))
}

/// A disk whose node was shut down, and what was on it then and as the power would have found it before.
struct Left {
    disk: Disk,
    clean: Saved,
    cut: Saved,
}

/// A volume with a file that is on the disk for long, and one more that was synchronised by itself just now.
fn left(kind: &str, len_mib: u64) -> Left {
    let disk = Disk::in_memory(len_mib);
    let config = config(&disk, &[&format!("file-system = \"{kind}\"")]);
    disk::format(volume(&config));
    disk::mount(kind);
    fs::write("/mnt/old", vec![b'o'; FILE_LEN]).unwrap();
    run("sync", &["-f", "/mnt"], b"");
    let file = fs::File::create("/mnt/new").unwrap();
    (&file).write_all(&vec![b'n'; FILE_LEN]).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let cut = disk.save();
    close();
    let clean = disk.save();
    Left { disk, clean, cut }
}

fn btrfs() -> Left {
    left("btrfs", 160)
}

/// Both files, by a mount that does not write.
fn read_files(mapping: &str) {
    run("mount", &["-o", "ro", mapping, "/mnt"], b"");
    for (name, byte) in [("old", b'o'), ("new", b'n')] {
        let found = fs::read(format!("/mnt/{name}")).unwrap();
        assert!(found == vec![byte; FILE_LEN], "{name}");
    }
    run("umount", &["/mnt"], b"");
}

/// Opens, mounts, reads, unmounts and closes.
fn read_only(disk: &Disk, saved: &Saved) -> String {
    let _mapped = Mapped;
    let opened = good(open(disk, &[]));
    read_files(MAPPING);
    let closed = close_it();
    assert!(closed.contains("the disk is as it was"), "{closed}");
    assert!(disk.is_as(saved), "the disk has changed");
    opened
}

/// The same with stock programs.
fn stock(disk: &Disk) {
    let _mapped = Mapped;
    let words = ["open", "--key-file=-", disk.as_str(), "rescue-case"];
    run("cryptsetup", &words, &SECRET);
    read_files(MAPPING);
}

fn is_read_and_unchanged(kind: &str, len_mib: u64) {
    let Left { disk, clean, cut } = left(kind, len_mib);
    let opened = read_only(&disk, &clean);
    assert!(opened.contains("genuine by its MAC"), "{opened}");
    assert!(opened.contains(&format!("mount -o ro {MAPPING} /mnt")));

    disk.load(&cut);
    let opened = read_only(&disk, &cut);
    assert!(opened.contains("replayed, in memory"), "{opened}");
    // The control: what there was to replay goes to the disk.
    stock(&disk);
    assert!(!disk.is_as(&cut), "nothing was to be replayed");
}

#[test]
fn a_btrfs_is_read_after_a_cut_and_its_disk_is_the_same_byte_for_byte() {
    is_read_and_unchanged("btrfs", 160);
}

#[test]
fn an_xfs_is_read_after_a_cut_and_its_disk_is_the_same_byte_for_byte() {
    is_read_and_unchanged("xfs", 400);
}

#[test]
fn an_ext4_is_read_after_a_cut_and_its_disk_is_the_same_byte_for_byte() {
    is_read_and_unchanged("ext4", 256);
}

#[test]
fn a_wrong_key_a_changed_header_and_a_shortened_disk_are_refused_and_unchanged() {
    let Left { disk, clean, .. } = btrfs();
    let _mapped = Mapped;
    fs::write("/tmp/open-wrong", [1; 32]).unwrap();
    let wrong = open_with(&disk, &["--secret-file", "/tmp/open-wrong"]);
    refused(wrong, 77, "the secret does not open it");
    let key = "cccbcdcecfcgchcicjckclcncrctcucvbcbbbdbebfbgbhbibjbkblbnbrbtbubv";
    fs::write("/tmp/open-key", key).unwrap();
    let none = open_with(&disk, &["--recovery-key-file", "/tmp/open-key"]);
    refused(none, 77, "the header has no keyslot for such a key");
    let other = "00000000-0000-4000-8000-000000000000";
    refused(open(&disk, &["--uuid", other]), 77, "attach the right disk");
    let profile = open(&disk, &["--profile", "luks2-strict"]);
    refused(profile, 77, "rule C13");
    assert!(disk.is_as(&clean));

    // A byte of both copies of the JSON; one copy alone is what an interrupted boot leaves, and the other one is opened.
    let byte = [disk.read(4096 + 30, 1)[0] ^ 1];
    disk.write(4096 + 30, &byte);
    let opened = good(open(&disk, &[]));
    assert!(opened.contains("its copies differ"), "{opened}");
    close_it();
    disk.write(16384 + 4096 + 30, &byte);
    refused(open(&disk, &[]), 77, "rule B5");
    disk.load(&clean);

    let short = Disk::in_memory(100);
    let count = format!("count={}", 100);
    let from = format!("if={}", disk.as_str());
    let to = format!("of={}", short.as_str());
    run("dd", &[&from, &to, "bs=1M", &count, "status=none"], b"");
    refused(open(&short, &[]), 77, "rule E21");

    // The control.
    good(open(&disk, &[]));
    close_it();
    assert!(disk.is_as(&clean));
}

#[test]
fn memory_that_is_too_small_is_said_and_the_disk_stays_as_it_is() {
    // dm-integrity's journal grows with the disk: this one holds more than the least memory there can be.
    let Left { disk, cut, .. } = left("btrfs", 400);
    disk.load(&cut);
    let _mapped = Mapped;
    refused(open(&disk, &["--memory", "1M"]), 77, "needs more memory");
    assert!(disk.is_as(&cut));

    // Enough for what is replayed, and not for what is written.
    good(open(&disk, &["--memory", "16M"]));
    let to = format!("of={MAPPING}");
    let fill = ["if=/dev/zero", &to, "bs=1M", "count=64", "oflag=direct"];
    let filled = try_run("dd", &fill, b"");
    assert!(!filled.status.success());
    let from = format!("if={MAPPING}");
    let read = try_run(
        "dd",
        &[&from, "of=/dev/null", "bs=4k", "count=1", "iflag=direct"],
        b"",
    );
    assert!(!read.status.success(), "what is read may be old");
    let closed = close_it();
    assert!(closed.contains("no room left"), "{closed}");
    assert!(disk.is_as(&cut));

    // The control.
    read_only(&disk, &cut);
}

#[test]
fn a_mapping_that_is_mounted_is_not_closed_and_one_that_is_not_of_open_neither() {
    let Left { disk, .. } = btrfs();
    let mapped = Mapped;
    good(open(&disk, &[]));
    run("mount", &["-o", "ro", MAPPING, "/mnt"], b"");
    let busy = ctl(&["close", "rescue-case"]);
    assert_eq!(busy.status.code(), Some(77), "{}", said(&busy));
    assert!(said(&busy).contains("it is in use"), "{}", said(&busy));
    // Still there, and the disk is not opened beside it.
    assert!(fs::read("/mnt/new").unwrap() == vec![b'n'; FILE_LEN]);
    let twice = open(&disk, &["--name", "two"]);
    assert_eq!(twice.status.code(), Some(77), "{}", said(&twice));
    run("umount", &["/mnt"], b"");
    close_it();
    refused(ctl(&["close", "rescue-case"]), 69, "there is no mapping");
    assert!(
        run("losetup", &["--list", "--noheadings"], b"")
            .lines()
            .count()
            == 1
    );
    drop(mapped);

    // A node's own mapping.
    let config = config(&disk, &[]);
    let keyed = disk::key(volume(&config)).unwrap();
    volume::open(volume(&config), keyed, None).unwrap();
    let own = ctl(&["close", "case"]);
    assert_eq!(own.status.code(), Some(2), "{}", said(&own));
    assert!(Path::new("/dev/mapper/case").exists());
    close();
}

#[test]
fn what_is_written_to_a_writable_one_is_what_its_node_opens_and_it_is_asked_for() {
    let Left { disk, clean, .. } = btrfs();
    let _mapped = Mapped;
    refused(
        open(&disk, &["--writable"]),
        2,
        "add --yes where it is meant",
    );
    assert!(disk.is_as(&clean));

    let opened = good(open(&disk, &["--writable", "--yes"]));
    assert!(opened.contains("opened writable"), "{opened}");
    run("mount", &[MAPPING, "/mnt"], b"");
    fs::write("/mnt/rescued", b"by hand").unwrap();
    run("umount", &["/mnt"], b"");
    let closed = close_it();
    assert!(!closed.contains("as it was"), "{closed}");

    let config = config(&disk, &[]);
    let keyed = disk::key(volume(&config)).unwrap();
    volume::open(volume(&config), keyed, None).unwrap();
    disk::mount("btrfs");
    assert_eq!(fs::read("/mnt/rescued").unwrap(), b"by hand");
    close();
}

#[test]
fn a_master_secret_opens_the_volume_whose_uuid_it_is_given_with() {
    let disk = Disk::in_memory(256);
    let config = config(&disk, &[]);
    let volume = volume(&config);
    let Found::New(new) = volume::examine(volume).unwrap() else {
        panic!("expected a blank device");
    };
    let uuid = new.uuid().to_string();
    let secret = Secret::new(vec![3; 32]).derive(&[4; 32], &uuid).unwrap();
    let keyed = new
        .format(volume, secret, None, ProvisionHooks::none(0))
        .unwrap();
    volume::open(volume, keyed, None).unwrap();
    close();
    fs::write("/tmp/open-master", [3; 32]).unwrap();
    fs::write("/tmp/open-salt", [4; 32]).unwrap();
    let by = |uuid: &str| {
        let files = [
            "--master-secret",
            "/tmp/open-master",
            "--salt",
            "/tmp/open-salt",
        ];
        open_with(&disk, &[&files[..], &["--uuid", uuid]].concat())
    };
    let _mapped = Mapped;
    refused(
        by("00000000-0000-4000-8000-000000000000"),
        77,
        "attach the right disk",
    );
    good(by(&uuid));
    close_it();
}

/// A volume of stock programs with a recovery key of systemd's, typed as people type.
#[test]
fn a_recovery_key_opens_a_volume_of_stock_programs_from_a_file_and_from_a_terminal() {
    let disk = Disk::in_memory(256);
    luks_format(&disk, &["--integrity=hmac-sha256", "--integrity-no-wipe"]);
    run(
        "cryptsetup",
        &["open", "--key-file=-", disk.as_str(), "case"],
        &SECRET,
    );
    let block = [b'd'; 4096];
    Disk::at("/dev/mapper/case").write(1 << 20, &block);
    close();
    fs::write(SECRET_FILE, SECRET).unwrap();
    let unlock = format!("--unlock-key-file={SECRET_FILE}");
    let key = run(
        "systemd-cryptenroll",
        &[&unlock, "--recovery-key", disk.as_str()],
        b"",
    );
    let typed = key.trim().replace('-', " ").to_uppercase();
    let before = disk.backing();
    let _mapped = Mapped;

    let by_key = ["--recovery-key-file", "/tmp/open-key", "--name", "case"];
    fs::write("/tmp/open-key", &typed).unwrap();
    refused(open_with(&disk, &by_key), 77, "say --profile luks2-strict");
    let strict = [&by_key[..], &["--profile", "luks2-strict"]].concat();
    let opened = good(open_with(&disk, &strict));
    assert!(opened.contains("who wrote it is not known"), "{opened}");
    assert_eq!(Disk::at(MAPPING).read(1 << 20, 4096), block);
    close_it();
    assert!(disk.backing() == before, "the disk has changed");

    let first = if typed.starts_with('C') { "B" } else { "C" };
    let rest: String = typed.chars().skip(1).collect();
    fs::write("/tmp/open-key", format!("{first}{rest}")).unwrap();
    refused(open_with(&disk, &strict), 77, "does not open it");

    let shown = typed_at_a_terminal(&typed, disk.as_str());
    println!("{shown}");
    assert!(shown.contains("opened read-only"), "{shown}");
    assert!(!shown.contains(&typed), "the key was shown");
    close_it();
}

/// What a terminal shows, at which the key is typed once it is asked for.
fn typed_at_a_terminal(key: &str, device: &str) -> String {
    let words = format!("{PROGRAM} open --profile luks2-strict --name case {device}");
    let mut script = Command::new("script")
        .args(["-qec", &words, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut shown = Vec::new();
    while !shown.ends_with(b"Recovery key: ") {
        let mut byte = [0];
        from.read_exact(&mut byte)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&shown)));
        shown.extend(byte);
    }
    to.write_all(format!("{key}\n").as_bytes()).unwrap();
    from.read_to_end(&mut shown).unwrap();
    drop(to);
    assert!(script.wait().unwrap().success());
    String::from_utf8(shown).unwrap()
}
