// SPDX-License-Identifier: Apache-2.0
//! What `nightlatchd` does beside serving: a configuration checked, secrets made, and the master secret under a KMS.
//!
//! **Never:** a file replaced, or a secret printed that was not asked for.

pub(in crate::keyservice) mod kms;

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Doing, Error, Result};
use crate::keyservice::config::secret::MasterSource;
use crate::keyservice::config::{Config, MASTER_FILE, MEASUREMENT_SALT_FILE};
use crate::keyservice::secrets::paper::Paper;
use crate::keyservice::secrets::{Master, init};
use crate::keyservice::{reload, state};

/// How to keep what `init` made.
const KEEP: &str = "\
Every key of the fleet follows from these two files: whoever has them can open each of its volumes,
and without them no volume can be opened by the service any more. Keep a copy off this machine,
for example on paper or in a safe, and encrypt the files in place for this machine only:
  systemd-creds encrypt FILE /etc/credstore.encrypted/NAME
";

/// The longest paper that is read, in bytes.
const PAPER_LEN_MAX: usize = 64 << 10;

/// Reads what the service would read, and opens and binds nothing.
pub(in crate::keyservice) fn check(path: &Path) -> Result<()> {
    let config = Config::load(path)?;
    let policy = state::load_policy(config.policy.as_path()).doing("policy")?;
    reload::load_tls(&config.tls).doing("tls")?;
    let wrapped = match &config.secret.master {
        MasterSource::Plain(source) => {
            Master::load(source, &config.secret.measurement_salt)?;
            String::new()
        }
        MasterSource::Wrapped(file) => kms::look(&config, file)?,
    };
    let images: Vec<&str> = policy.images().collect();
    say(&format!(
        "{}: valid, images: {}\n{wrapped}",
        path.display(),
        images.join(", ")
    ))
}

/// Makes the secrets of a new fleet, or those that a paper has.
pub(in crate::keyservice) fn init(
    directory: &Path,
    print: bool,
    paper: Option<&Path>,
) -> Result<()> {
    match paper {
        Some(path) => init::write_from(directory, &typed(path)?)?,
        None => init::write(directory)?,
    }
    let made = [MASTER_FILE, MEASUREMENT_SALT_FILE];
    say_made(directory, &made, print, KEEP)
}

/// Prints what is to be written down, or compares what was with the secrets.
pub(in crate::keyservice) fn paper(directory: &Path, check: Option<&Path>) -> Result<()> {
    let secrets = init::read(directory)?;
    let Some(path) = check else {
        return say(&secrets.text()?);
    };
    // The texts are equal where the secrets are.
    if *typed(path)?.text()? == *secrets.text()? {
        say("the paper has these secrets\n")
    } else {
        Err(Error::refused(format_args!(
            "the paper is read well and has other secrets than {}",
            directory.display()
        )))
    }
}

/// What somebody has typed off a paper.
fn typed(path: &Path) -> Result<Paper> {
    let mut text = Zeroizing::new(String::with_capacity(PAPER_LEN_MAX));
    let limit = u64::try_from(PAPER_LEN_MAX).map_err(Error::failure)?;
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.doing(path.display())?;
    Paper::parse(&text)
}

/// Says which files were made, and what to do with them.
fn say_made(directory: &Path, names: &[&str], print: bool, keep: &str) -> Result<()> {
    let mut text = Zeroizing::new(String::new());
    for name in names {
        let path = directory.join(name);
        text.push_str(&path.display().to_string());
        text.push('\n');
        if print {
            let contents = std::fs::read_to_string(&path).doing(path.display())?;
            text.push_str(Zeroizing::new(contents).trim_end());
            text.push('\n');
        }
    }
    text.push_str(keep);
    say(&text)
}

fn say(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
