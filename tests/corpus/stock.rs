// SPDX-License-Identifier: Apache-2.0
//! What `cryptsetup` says to the same headers, with the right passphrase.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::judge::Disk;

/// Seconds of CPU it gets for one header. A good one takes hundredths of one.
const CPU_S: u32 = 1;
/// The signal that ends a program whose CPU time is over (Linux, signal(7)).
const SIGXCPU: i32 = 24;
const SIGKILL: i32 = 9;

/// What cryptsetup does with a header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    /// `luksDump` accepts the metadata.
    pub(crate) reads: bool,
    /// `open --test-passphrase` succeeds.
    pub(crate) opens: bool,
    /// It used up its time, deriving a key.
    pub(crate) runs_on: bool,
    /// It crashed.
    pub(crate) crashes: bool,
}

/// Asks for one header. The file may be another one afterwards.
pub(crate) fn ask(disk: &Disk, passphrase: &Path) -> Answer {
    let open = cryptsetup(
        &["open", "--test-passphrase", "--key-file"],
        &[passphrase, &disk.0],
    );
    let ended_by = open.status.signal();
    let runs_on = matches!(ended_by, Some(SIGXCPU | SIGKILL));
    let opens = open.status.success();
    Answer {
        reads: opens || runs_on || cryptsetup(&["luksDump"], &[&disk.0]).status.success(),
        opens,
        runs_on,
        crashes: ended_by.is_some() && !runs_on,
    }
}

/// Its version.
pub(crate) fn version() -> String {
    let said = cryptsetup(&["--version"], &[]).stdout;
    let said = String::from_utf8(said).unwrap();
    said.split(' ').nth(1).unwrap().trim().to_owned()
}

/// Memory is bounded so that a header cannot have other programs killed: more than a keyslot may ask for.
fn cryptsetup(words: &[&str], paths: &[&Path]) -> Output {
    Command::new("prlimit")
        .args([&format!("--cpu={CPU_S}"), "--as=8589934592", "cryptsetup"])
        .args(words)
        .args(paths)
        .stdin(Stdio::null())
        .output()
        .expect("prlimit of util-linux is installed")
}
