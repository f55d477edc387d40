// SPDX-License-Identifier: Apache-2.0
//! A node with a TPM, started by a firmware as it has to be, whose disk is none.

use std::fs;
use std::path::{Path, PathBuf};

use crate::boot::with_volumes_open;
use crate::config::{Config, Tcti};
use crate::error::Result;
use crate::status::{Recorder, Status};
use crate::support::firmware::{self, Firmware};
use crate::support::swtpm::Swtpm;
use crate::tpm::Tpm;

/// What its configuration says of the boot.
pub(super) const REQUIRED: &str = "boot.authorities = [\"/authority.der\"]\n";

pub(super) struct Node {
    pub(super) swtpm: Swtpm,
    pub(super) top: PathBuf,
    pub(super) config: Config,
}

impl Node {
    /// Secure Boot on, and the owner's image.
    pub(super) fn new() -> Self {
        let node = Self::with(REQUIRED, "nohibernate\n");
        node.start(&Firmware::signed());
        node
    }

    /// A node with these lines before its volume, that no firmware has started yet.
    pub(super) fn with(lines: &str, command_line: &str) -> Self {
        let swtpm = Swtpm::start();
        let top = swtpm.dir().join("top");
        let config = config(lines, swtpm.port());
        let node = Self { swtpm, top, config };
        node.write("proc/sys/kernel/osrelease", b"6.12.90\n");
        node.write("proc/cmdline", command_line.as_bytes());
        node.write("authority.der", firmware::OWNER);
        node
    }

    /// What a firmware measures before the kernel runs.
    pub(super) fn start(&self, firmware: &Firmware) {
        firmware.start(&mut self.tpm(), &self.top);
    }

    pub(super) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.top.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(super) fn tpm(&self) -> Tpm {
        let port = self.swtpm.port();
        Tpm::open(&Tcti::Swtpm { port }).unwrap()
    }

    /// One boot, which nothing is handed over by.
    pub(super) fn boot(&self) -> (Result<()>, Status) {
        let record = Recorder::start();
        let result = with_volumes_open(&self.top, &self.config, &record, |_, _| {
            panic!("there is nothing to hand over")
        });
        let status = record.finish(&result);
        (result, status)
    }
}

/// A configuration with these lines, and a disk that no rule accepts, and nobody has to be root to read.
pub(super) fn config(lines: &str, port: u16) -> Config {
    Config::parse(&text(lines, port)).unwrap()
}

/// The same as it is written.
pub(super) fn text(lines: &str, port: u16) -> String {
    let volume = "[[volume]]\nname = \"state\"\ndevice = \"/dev/null\"\nrole = \"state\"\nmount = \"/state\"\n\
                  sources = [\"tpm\"]\n";
    let tpm = format!("tpm.tcti = \"swtpm:port={port}\"\n");
    [&tpm, lines, volume].concat()
}
