// SPDX-License-Identifier: Apache-2.0
//! The image below an overlay.

use std::path::Path;

use nightlatch::error::Exit;
use nightlatch::volume::table;

use crate::disk::{Disk, run};

#[test]
fn only_a_mapping_of_dm_verity_may_be_below_an_overlay() {
    let data = Disk::in_memory(65);
    let format = run(
        "veritysetup",
        &["format", data.as_str(), "/tmp/hashes"],
        b"",
    );
    let root_hash = format
        .lines()
        .find_map(|line| line.strip_prefix("Root hash:"))
        .unwrap()
        .trim();
    let open = ["open", data.as_str(), "lower", "/tmp/hashes", root_hash];
    run("veritysetup", &open, b"");
    let verified = table::require_verity(Path::new("/dev/mapper/lower"));
    run("veritysetup", &["close", "lower"], b"");
    verified.unwrap();

    let plain = table::require_verity(&data.path).unwrap_err();
    assert_eq!(plain.exit(), Exit::Refused);
    let linear = format!("0 1024 linear {} 0\n", data.as_str());
    run("dmsetup", &["create", "lower"], linear.as_bytes());
    let mapped = table::require_verity(Path::new("/dev/mapper/lower"));
    run("dmsetup", &["remove", "--retry", "lower"], b"");
    assert_eq!(
        mapped.unwrap_err().to_string(),
        "target: expected \"verity\", found \"linear\""
    );
}
