// SPDX-License-Identifier: Apache-2.0
//! The command line of `nightlatchd`: its commands and their options, by which help and manual are made or judged.
//!
//! What stands in a `///` comment here is what `--help` says.
//!
//! **Never:** a command carried out: the words become values.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::keyservice::config::CONFIG_PATH;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failure, 2 usage, 69 missing hardware, 75 try again later,
77 refused, 78 configuration.";

/// Where `init` writes unless told otherwise.
const DIRECTORY: &str = "/etc/nightlatch";

/// Give keys to machines that prove what they booted.
///
/// Without a command it runs the service, as "serve" does.
#[derive(Debug, Parser)]
#[command(
    name = "nightlatchd",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true,
    after_help = EXIT_CODES
)]
pub(in crate::keyservice) struct Cli {
    #[command(flatten)]
    pub(in crate::keyservice) serve: Serve,
    #[command(subcommand)]
    pub(in crate::keyservice) command: Option<Command>,
}

/// The command line as a value: its commands, options and what is said of them.
pub(in crate::keyservice) fn command() -> clap::Command {
    Cli::command()
}

#[derive(Debug, Subcommand)]
pub(in crate::keyservice) enum Command {
    /// Run the service; this is what no command means.
    Serve(Serve),
    /// Check a configuration, its policy, its secrets and its certificate.
    Check {
        /// The configuration.
        #[arg(default_value = CONFIG_PATH)]
        file: PathBuf,
    },
    /// Make the secrets of a new fleet. Files that exist are never replaced.
    Init {
        /// Where to.
        #[arg(long, value_name = "DIRECTORY", default_value = DIRECTORY)]
        directory: PathBuf,
        /// Print them as well.
        #[arg(long)]
        print: bool,
        /// Take them from paper, as "paper" prints them: from this file, or typed after -.
        #[arg(long, value_name = "FILE", conflicts_with = "kms")]
        from_paper: Option<PathBuf>,
        /// Have the KMS of the configuration wrap the master secret.
        #[arg(long)]
        kms: bool,
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH, requires = "kms")]
        config: PathBuf,
    },
    /// Print the secrets of a fleet for a safe: lines to write down, each with a check word.
    Paper {
        /// Where they are.
        #[arg(long, value_name = "DIRECTORY", default_value = DIRECTORY)]
        directory: PathBuf,
        /// Compare what is on the paper with them instead: from this file, or typed after -.
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    },
    /// The master secret under a KMS.
    #[command(subcommand)]
    Kms(KmsCommand),
}

#[derive(Debug, Subcommand)]
pub(in crate::keyservice) enum KmsCommand {
    /// Try out all that is ever asked of the KMS.
    Check {
        /// The configuration.
        #[arg(default_value = CONFIG_PATH)]
        file: PathBuf,
    },
    /// Say what has wrapped the master secret, and who can unwrap it.
    Status {
        /// The configuration.
        #[arg(default_value = CONFIG_PATH)]
        file: PathBuf,
    },
    /// Wrap a master secret that is there already.
    Wrap {
        /// The configuration with the KMS to wrap it for.
        #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
        config: PathBuf,
        /// The master secret.
        master: PathBuf,
        /// The file to write, which is not there yet.
        output: PathBuf,
    },
    /// Open a wrapped master secret with the recovery key, and wrap it for the KMS that is configured.
    Recover(Recover),
}

#[derive(Args, Debug)]
pub(in crate::keyservice) struct Recover {
    /// The private half of the recovery key, PEM.
    #[arg(long, value_name = "FILE")]
    pub(in crate::keyservice) private_key: PathBuf,
    /// Write the master secret as it is, for a service without a KMS.
    #[arg(long)]
    pub(in crate::keyservice) plain: bool,
    /// The configuration with the KMS to wrap it for.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    pub(in crate::keyservice) config: PathBuf,
    /// The wrapped master secret.
    pub(in crate::keyservice) wrapped: PathBuf,
    /// The file to write, which is not there yet.
    pub(in crate::keyservice) output: PathBuf,
}

// No comment of its own for help: it is a part of two commands.
#[derive(Args, Debug)]
pub(in crate::keyservice) struct Serve {
    /// The configuration.
    #[arg(long, short, value_name = "FILE", default_value = CONFIG_PATH)]
    pub(in crate::keyservice) config: PathBuf,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_definitions_fit_each_other() {
        command().debug_assert();
    }

    #[test]
    fn no_command_is_to_serve_and_options_belong_to_theirs() {
        let parsed = |words: &[&str]| Cli::try_parse_from([&["nightlatchd"], words].concat());
        let cli = parsed(&["--config", "x"]).unwrap();
        assert!(cli.command.is_none() && cli.serve.config == Path::new("x"));
        assert_eq!(parsed(&[]).unwrap().serve.config, Path::new(CONFIG_PATH));
        let Some(Command::Serve(serve)) = parsed(&["serve", "-c", "y"]).unwrap().command else {
            panic!("not serve");
        };
        assert_eq!(serve.config, Path::new("y"));
        for words in [
            &["--config", "x", "serve"][..],
            &["check", "--print"],
            &["open"],
        ] {
            let error = parsed(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }
}
