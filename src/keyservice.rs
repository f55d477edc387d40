// SPDX-License-Identifier: Apache-2.0
//! `nightlatchd`: gives keys to machines that prove what they booted.
//!
//! What steps share is a [`state::Service`]: the secret, the policy, the registry, the audit log. Replicas share the
//! store and the master secret, and nothing else. [`run`] starts it, [`reload`] watches its files; operators come in by
//! [`http::operators`].
//!
//! **Never:** a TPM, a disk, another program started, or a machine trusted for where it is.
//!
//! # A request
//!
//! 1. [`run::bind`] opens everything; [`http::listener`] accepts a connection, counts its peer and shakes hands.
//! 2. [`http::nodes`] makes an [`Operation`](state::Operation) of the path, and opens the session of token or cookie.
//! 3. The peer is counted, and [`before_body`](state::Service::before_body) looks at the session: who has none sends no body.
//! 4. [`BodyBudget::read`](http::body::BodyBudget::read) reads the body, within the time and the memory there is for it.
//! 5. [`answer`](state::Service::answer) takes it to its step, on a thread that may block, and times what comes of it.
//! 6. `/auth`, [`steps::auth`]: a nonce, a credential for the TPM that it says it is, and a session that holds both.
//! 7. `/attest`, [`steps::attest`]: evidence is verified, the policy asked, the volumes registered: an admitted session.
//! 8. `/resource`, [`steps::release`]: the key of one of its volumes, derived ([`secrets::Master`]) and sealed to it.
//! 9. [`record_audit`](state::Service::record_audit) writes a line before anything leaves, of a denial as well.
//! 10. [`http::nodes`] writes the [`Reply`](reply::Reply); of a [`Rejection`](reply::Rejection) the caller learns little.

// The service from start to end, and what the program does beside.
mod commands;
pub mod run;

mod cli;
pub mod reload;

// The way in and out.
pub mod http;

// What is asked: the protocol's steps by nodes, the fleet by operators.
mod fleet;
mod steps;

// What answers share.
pub mod state;

// What is remembered, and by which rules it changes.
pub mod registry;

pub mod metrics;
pub mod secrets;
pub mod session;
pub mod store;

#[cfg(feature = "kms")]
pub mod kms;

pub mod audit;
pub mod config;
pub mod limits;
pub mod reply;
pub mod volume_id;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command, KmsCommand};
use config::Config;

use crate::error::Exit;
use crate::{logging, memory};

/// The command line, for what is made of it: the manual's comparison.
#[must_use]
pub fn command() -> clap::Command {
    cli::command()
}

/// Runs what `arguments`, the program's name first, ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    memory::forbid_core_dumps();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(other) => return say_usage(&other),
    };
    let done = match cli.command {
        None => return serve(&cli.serve.config),
        Some(Command::Serve(given)) => return serve(&given.config),
        Some(Command::Check { file }) => commands::check(&file),
        Some(Command::Init {
            directory,
            print,
            kms: false,
            from_paper,
            ..
        }) => commands::init(&directory, print, from_paper.as_deref()),
        Some(Command::Paper { directory, check }) => commands::paper(&directory, check.as_deref()),
        Some(Command::Init {
            directory,
            print,
            config,
            ..
        }) => commands::kms::init(&directory, print, &config),
        Some(Command::Kms(KmsCommand::Check { file })) => commands::kms::check(&file),
        Some(Command::Kms(KmsCommand::Status { file })) => commands::kms::status(&file),
        Some(Command::Kms(KmsCommand::Wrap {
            config,
            master,
            output,
        })) => commands::kms::wrap(&config, &master, &output),
        Some(Command::Kms(KmsCommand::Recover(given))) => commands::kms::recover(&given),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed the exit code still tells.
            drop(io::stderr().write_all(format!("nightlatchd: {error}\n").as_bytes()));
            ExitCode::from(error.exit().code())
        }
    }
}

/// Prints help, the version, or what is wrong with the command line.
fn say_usage(other: &clap::Error) -> ExitCode {
    let exit = u8::try_from(other.exit_code()).unwrap_or(Exit::Usage.code());
    match other.print() {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::from(exit),
    }
}

fn serve(path: &Path) -> ExitCode {
    logging::init_as("nightlatchd");
    memory::protect();
    match Config::load(path).and_then(run::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::last_word(&error);
            ExitCode::from(error.exit().code())
        }
    }
}

#[cfg(test)]
mod tests;
