// SPDX-License-Identifier: Apache-2.0
//! `nightlatchctl`: what a boot did, and what one would do, told on a node or on an operator's machine.
//!
//! A verb is a file, and answers with an [`Answer`]: a text for people and the same as JSON for machines. Start reading
//! at [`run`], which lists the verbs.
//!
//! What opens the volume of another machine for it is [`crate::rescue`].
//!
//! **Never:** a volume of this machine opened, or its TPM or a key service asked for a key.
//!
//! # A status read
//!
//! 1. [`main`] has the words taken apart by [`cli`], and gives the [`Verb`] to [`run`], with `/` as the root.
//! 2. [`run`] finds the verb: `status` is [`status::show`].
//! 3. [`Status::load`](crate::status::Status::load) reads `/run/nightlatch/status.json`, which the boot left there.
//! 4. [`Status::parse`](crate::status::Status::parse) refuses another schema, and leaves out fields it does not know.
//! 5. [`status::show`] makes JSON of it as it is; what people read is made from the same value.
//! 6. Its first line is the verdict, the exit code's word and number; the error comes below, where there is one.
//! 7. The volumes, what the next boot is asked for, what was measured, and the steps are each rows of a [`table::table`].
//! 8. [`table::section`] aligns the columns; a table without rows is left out.
//! 9. With `--svg` the same record is drawn as a timeline instead: [`crate::status::svg()`].
//! 10. [`main`] prints one of the two; an error goes to standard error, or is JSON as well, and is the exit code.

// The rooms, floor by floor from the top down. What a boot to come will do, for which other verbs look.
mod check;

// The verbs.
mod anchor;
mod completions;
mod config;
mod derive;
mod enroll;
mod evidence;
mod image;
mod nodes;
mod open;
mod policy;
mod recover;
mod recovery_key;
mod rotate;
mod status;

// What several of them look at.
mod context;
pub mod header;
mod last_failure;
mod mounts;
mod needs;
mod requests;

// What is typed, read, asked and shown.
mod cli;
mod input;
mod question;
mod table;
mod terminal;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use serde_json::{Value, json};

use self::cli::{Cli, Verb};
use crate::config::Profile;
use crate::error::{Error, Exit, Result};

/// What a command has to say, for people and for machines.
struct Answer {
    text: String,
    json: Value,
    /// What is wrong with what was asked about, where that is told in more than a sentence.
    exit: Option<Exit>,
    /// Whether it is what was asked for all the same, and no complaint.
    is_shown: bool,
}

impl Answer {
    fn new(text: String, json: Value) -> Self {
        Self {
            text,
            json,
            exit: None,
            is_shown: true,
        }
    }

    /// What was asked for, with a verdict on it, if there is one.
    fn with_verdict(self, exit: Option<Exit>) -> Self {
        Self { exit, ..self }
    }

    /// A verdict that is no good.
    fn refused(exit: Exit, text: String, json: Value) -> Self {
        Self {
            text,
            json,
            exit: Some(exit),
            is_shown: false,
        }
    }
}

/// The command line, for what is made of it: completions, and the manual's comparison.
#[must_use]
pub fn command() -> clap::Command {
    cli::command()
}

/// Runs the command that `arguments`, the program's name first, ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (exit, said) = match Cli::try_parse_from(&arguments) {
        Ok(cli) => tell(run(Path::new("/"), &cli.verb), cli.json),
        Err(other) => tell_usage(&other, arguments.iter().any(|word| word == "--json")),
    };
    // A reader that has seen enough is no failure; a full disk is one.
    match said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => exit,
    }
}

/// Prints what a command had to say.
fn tell(answer: Result<Answer>, as_json: bool) -> (ExitCode, io::Result<()>) {
    match answer {
        Ok(answer) => {
            let exit = answer
                .exit
                .map_or(ExitCode::SUCCESS, |exit| exit.code().into());
            let said = match answer.exit {
                _ if as_json => print(&format!("{:#}\n", answer.json)),
                Some(_) if !answer.is_shown => io::stderr().write_all(answer.text.as_bytes()),
                _ => print(&terminal::for_output(&answer.text)),
            };
            (exit, said)
        }
        Err(error) => {
            let exit = ExitCode::from(error.exit().code());
            let said = if as_json {
                print(&format!("{:#}\n", complaint(&error)))
            } else {
                io::stderr().write_all(format!("nightlatchctl: {error}\n").as_bytes())
            };
            (exit, said)
        }
    }
}

/// Prints help, the version, or what is wrong with the command line.
fn tell_usage(other: &clap::Error, as_json: bool) -> (ExitCode, io::Result<()>) {
    if !as_json {
        let exit = u8::try_from(other.exit_code()).unwrap_or(Exit::Usage.code());
        return (ExitCode::from(exit), other.print());
    }
    if other.use_stderr() {
        return tell(Err(wrong(other)), as_json);
    }
    let json = if other.kind() == ErrorKind::DisplayVersion {
        json!({"version": env!("CARGO_PKG_VERSION")})
    } else {
        json!({"help": other.to_string()})
    };
    tell(Ok(Answer::new(String::new(), json)), as_json)
}

/// What is wrong with a command line, in one sentence.
fn wrong(other: &clap::Error) -> Error {
    if other.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return usage("expected a command");
    }
    let text = other.to_string();
    let lines = text.lines().map(str::trim);
    let is_advice = |line: &str| line.starts_with("Usage:") || line.starts_with("For more ");
    let lines = lines.take_while(|line| !is_advice(line));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    usage(
        lines
            .join("; ")
            .replace(":; ", ": ")
            .trim_start_matches("error: "),
    )
}

/// One command. `root` is `/` outside of tests.
fn run(root: &Path, verb: &Verb) -> Result<Answer> {
    match verb {
        Verb::Status(cli::Status { svg: None }) => status::show(root),
        Verb::Status(cli::Status { svg: Some(file) }) => status::draw(root, file),
        Verb::LastFailure(cli::LastFailure { clear, index }) => match clear {
            false => last_failure::show(root, *index),
            true => last_failure::clear(root, *index),
        },
        Verb::Config(cli::Config::Check { file }) => config::check(file),
        Verb::Config(cli::Config::Show { list, file }) => config::show(file, list.as_deref()),
        Verb::Header(cli::Header::Check { profile, device }) => check_header(*profile, device),
        Verb::Evidence(cli::Evidence::Show { device }) => evidence::show(device),
        Verb::Evidence(cli::Evidence::Verify(given)) => evidence::verify(given),
        Verb::Policy(cli::Policy::Check { file }) => policy::check(file),
        Verb::Policy(cli::Policy::Image(given)) => policy::image(given),
        Verb::Policy(cli::Policy::Sign(given)) => policy::sign(given),
        Verb::Policy(cli::Policy::Explain { policy, evidence }) => {
            policy::explain(policy, evidence)
        }
        Verb::Image(cli::Image::Check { file }) => image::check(file),
        Verb::Check(given) => check::check(root, given),
        Verb::Anchor(cli::Anchor::Show) => anchor::show(root),
        Verb::Anchor(cli::Anchor::Accept { yes, kind, volume }) => {
            anchor::accept(root, *kind, volume, *yes)
        }
        Verb::Anchor(cli::Anchor::Checkpoint) => anchor::checkpoint(root),
        Verb::Anchor(cli::Anchor::Forget { yes, volume }) => anchor::forget(root, volume, *yes),
        Verb::Enroll(cli::Enroll { volume: None }) => enroll::show(root),
        Verb::Enroll(cli::Enroll {
            volume: Some(volume),
        }) => enroll::ask(root, volume),
        Verb::RecoveryKey(cli::RecoveryKey::Add {
            confirm_file,
            volume,
        }) => recovery_key::add(root, volume, confirm_file.as_deref()),
        Verb::RecoveryKey(cli::RecoveryKey::List) => recovery_key::list(root),
        Verb::RecoveryKey(cli::RecoveryKey::Test { key_file, volume }) => {
            recovery_key::test(root, volume, key_file.as_deref())
        }
        Verb::RecoveryKey(cli::RecoveryKey::Remove {
            yes,
            keyslot,
            volume,
        }) => recovery_key::remove(root, volume, *keyslot, *yes),
        Verb::Rotate(cli::Rotate::Secret { yes, volume }) => rotate::secret(root, volume, *yes),
        Verb::Rotate(cli::Rotate::Seal { volume }) => rotate::seal(root, volume),
        Verb::Rotate(cli::Rotate::VolumeKey { volume }) => rotate::volume_key(root, volume),
        Verb::Rotate(cli::Rotate::List) => rotate::list(root),
        Verb::Rotate(cli::Rotate::Cancel { volume }) => rotate::cancel(root, volume),
        Verb::Mounts(cli::Mounts::Check) => mounts::check(root),
        Verb::Derive(given) => derive::derive(given),
        Verb::Open(given) => open::open(given),
        Verb::Close(given) => open::close(given),
        Verb::Nodes(verb) => nodes::run(verb),
        Verb::Recover(given) => recover::recover(given),
        Verb::Completions { shell } => completions::completions(*shell),
    }
}

fn check_header(profile: Option<Profile>, path: &Path) -> Result<Answer> {
    let report = header::check(profile, path)?;
    let json = serde_json::to_value(&report).map_err(Error::failure)?;
    Ok(Answer::new(report.to_string(), json))
}

fn usage(message: &str) -> Error {
    Error::new(
        Exit::Usage,
        format_args!("{message}; try nightlatchctl --help"),
    )
}

/// An error for machines: the same fields as in the boot record.
fn complaint(error: &Error) -> Value {
    json!({
        "result": error.exit().as_str(),
        "exit": error.exit().code(),
        "error": error.to_string(),
    })
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}

#[cfg(test)]
mod tests;
