// SPDX-License-Identifier: Apache-2.0
//! A TPM that can be reset while the machine runs: a boot measures what only a reset takes back.
//!
//! It is an swtpm behind the kernel's vtpm proxy, so there is a node of its own and one with the resource manager, as for
//! any TPM.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nightlatch::config::Tcti;
use nightlatch::tpm::Tpm;

use crate::guest::run;
use crate::support::firmware::Firmware;
use crate::support::swtpm::command_codes;

/// What the vtpm proxy tells swtpm before each command and no TPM ever sees (Linux, `TPM2_CC_SET_LOCALITY` of
/// `tpm_vtpm_proxy.c`).
const SET_LOCALITY: u32 = 0x2000_1000;

const DIRECTORY: &str = "/tmp/bench-tpm";

/// How long the kernel may take to make both nodes.
const START_MAX: Duration = Duration::from_secs(30);

/// The TPM and its nodes.
pub(crate) struct Chip {
    process: Child,
    number: u32,
}

impl Chip {
    /// A new one.
    pub(crate) fn start() -> Self {
        run("modprobe", &["tpm_vtpm_proxy"], &[]);
        make_directory();
        let (process, number) = serve();
        let chip = Self { process, number };
        chip.is_started();
        chip
    }

    /// The power goes and comes back: the PCRs start again, what is permanent stays.
    pub(crate) fn reset(&mut self) {
        self.stop();
        (self.process, self.number) = serve();
        self.is_started();
    }

    /// Another TPM, which remembers nothing.
    pub(crate) fn replace(&mut self) {
        self.stop();
        make_directory();
        (self.process, self.number) = serve();
        self.is_started();
    }

    /// A machine whose firmware started the owner's image.
    fn is_started(&self) {
        let node = Tcti::try_from(format!("device:{}", self.exclusive())).unwrap();
        Firmware::signed().start_machine(&mut Tpm::open(&node).unwrap());
    }

    /// The node that one program at a time has.
    pub(crate) fn exclusive(&self) -> String {
        format!("/dev/tpm{}", self.number)
    }

    /// The node with the resource manager.
    pub(crate) fn shared(&self) -> String {
        format!("/dev/tpmrm{}", self.number)
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let node = PathBuf::from(self.exclusive());
        wait_for(|| !node.exists());
    }
}

/// What `work` gives, and the codes of the commands it sent.
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> (T, Vec<u32>) {
    let before = commands().len();
    let value = work();
    let sent = commands().split_off(before);
    assert!(!sent.is_empty(), "no command was seen");
    (value, sent)
}

fn make_directory() {
    if Path::new(DIRECTORY).exists() {
        fs::remove_dir_all(DIRECTORY).unwrap();
    }
    fs::create_dir(DIRECTORY).unwrap();
}

fn commands() -> Vec<u32> {
    let mut codes = command_codes(&fs::read_to_string(format!("{DIRECTORY}/log")).unwrap());
    codes.retain(|code| *code != SET_LOCALITY);
    codes
}

/// Starts swtpm, which starts the TPM up and says which number the kernel gave it.
fn serve() -> (Child, u32) {
    let mut process = Command::new("swtpm")
        .args(["chardev", "--vtpm-proxy", "--tpm2"])
        .args(["--tpmstate", &format!("dir={DIRECTORY}")])
        .args(["--log", &format!("level=20,file={DIRECTORY}/log,truncate")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    // "New TPM device: /dev/tpm1 (major/minor = 10/125)"
    let node = line
        .split_whitespace()
        .find(|word| word.starts_with("/dev/tpm"));
    let number = node
        .unwrap()
        .trim_start_matches("/dev/tpm")
        .parse()
        .unwrap();
    let shared = PathBuf::from(format!("/dev/tpmrm{number}"));
    wait_for(|| shared.exists());
    run("udevadm", &["settle"], &[]);
    (process, number)
}

fn wait_for(done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            // wait: limit
            started.elapsed() < START_MAX,
            "the vtpm proxy does not answer"
        );
        thread::sleep(Duration::from_millis(5)); // wait: event
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        self.stop();
    }
}
