// SPDX-License-Identifier: Apache-2.0
//! `nightlatchctl`: what a boot did, and what one would do, told on a node or on an operator's machine.
//!
//! A verb is a file, and answers with an [`Answer`]: a text for people and the same as JSON for machines. Start reading
//! at [`run`], which lists the verbs.
//!
//! **Never:** a volume opened, a disk written to, or a key asked for: it shows, and changes what is remembered.
//!
//! # A status read
//!
//! 1. [`main`] takes the program's name and `--json` off the words and gives the rest to [`run`], with `/` as the root.
//! 2. [`run`] finds the verb: `status` is [`status::show`].
//! 3. [`Status::load`](crate::status::Status::load) reads `/run/nightlatch/status.json`, which the boot left there.
//! 4. [`Status::parse`](crate::status::Status::parse) refuses another schema, and leaves out fields it does not know.
//! 5. [`status::show`] makes JSON of it as it is; what people read is made from the same value.
//! 6. Its first line is the verdict, the exit code's word and number; the error comes below, where there is one.
//! 7. The volumes, what was measured, and the steps with their times are each rows of a [`table::table`].
//! 8. [`table::section`] aligns the columns; a table without rows is left out.
//! 9. With `--svg` the same record is drawn as a timeline instead: [`crate::status::svg()`].
//! 10. [`main`] prints one of the two; an error goes to standard error, or is JSON as well, and is the exit code.

mod anchor;
mod derive;
mod enroll;
mod evidence;
pub mod header;
mod mounts;
mod nodes;
mod policy;
mod status;
mod table;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::config::{Config, FilePath, Profile};
use crate::error::{Error, Exit, Result};

const HELP: &str = "\
Show and check what nightlatch does

Usage: nightlatchctl [--json] COMMAND

  status                  Show what the last boot did to each volume, and how long it took
  status --svg FILE       Draw it as a timeline
  config check FILE       Check a configuration
  header check [--profile NAME] FILE|DEVICE
                          Check a LUKS2 header as a boot does, without writing anything
  evidence show FILE|DEVICE
                          Show what the TPM said when a volume was made
  evidence verify [--ak FILE] [--select BANK:PCR,...] [--firmware-log FILE] [--log FILE]
                  [--pcrs FILE] [--export DIR] FILE|DEVICE
                          Verify that, as far as is given: the attestation key, the PCRs, the
                          firmware's and systemd's event logs, PCR values as JSON. Write it out
                          for tpm2_checkquote
  policy check FILE       Check a policy of the key service
  policy image UKI [--name NAME] [--authority CERT]... [--boot-loader FILE] [--command-line TEXT]...
               [--initrd-hash DIGEST]...
                          Print what a policy has to say of an image, from its files: of Secure Boot
                          with these authorities or without it, of a boot through a loader as well,
                          of a further command line, with an initrd that the kernel has to measure
  policy explain POLICY EVIDENCE
                          Say which image of a policy a machine booted, or what differs
  anchor show             Show what the TPM remembers of this node's volumes
  anchor accept rollback|new VOLUME
                          Let the next boot accept an older state of the volume's disk, or a blank
                          disk in its place
  anchor checkpoint       Tell the TPM which state of the volumes' file systems is durable now
  anchor forget VOLUME    Make the TPM forget a volume that is gone for good
  enroll [VOLUME]         Say whose the volumes' secrets are; with a volume, have it given the key
                          service's key at the next boot that reaches the service
  mounts check            Compare what is mounted with what the boot opened
  derive --secret FILE --salt FILE --id ID
                          Print the key derived for ID, in hexadecimal digits. The files are raw:
                          a secret of at least 16 bytes, a salt of at least 32
  nodes list|show ID|forget ID|readmit [--cancel] UUID --server URL --cert FILE --key FILE --ca FILE
                          What a key service remembers of nodes, asked for at its admin listener with
                          an operator's certificate. ID is a node's 64 digits or a volume's UUID. A
                          volume that is forgotten, alone or with its node, belongs to the next node
                          that asks for it, at any epoch. One whose node lost its TPM is readmitted:
                          the next machine that is admitted gets it, with a disk no older than the
                          service was told of last
  -h, --help              Show this help
  -V, --version           Show the version

Exit codes: 0 done, 1 failure, 2 usage, 69 missing hardware, 75 try again later,
77 refused, 78 configuration.
";

/// What a command has to say, for people and for machines.
struct Answer {
    text: String,
    json: Value,
}

impl Answer {
    fn new(text: String, json: Value) -> Self {
        Self { text, json }
    }
}

/// Runs the command that `arguments`, the program's name first, ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words: Vec<String> = arguments
        .into_iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let as_json = words.iter().any(|word| word == "--json");
    words.retain(|word| word != "--json");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (exit, said) = match run(Path::new("/"), &words) {
        Ok(answer) if as_json => (ExitCode::SUCCESS, print(&format!("{:#}\n", answer.json))),
        Ok(answer) => (ExitCode::SUCCESS, print(&answer.text)),
        Err(error) => {
            let exit = ExitCode::from(error.exit().code());
            let said = if as_json {
                print(&format!("{:#}\n", complaint(&error)))
            } else {
                io::stderr().write_all(format!("nightlatchctl: {error}\n").as_bytes())
            };
            (exit, said)
        }
    };
    // A reader that has seen enough is no failure; a full disk is one.
    match said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => exit,
    }
}

/// One command. `root` is `/` outside of tests.
fn run(root: &Path, words: &[&str]) -> Result<Answer> {
    match words {
        ["-h" | "--help"] => Ok(Answer::new(HELP.into(), json!({"help": HELP}))),
        ["-V" | "--version"] => {
            let version = env!("CARGO_PKG_VERSION");
            let text = format!("nightlatchctl {version}\n");
            Ok(Answer::new(text, json!({"version": version})))
        }
        ["status"] => status::show(root),
        ["status", "--svg", file] => status::draw(root, Path::new(file)),
        ["config", "check", file] => check_config(Path::new(file)),
        ["header", "check", file] => check_header(None, Path::new(file)),
        ["header", "check", "--profile", name, file] => {
            check_header(Some(profile(name)?), Path::new(file))
        }
        ["evidence", "show", file] => evidence::show(Path::new(file)),
        ["evidence", "verify", options @ ..] => evidence::verify(options),
        ["policy", "check", file] => policy::check(Path::new(file)),
        ["policy", "image", words @ ..] => policy::image(words),
        ["policy", "explain", policy, file] => policy::explain(Path::new(policy), Path::new(file)),
        ["anchor", "show"] => anchor::show(root),
        ["anchor", "accept", kind, volume] => anchor::accept(root, kind, volume),
        ["anchor", "checkpoint"] => anchor::checkpoint(root),
        ["anchor", "forget", volume] => anchor::forget(root, volume),
        ["enroll"] => enroll::show(root),
        ["enroll", volume] => enroll::ask(root, volume),
        ["mounts", "check"] => mounts::check(root),
        ["derive", options @ ..] => derive::derive(options),
        ["nodes", words @ ..] => nodes::run(words),
        [] => Err(usage("expected a command")),
        other => Err(usage(&format!("unknown command {:?}", other.join(" ")))),
    }
}

fn check_config(path: &Path) -> Result<Answer> {
    let config = Config::load_file(path)?;
    let volumes: Vec<&str> = config
        .volumes()
        .map(|volume| volume.name.as_str())
        .collect();
    let files: Vec<&str> = config.files().map(FilePath::as_str).collect();
    let gives_up = config.boot.gives_up();
    let costs = config.tpm.costs();
    let told = gives_up.iter().chain(&costs);
    let told = told.map(|sentence| format!("{sentence}\n"));
    let valid = format!("{}: valid: {}\n", path.display(), volumes.join(", "));
    Ok(Answer::new(
        std::iter::once(valid).chain(told).collect(),
        json!({
            "result": "valid",
            "volumes": volumes,
            "files": files,
            "other_volumes": config.boot.other_volumes,
            "gives_up": gives_up,
            "costs": costs,
        }),
    ))
}

fn check_header(profile: Option<Profile>, path: &Path) -> Result<Answer> {
    let report = header::check(profile, path)?;
    let json = serde_json::to_value(&report).map_err(Error::failure)?;
    Ok(Answer::new(report.to_string(), json))
}

fn profile(name: &str) -> Result<Profile> {
    let known = Profile::ALL.map(Profile::as_str).join(", ");
    Profile::ALL
        .into_iter()
        .find(|profile| profile.as_str() == name)
        .ok_or_else(|| usage(&format!("expected a profile of {known}, found {name:?}")))
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
