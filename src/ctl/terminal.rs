// SPDX-License-Identifier: Apache-2.0
//! What a terminal gets that a pipe does not, and what is typed there that nobody is to see.
//!
//! **Never:** an escape written to what is no terminal, or a secret shown on one.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Read, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::ctl::usage;
use crate::error::{Doing, Error, Result};

/// The terminal of whoever runs this program, whatever its input and output are (tty(4)).
const TERMINAL: &str = "/dev/tty";

/// The longest line that is typed, in bytes.
const LINE_LEN_MAX: usize = 1024;

/// Select Graphic Rendition (ECMA-48, 8.3.117): bold, and back to normal.
const BOLD: &str = "\u{1b}[1m";
const NORMAL: &str = "\u{1b}[0m";

/// Asks for a secret, which is not shown while it is typed.
pub(super) fn ask_secret(prompt: &str) -> Result<Zeroizing<Vec<u8>>> {
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL);
    let mut terminal = terminal
        .map_err(|_none| usage("there is no terminal to ask for a key on: name its file"))?;
    let before = tcgetattr(&terminal).doing(TERMINAL)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    silent.local_flags.insert(LocalFlags::ECHONL);
    // Before anything is said: what was typed ahead is thrown away, and what is typed from now on is not shown.
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent).doing(TERMINAL)?;
    let said = terminal.write_all(prompt.as_bytes());
    let line = said.map_err(Error::from).and_then(|()| line(&mut terminal));
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &before).doing(TERMINAL)?;
    line
}

/// A line, read into memory that is not moved: what is left behind would not be wiped.
fn line(from: &mut impl Read) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_LEN_MAX));
    let mut byte = Zeroizing::new([0]);
    while from.read(&mut *byte)? == 1 && *byte != *b"\n" {
        if line.len() == LINE_LEN_MAX {
            return Err(Error::refused(format_args!(
                "expected a line of at most {LINE_LEN_MAX} characters"
            )));
        }
        line.extend_from_slice(&*byte);
    }
    Ok(line)
}

/// The text as standard output takes it.
pub(super) fn for_output(text: &str) -> String {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb {
        with_headings(text)
    } else {
        text.to_owned()
    }
}

/// Headings of tables are in capitals, and nothing else is.
fn with_headings(text: &str) -> String {
    let is_heading = |line: &str| {
        let plain = |c: char| c.is_ascii_uppercase() || c == ' ';
        !line.trim().is_empty() && line.chars().all(plain)
    };
    let lines = text.split_inclusive('\n').map(|line| {
        let bare = line.trim_end_matches('\n');
        if is_heading(bare) {
            format!("{BOLD}{bare}{NORMAL}\n")
        } else {
            line.to_owned()
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_its_end_and_one_without_end_is_refused() {
        for (typed, expected) in [("abc\ndef\n", "abc"), ("abc", "abc"), ("\n", "")] {
            assert_eq!(
                line(&mut typed.as_bytes()).unwrap().as_slice(),
                expected.as_bytes()
            );
        }
        let most = "x".repeat(LINE_LEN_MAX);
        assert_eq!(line(&mut most.as_bytes()).unwrap().len(), LINE_LEN_MAX);
        assert!(line(&mut format!("{most}x\n").as_bytes()).is_err());
    }

    #[test]
    fn headings_alone_are_set_off() {
        let text = "boots counted: 3\n\nVOLUME  FILE SYSTEM\nSTATE1  btrfs\n";
        let bold =
            format!("boots counted: 3\n\n{BOLD}VOLUME  FILE SYSTEM{NORMAL}\nSTATE1  btrfs\n");
        assert_eq!(with_headings(text), bold);
    }
}
