// SPDX-License-Identifier: Apache-2.0
//! The machine itself: what every other case takes for granted.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use crate::disk::run;

const DISK: &str = "/dev/disk/by-id/virtio-blank4g";
const NAME: &str = "surroundings";

#[test]
fn an_authenticated_volume_of_stock_cryptsetup_is_live_as_it_was_asked_for() {
    let key = [0x5a; 32];
    let format = [
        "luksFormat",
        "--batch-mode",
        "--type=luks2",
        "--key-file=-",
        "--sector-size=4096",
    ];
    let integrity = ["--integrity=hmac-sha256", "--integrity-no-wipe"];
    let kdf = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", DISK];
    run(
        "cryptsetup",
        &[&format[..], &integrity, &kdf].concat(),
        &key,
    );
    run("cryptsetup", &["open", "--key-file=-", DISK, NAME], &key);

    let table = run("dmsetup", &["table", NAME], b"");
    let fields: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(
        &fields[2..4],
        ["crypt", "capi:authenc(hmac(sha256),xts(aes))-plain64"]
    );
    let tail = fields[8..].join(" ");
    assert_eq!(tail, "2 integrity:32:aead sector_size:4096");

    // A sector that was written reads back; its neighbour, never written, has no valid tag.
    let mapping = Path::new("/dev/mapper").join(NAME);
    fs::File::options()
        .write(true)
        .open(&mapping)
        .unwrap()
        .write_all(&[7; 4096])
        .unwrap();
    run("sync", &[], b"");
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let mut sectors = fs::File::open(&mapping).unwrap();
    let mut sector = [0; 4096];
    sectors.read_exact(&mut sector).unwrap();
    assert_eq!(sector, [7; 4096]);
    assert!(sectors.read_exact(&mut sector).is_err());

    drop(sectors);
    run("cryptsetup", &["close", NAME], b"");
}

#[test]
fn the_tpm_answers_and_its_cluster_pcr_is_zero() {
    let zero = fs::read_to_string("/sys/class/tpm/tpm0/pcr-sha256/15").unwrap();
    assert_eq!(zero.trim(), "0".repeat(64));
    run(
        "tpm2_getrandom",
        &["--tcti=device:/dev/tpmrm0", "--hex", "8"],
        b"",
    );
}
