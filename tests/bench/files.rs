// SPDX-License-Identifier: Apache-2.0
//! The files an initrd gets because of us.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use crate::guest::run;
use crate::rounds::say;

/// What a systemd initrd with cryptsetup has anyway.
const BASE: [&str; 7] = [
    "/usr/lib/systemd/systemd",
    "/usr/lib/systemd/systemd-udevd",
    "/usr/lib/systemd/systemd-cryptsetup",
    "/usr/bin/udevadm",
    "/usr/bin/mount",
    "/usr/bin/kmod",
    "/usr/sbin/dmsetup",
];

/// Loaded by name, so that no program's list of libraries has it. Next to the other libraries of tpm2-tss.
const TCTI: &str = "libtss2-tcti-device.so.0";

/// Says which libraries the program needs that the base has not, and which files mkfs.btrfs adds to that.
pub(crate) fn list() {
    let mut have: BTreeSet<String> = BASE.iter().flat_map(|program| libraries(program)).collect();
    let mut ours = libraries("/payload/bin/nightlatch");
    let loader = ours
        .iter()
        .find(|file| file.contains("libtss2-tctildr.so"))
        .unwrap();
    let (directory, _) = loader.rsplit_once('/').unwrap();
    let tcti = canonical(&format!("{directory}/{TCTI}"));
    ours.extend(libraries(&tcti));
    ours.insert(tcti);
    let added: Vec<_> = ours.difference(&have).cloned().collect();
    have.extend(ours);
    let mkfs = canonical("/usr/sbin/mkfs.btrfs");
    let mut tools: Vec<_> = libraries(&mkfs).difference(&have).cloned().collect();
    tools.push(mkfs);
    say(&json!({ "kind": "files", "libraries": added, "mkfs": tools }));
}

/// All libraries the program needs, those its libraries need included.
fn libraries(program: &str) -> BTreeSet<String> {
    run("ldd", &[program], &[])
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(canonical)
        .collect()
}

fn canonical(path: &str) -> String {
    let path = fs::canonicalize(path).expect(path);
    path.into_os_string().into_string().unwrap()
}
