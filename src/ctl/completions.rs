// SPDX-License-Identifier: Apache-2.0
//! `completions`: what a shell needs to complete the words of `nightlatchctl`.
//!
//! **Never:** a word that the definitions do not have.

use clap_complete::Shell;
use serde_json::json;

use crate::ctl::{Answer, cli};
use crate::error::{Error, Result};

/// The script for a shell, as packages install it.
pub(super) fn completions(shell: Shell) -> Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), cli::NAME, &mut script);
    let text = String::from_utf8(script).map_err(Error::failure)?;
    let json = json!({"shell": shell.to_string(), "script": text});
    Ok(Answer::new(text, json))
}
