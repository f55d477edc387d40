// SPDX-License-Identifier: Apache-2.0
//! One boot of a machine whose power may go at any instant. `tests/boots/harness/kills.py` gives it a machine of its own, again and
//! again with the same disk and TPM, and kills it; the other cases' machine leaves it out.

use std::fs;

use nightlatch::boot::with_volumes_open;
use nightlatch::config::Config;
use nightlatch::status::Recorder;
use nightlatch::tpm::Tpm;

use crate::boots::{checkpoint, content, leave_file, mount};
use crate::support::firmware::Firmware;

/// How many files a boot leaves before it is done; set on the kernel's command line.
const FILES: &str = "NIGHTLATCH_FILES";

const CONFIG: &str = r#"
    boot = { secure-boot = "not-required", first-boot = "trusted" }
    tpm.pcrs = [2, 4, 9, 12]
    [[volume]]
    name = "case"
    device = "/dev/disk/by-id/virtio-node"
    role = "state"
    format = "if-blank"
    sources = ["tpm", "generate"]
    anchor = "checkpoint"
    kdf = "pbkdf2"
    mount = "/var/lib/case"
"#;

/// What it prints is what the host goes by: each line is with the host before the next step begins.
#[test]
fn one_boot() {
    let count: u32 = std::env::var(FILES).unwrap().parse().unwrap();
    let config = Config::parse(CONFIG).unwrap();
    // The machine's firmware is no UEFI, and its log has no program.
    let program = Firmware::default()
        .program(b"the kernel")
        .loaded(b"the initrd");
    program.go_on_with_machine(&mut Tpm::open(&config.tpm.tcti).unwrap());
    let record = Recorder::start();
    println!("\nopening");
    let result = with_volumes_open("/".as_ref(), &config, &record, |_, _| mount());
    let status = record.finish(&result);
    if let Err(error) = result {
        println!("failed {error}");
        panic!("{error}");
    }
    println!("opened {}", status.volumes[0].how.as_str());
    let mut found: Vec<u32> = fs::read_dir("/mnt")
        .unwrap()
        .map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    found.sort_unstable();
    for number in &found {
        let path = format!("/mnt/{number}");
        // What was not synced yet may be cut short, and nothing else.
        if fs::read_to_string(path).unwrap() == content(&number.to_string()) {
            println!("found {number}");
        }
    }
    println!("working");
    let next = found.last().map_or(1, |last| last + 1);
    for number in next..next + count {
        leave_file(&number.to_string());
        println!("durable {number}");
        checkpoint();
        println!("anchored {number}");
    }
    println!("done");
}
