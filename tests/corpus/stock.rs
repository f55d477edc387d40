// SPDX-License-Identifier: Apache-2.0
//! What `cryptsetup` says to the same headers, with the right passphrase.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::judge::Disk;

/// The CPU time it gets for one header, in the hundredths of a second `/proc` counts in. A good header takes one
/// or two, and one with four passes over 64 MiB not half of it.
const CPU_TICKS: u64 = 100;

/// What cryptsetup does with a header.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a column of the table"
)]
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
    let mut open = cryptsetup(&["open", "--test-passphrase", "--key-file"]);
    let open = open.args([passphrase, &disk.0]).spawn();
    let ended = end(open.expect("cryptsetup is installed"));
    let opens = ended.is_some_and(|status| status.success());
    let dump = || cryptsetup(&["luksDump"]).arg(&disk.0).status().unwrap();
    Answer {
        reads: opens || ended.is_none() || dump().success(),
        opens,
        runs_on: ended.is_none(),
        crashes: ended.is_some_and(|status| status.code().is_none()),
    }
}

/// Waits for a program, and ends it when its time is over.
fn end(mut child: Child) -> Option<ExitStatus> {
    let stat = format!("/proc/{}/stat", child.id());
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        // proc_pid_stat(5): fields 14 and 15, counted behind the name in parentheses, which is field 2.
        let stat = fs::read_to_string(&stat).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        let ticks = fields
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap());
        if ticks.sum::<u64>() >= CPU_TICKS {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        thread::sleep(Duration::from_millis(3)); // wait: event
    }
}

/// Its version.
pub(crate) fn version() -> String {
    let said = cryptsetup(&["--version"]).stdout(Stdio::piped()).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    said.split(' ').nth(1).unwrap().trim().to_owned()
}

fn cryptsetup(words: &[&str]) -> Command {
    let mut command = Command::new("cryptsetup");
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
