// SPDX-License-Identifier: Apache-2.0
//! The question before what cannot be undone. `--yes` answers it beforehand.
//!
//! **Never:** silence taken for a yes.

use std::io::{self, BufRead, IsTerminal as _, Write};

use crate::ctl::usage;
use crate::error::{Error, Result};

/// Goes on where it is meant. Where nobody can be asked, it has to be said in the command.
pub(super) fn confirm(is_meant: bool, what: &str) -> Result<()> {
    require_answer(is_meant, what)?;
    if is_meant {
        return Ok(());
    }
    ask(io::stdin().lock(), io::stderr(), what)
}

/// Somebody has said yes, or can be asked. For what is looked at before the question is known.
pub(super) fn require_answer(is_meant: bool, what: &str) -> Result<()> {
    if is_meant || io::stdin().is_terminal() {
        return Ok(());
    }
    Err(usage(&format!(
        "{what}: that cannot be undone, and there is no terminal to ask on: add --yes where it is meant"
    )))
}

fn ask(mut from: impl BufRead, mut to: impl Write, what: &str) -> Result<()> {
    write!(to, "{what}. That cannot be undone. Go on? [y/N] ")?;
    to.flush()?;
    let mut answer = String::new();
    from.read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::refused("nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn only_a_yes_is_one() {
        for yes in ["y\n", "yes\n", " Y \n"] {
            let mut said = Vec::new();
            ask(yes.as_bytes(), &mut said, "volume a is forgotten").unwrap();
            assert!(said.starts_with(b"volume a is forgotten. That cannot be undone."));
        }
        for no in ["", "\n", "n\n", "yesterday\n"] {
            let error = ask(no.as_bytes(), Vec::new(), "x").unwrap_err();
            assert_eq!(error.exit(), Exit::Refused);
        }
        confirm(true, "x").unwrap();
    }
}
