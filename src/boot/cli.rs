// SPDX-License-Identifier: Apache-2.0
//! The initrd program's command line. It is the generator too, when it is called by that name.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::error::Exit;
use crate::systemd::generator;

const HELP: &str = "\
Open the encrypted volumes of this machine, once, in the initrd

Usage: nightlatch boot

nightlatch.service runs it. The configuration is /etc/nightlatch/nightlatch.toml;
nightlatchctl(8) checks it and shows what the last boot did.

  -h, --help     Show this help
  -V, --version  Show the version
";

/// Runs what `arguments`, the program's name first, ask for; `boot` is the boot.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    boot: impl FnOnce() -> ExitCode,
) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let called = arguments.next().unwrap_or_default();
    if Path::new(&called).file_name() == Some(generator::NAME.as_ref()) {
        return generator::main(arguments);
    }
    let words: Vec<_> = arguments
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["boot"] => boot(),
        ["-h" | "--help"] => say(HELP),
        ["-V" | "--version"] => say(&format!("nightlatch {}\n", env!("CARGO_PKG_VERSION"))),
        _ => {
            // Where standard error is closed the exit code still tells.
            drop(io::stderr().write_all(b"nightlatch: expected boot, --help or --version\n"));
            ExitCode::from(Exit::Usage.code())
        }
    }
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
