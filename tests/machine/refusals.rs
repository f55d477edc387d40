// SPDX-License-Identifier: Apache-2.0
//! What is neither blank nor ours is refused and left as it was, byte for byte.

use nightlatch::error::Exit;
use nightlatch::header::{BootNonce, Stamp, superblock};
use nightlatch::key::Secret;
use nightlatch::volume::{self, Found, table};

use crate::disk::{self, Disk, NAME, SECRET, close, config, is_blank, run, volume};

const MIB: u64 = 1 << 20;

/// A device with some content is refused unchanged; the same device without it is accepted.
fn refused(what: &str, fill: impl Fn(&Disk)) {
    let disk = Disk::in_memory(136);
    let config = config(&disk, &[]);
    assert!(
        matches!(volume::examine(volume(&config)), Ok(Found::New(_))),
        "{what}: the control"
    );

    fill(&disk);
    let before = disk.contents();
    let error = volume::examine(volume(&config)).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{what}: {error}");
    assert!(disk.contents() == before, "{what}: the disk changed");
    println!("{what}: {error}");
}

fn with(program: &str, arguments: &[&str]) -> impl Fn(&Disk) {
    move |disk| {
        run(program, &[arguments, &[disk.as_str()]].concat(), &SECRET);
    }
}

#[test]
fn foreign_content_is_refused_and_unchanged() {
    refused("ext4", with("mkfs.ext4", &["-q", "-F"]));
    refused("btrfs", with("mkfs.btrfs", &["-q", "-f"]));
    refused("swap", with("mkswap", &[]));
    refused(
        "LUKS1",
        with(
            "cryptsetup",
            &[
                "luksFormat",
                "-q",
                "--type=luks1",
                "--pbkdf-force-iterations=1000",
                "--key-file=-",
            ],
        ),
    );
    refused(
        "LUKS2 of others",
        with(
            "cryptsetup",
            &[
                "luksFormat",
                "-q",
                "--type=luks2",
                "--pbkdf=pbkdf2",
                "--pbkdf-force-iterations=1000",
                "--key-file=-",
            ],
        ),
    );
    refused("GPT", |disk| disk.partition("gpt"));
    refused("MBR", |disk| disk.partition("dos"));
    refused("random bytes", |disk| disk.write(0, &run_random()));
}

fn run_random() -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    nightlatch::key::fill_random(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_single_byte_anywhere_that_is_probed_makes_a_device_not_blank() {
    let disk = Disk::in_memory(136);
    let config = config(&disk, &[]);
    for offset in [
        0,
        511,
        4096,
        5 * MIB,
        16 * MIB - 1,
        16 * MIB,
        20 * MIB,
        133 * MIB,
        136 * MIB - 1,
    ] {
        disk.write(offset, &[1]);
        let error = volume::examine(volume(&config)).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{offset}: {error}");
        let rule = "rule F23: expected a blank device or a LUKS2 volume, found ";
        assert!(error.to_string().starts_with(rule), "{error}");
        assert_eq!(disk.read(offset, 1), [1]);
        disk.write(offset, &[0]);
        assert!(volume::examine(volume(&config)).is_ok(), "the control");
    }
    assert!(is_blank(&disk.contents()), "the disk changed");
}

#[test]
fn a_volume_of_ours_with_a_byte_changed_is_refused_and_unchanged() {
    let disk = Disk::in_memory(160);
    let config = config(&disk, &[]);
    disk::format(volume(&config));
    close();
    let before = disk.contents();
    let flip = |offset| {
        let original = disk.read(offset, 1);
        disk.write(offset, &[original[0] ^ 1]);
    };
    // The binary headers and the metadata, in both copies, the keyslot, and keyslots area that is not in use.
    for offset in [
        0,
        6,
        8,
        0x1c8,
        0x1000,
        0x1040,
        0x8000,
        15 * MIB,
        16 * MIB - 4096,
    ] {
        let second = (offset < 0x4000).then_some(offset + 0x4000);
        let places = || std::iter::once(offset).chain(second);
        places().for_each(flip);
        let tampered = disk.contents();
        let error = disk::key(volume(&config)).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused, "{offset:#x}: {error}");
        assert!(disk.contents() == tampered, "{offset:#x}: the disk changed");
        places().for_each(flip);
    }
    assert!(disk.contents() == before, "the disk changed");
    assert!(disk::key(volume(&config)).is_ok(), "the control");
}

#[test]
fn a_damaged_copy_is_left_aside_and_a_renewal_repairs_it() {
    let disk = Disk::in_memory(160);
    let config = config(&disk, &[]);
    disk::format(volume(&config));
    close();
    for (epoch, offset) in [(1, 0x1000), (2, 0x4000)] {
        let original = disk.read(offset, 1);
        disk.write(offset, &[original[0] ^ 1]);
        let keyed = disk::key(volume(&config)).unwrap();
        assert!(keyed.needs_repair, "{offset:#x}");
        let nonce = BootNonce::from_bytes([7; 7]);
        let stamp = Some(Stamp { epoch, nonce });
        let mut opened = volume::open(volume(&config), keyed, stamp).unwrap();
        opened.renew().unwrap();
        drop(opened);
        close();
        let keyed = disk::key(volume(&config)).unwrap();
        assert_eq!((keyed.needs_repair, keyed.stamp), (false, stamp));
        volume::open(volume(&config), keyed, None).unwrap();
        close();
    }
}

#[test]
fn a_wrong_secret_is_refused_and_nothing_is_mapped() {
    let disk = Disk::in_memory(256);
    let config = config(&disk, &[]);
    disk::format(volume(&config));
    close();
    let before = disk.contents();
    let Ok(Found::Existing(existing)) = volume::examine(volume(&config)) else {
        panic!("expected an existing volume");
    };
    let wrong = Secret::new(vec![0x77; 32]);
    let error = existing.unlock_with(&wrong, 0).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "opening keyslot 0: the secret does not open it"
    );
    assert!(!std::path::Path::new("/dev/mapper/case").exists());
    assert!(disk.contents() == before, "the disk changed");
    assert!(disk::key(volume(&config)).is_ok());
}

#[test]
fn a_read_error_is_refused_and_never_formatted() {
    let disk = Disk::in_memory(136);
    let table = |bad_sector: u64| {
        let before = format!("0 {bad_sector} linear {} 0", disk.as_str());
        let after = bad_sector + 8;
        let rest = 136 * 2048 - after;
        format!(
            "{before}\n{bad_sector} 8 error\n{after} {rest} linear {} {after}\n",
            disk.as_str()
        )
    };
    for bad_sector in [8, 20000, 40000, 136 * 2048 - 16] {
        run(
            "dmsetup",
            &["create", "flawed"],
            table(bad_sector).as_bytes(),
        );
        let flawed = config(&disk, &["device = \"/dev/mapper/flawed\""]);
        let error = volume::examine(volume(&flawed)).unwrap_err();
        run("dmsetup", &["remove", "--retry", "flawed"], b"");
        assert_eq!(error.exit(), Exit::Refused, "{bad_sector}: {error}");
    }
    assert_eq!(disk.read(0, 1 << 20), vec![0; 1 << 20]);
    assert!(volume::examine(volume(&config(&disk, &[]))).is_ok());
}

#[test]
fn a_device_in_use_or_missing_is_not_touched() {
    let disk = Disk::in_memory(256);
    let config = config(&disk, &[]);
    disk::format(volume(&config));
    let error = volume::examine(volume(&config)).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(error.to_string().contains("in use"), "{error}");
    close();
    let gone = disk::config(&disk, &["device = \"/dev/gone\""]);
    let error = volume::examine(volume(&gone)).unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
}

#[test]
fn a_blank_device_is_formatted_only_where_the_configuration_says_so() {
    let disk = Disk::in_memory(136);
    let never = config(&disk, &["format = \"never\"", "sources = [\"tpm\"]"]);
    let error = volume::examine(volume(&never)).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(error.to_string().contains("format = \"never\""), "{error}");
    assert!(volume::examine(volume(&config(&disk, &[]))).is_ok());
}

#[test]
fn a_live_table_that_is_not_what_was_meant_is_refused() {
    let disk = Disk::in_memory(256);
    let config = config(&disk, &[]);
    let opened = disk::format(volume(&config));
    let disk_number = run("lsblk", &["-dno", "MAJ:MIN", disk.as_str()], b"");
    let expected = table::Expected {
        name: NAME,
        uuid: &opened.keyed().uuid,
        disk: disk_number.trim(),
        len_sectors: superblock::data_len(256 << 20) / table::SECTOR_LEN,
        mode: "J",
    };
    table::verify(&expected).unwrap();
    close();

    // The same name over plain sectors, as a header with a linear segment would give.
    let sectors = 100 * 2048;
    let plain = format!("0 {sectors} linear {} 32768\n", disk.as_str());
    run("dmsetup", &["create", "case_dif"], plain.as_bytes());
    run(
        "dmsetup",
        &["create", NAME],
        format!("0 {sectors} linear /dev/mapper/case_dif 0\n").as_bytes(),
    );
    let error = table::verify(&expected).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "mapping case_dif: target: expected \"integrity\", found \"linear\""
    );
}

#[test]
fn a_changed_sector_is_an_error_and_not_data() {
    let disk = Disk::in_memory(256);
    let config = config(&disk, &[]);
    disk::format(volume(&config));
    close();
    let read_head = || {
        let keyed = disk::key(volume(&config)).unwrap();
        volume::open(volume(&config), keyed, None).unwrap();
        let head = [
            "if=/dev/mapper/case",
            "of=/dev/null",
            "bs=1M",
            "count=8",
            "iflag=direct",
        ];
        let readable = disk::try_run("dd", &head, b"").status.success();
        close();
        readable
    };
    assert!(read_head());

    // Past superblock and journal, which is 1/128 of the device: one bit in the tags and data of the head.
    let range = disk.read(20 * MIB, 4 << 20);
    let changed: Vec<u8> = range
        .iter()
        .enumerate()
        .map(|(at, byte)| byte ^ u8::from(at % 4096 == 7))
        .collect();
    disk.write(20 * MIB, &changed);
    assert!(!read_head());

    disk.write(20 * MIB, &range);
    assert!(read_head());
}
