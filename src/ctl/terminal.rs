// SPDX-License-Identifier: Apache-2.0
//! What a terminal gets that a pipe does not.
//!
//! **Never:** an escape written to what is no terminal.

use std::io::{self, IsTerminal as _};

/// Select Graphic Rendition (ECMA-48, 8.3.117): bold, and back to normal.
const BOLD: &str = "\u{1b}[1m";
const NORMAL: &str = "\u{1b}[0m";

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
    fn headings_alone_are_set_off() {
        let text = "boots counted: 3\n\nVOLUME  FILE SYSTEM\nSTATE1  btrfs\n";
        let bold =
            format!("boots counted: 3\n\n{BOLD}VOLUME  FILE SYSTEM{NORMAL}\nSTATE1  btrfs\n");
        assert_eq!(with_headings(text), bold);
    }
}
