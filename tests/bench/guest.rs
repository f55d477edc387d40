// SPDX-License-Identifier: Apache-2.0
//! The machine: its disks, its TPM and the programs that are run.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::chip::Chip;

/// The PCRs that volumes are sealed to. The second is the fence.
const POLICY: [u8; 2] = [7, 12];

/// One of the machine's disks.
pub(crate) struct Disk {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
}

impl Disk {
    /// The disk with the given serial.
    pub(crate) fn named(name: &'static str) -> Self {
        let link = format!("/dev/disk/by-id/virtio-{name}");
        let path = fs::canonicalize(&link).expect(&link);
        Self { name, path }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Makes the whole disk read as zeros.
    pub(crate) fn blank(&self) {
        close();
        run("blkdiscard", &["-f", self.as_str()], &[]);
        settle();
    }

    /// Forgets what was read of it.
    pub(crate) fn cool(&self) {
        settle();
        run("blockdev", &["--flushbufs", self.as_str()], &[]);
    }

    pub(crate) fn len_gib(&self) -> u64 {
        (self.stat("size", 0) * 512) >> 30
    }

    /// Bytes written to it since the machine started (kernel documentation, block/stat: field 7, in sectors of 512).
    pub(crate) fn bytes_written(&self) -> u64 {
        run("sync", &[], &[]);
        self.stat("stat", 6) * 512
    }

    fn stat(&self, file: &str, field: usize) -> u64 {
        let name = self.path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(format!("/sys/block/{name}/{file}")).unwrap();
        text.split_whitespace().nth(field).unwrap().parse().unwrap()
    }
}

/// Unmounts and unmaps all volumes.
pub(crate) fn close() {
    settle();
    for line in fs::read_to_string("/proc/mounts").unwrap().lines() {
        let place = line.split(' ').nth(1).unwrap();
        if place.starts_with("/mnt/") {
            run("umount", &[place], &[]);
        }
    }
    let mut names: Vec<_> = fs::read_dir("/dev/mapper")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "control")
        .collect();
    // Each volume's lower mapping is NAME_dif, and goes last.
    names.sort_by_key(|name| name.ends_with("_dif"));
    for name in names {
        run("dmsetup", &["remove", "--retry", &name], &[]);
    }
    settle();
}

fn settle() {
    run("udevadm", &["settle"], &[]);
}

/// Runs a program to its end, which must be a good one, and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&str], input: &[u8]) -> String {
    finish(start(program, arguments, input))
}

/// Starts a program. Messages of tpm2-tss are off and threads share one arena, as in the unit.
pub(crate) fn start(program: &str, arguments: &[&str], input: &[u8]) -> Child {
    let mut child = Command::new(program)
        .args(arguments)
        .env("TSS2_LOG", "all+NONE")
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(program);
    child.stdin.take().unwrap().write_all(input).unwrap();
    child
}

pub(crate) fn finish(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// How long `work` takes, in seconds.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let value = work();
    (started.elapsed().as_secs_f64(), value)
}

/// Runs ours as a process of its own and gives its report.
pub(crate) fn ours(mode: &str, config: &Path) -> Value {
    let program = std::env::current_exe().unwrap();
    let arguments = [mode, config.to_str().unwrap()];
    let report = run(program.to_str().unwrap(), &arguments, &[]);
    serde_json::from_str(&report).unwrap()
}

/// Writes a configuration with a volume of this anchor level on each disk, named like the disk.
pub(crate) fn config(chip: &Chip, disks: &[&Disk], level: &str, file_system: &str) -> PathBuf {
    let [_, fence] = POLICY;
    let node = chip.exclusive();
    let mut text = format!(
        "boot.authorities = [\"/tmp/authority.der\"]\n[tpm]\ntcti = \"device:{node}\"\npcrs = {POLICY:?}\nfence-pcr = {fence}\n"
    );
    for Disk { name, path } in disks {
        let device = path.display();
        write!(
            text,
            "[[volume]]\nname = \"{name}\"\ndevice = \"{device}\"\nrole = \"state\"\nformat = \"if-blank\"\n\
             sources = [\"tpm\", \"generate\"]\nfile-system = \"{file_system}\"\nmount = \"/srv/{name}\"\nanchor = \"{level}\"\n"
        )
        .unwrap();
    }
    let path = PathBuf::from("/tmp/nightlatch.toml");
    fs::write(&path, text).unwrap();
    path
}
