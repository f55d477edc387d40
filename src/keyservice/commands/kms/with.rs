// SPDX-License-Identifier: Apache-2.0
//! The master secret wrapped, tried out, shown, and taken back without the KMS.

use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret};
use crate::keyservice::cli::Recover;
use crate::keyservice::commands::{say, say_made};
use crate::keyservice::config::kms::Kms as KmsConfig;
use crate::keyservice::config::secret::{MasterSource, SecretSource};
use crate::keyservice::config::{Config, MEASUREMENT_SALT_FILE, WRAPPED_FILE};
use crate::keyservice::kms::envelope::Envelope;
use crate::keyservice::kms::recovery::RecoveryPrivateKey;
use crate::keyservice::kms::{self, Class, Failure, Kms, MASTER_ID, WrappedKey};
use crate::keyservice::secrets::init::Readers;
use crate::keyservice::secrets::wrapped;
use crate::keyservice::secrets::{init as files, load_measurement_salt};

/// How to keep what `init --kms` made.
const KEEP: &str = "\
The first file opens with the KMS's key alone, and every key of the fleet follows from what is in it.
Keep a copy of both off this machine. In nightlatchd.toml, set secret.master to \"wrapped:\" and its path.
";

/// The ids of a round trip, which are those of no file.
const CHECK_ID: &str = "check";
const OTHER_ID: &str = "another-check";

/// Where a master secret is only looked at: what is derived with the salt of measurements is not used.
const NO_SALT: [u8; KEY_LEN] = [0; KEY_LEN];

/// What `check` says of a wrapped master secret. The KMS is not asked: `kms check` does that.
pub(in crate::keyservice) fn look(config: &Config, file: &Path) -> Result<String> {
    let kms = wrapped::kms_of(config)?;
    let envelope = wrapped::read(file)?;
    let (ours, kek) = (Kms::new(kms)?, &envelope.wrapped().kek);
    if !ours.has_wrapped(kek) {
        return Err(Error::config(format_args!(
            "{}: it was wrapped by {kek}, and [kms] names {ours}",
            file.display()
        )));
    }
    load_measurement_salt(&config.secret.measurement_salt)?;
    told(kms, file, &envelope)
}

/// Makes the secrets of a new fleet, and has the KMS wrap the master secret.
pub(in crate::keyservice) fn init(directory: &Path, print: bool, config: &Path) -> Result<()> {
    let config = Config::load(config)?;
    let config = wrapped::kms_of(&config)?;
    files::write_wrapped(directory, |master| {
        wrapped::wrap(config, master)?.text().map(Zeroizing::new)
    })?;
    let envelope = wrapped::read(&directory.join(WRAPPED_FILE))?;
    let recovery = wrapped::recovery(config, Some(&envelope))?;
    let made = [WRAPPED_FILE, MEASUREMENT_SALT_FILE];
    say_made(directory, &made, print, &format!("{KEEP}{recovery}\n"))
}

/// Says what has wrapped the master secret, and who can unwrap it.
pub(in crate::keyservice) fn status(path: &Path) -> Result<()> {
    let config = Config::load(path)?;
    let kms = wrapped::kms_of(&config)?;
    let mut text = format!("kms: {}, at {}\n", Kms::new(kms)?, kms.url);
    match &config.secret.master {
        MasterSource::Wrapped(file) => text.push_str(&told(kms, file, &wrapped::read(file)?)?),
        MasterSource::Plain(_) => text.push_str("secret.master: not wrapped\n"),
    }
    say(&text)
}

fn told(kms: &KmsConfig, file: &Path, envelope: &Envelope) -> Result<String> {
    Ok(format!(
        "{}: wrapped by {}\n{}\n",
        file.display(),
        envelope.wrapped().kek,
        wrapped::recovery(kms, Some(envelope))?
    ))
}

/// Tries out all that is ever asked of the KMS, and says what came of each.
pub(in crate::keyservice) fn check(path: &Path) -> Result<()> {
    let config = Config::load(path)?;
    let config_kms = wrapped::kms_of(&config)?;
    let kms = Kms::new(config_kms)?;
    let file = match &config.secret.master {
        MasterSource::Wrapped(file) if file.exists() => Some(wrapped::read(file)?),
        MasterSource::Wrapped(_) | MasterSource::Plain(_) => None,
    };
    let recovery = wrapped::recovery(config_kms, file.as_ref())?;
    let mut text = String::new();
    let done = ask_all(&kms, file.as_ref(), &mut text);
    say(&format!("{text}{recovery}\n"))?;
    done.doing("kms check")
}

fn ask_all(kms: &Kms, file: Option<&Envelope>, text: &mut String) -> Result<()> {
    let mut line = |what: &str, told: &str| text.push_str(&[what, ": ", told, "\n"].concat());
    match kms.describe() {
        Ok(key) => line(
            "key",
            &format!("{kms}, of type {}: {}", key.kind, key.versions),
        ),
        Err(failure) if failure.class == Class::Denied => {
            line(
                "key",
                &format!("not told, and the service needs none of it: {failure}"),
            );
        }
        Err(failure) => return Err(failure.into()),
    }
    let wrapped = round_trip(kms, &mut line)?;
    match file {
        Some(envelope) => {
            let content = kms::open(kms, MASTER_ID, envelope)?;
            let value = wrapped::of_content(&content, NO_SALT)?.check_value()?;
            line("file", "the master secret was unwrapped");
            line("check value", &value.to_string());
        }
        None => line("file", "there is none yet: nightlatchd init --kms makes it"),
    }
    let known = file.map(Envelope::wrapped).or(wrapped.as_ref());
    let Some(known) = known else {
        let why = "nothing was unwrapped: there is no file, and nothing may be wrapped";
        return Err(Failure::new(Class::Denied, why).into());
    };
    line("another id", other_id(kms, known)?);
    let told = match kms.rights()? {
        Some(rights) => rights.to_string(),
        None => "the KMS does not tell them".to_owned(),
    };
    line("rights", &told);
    Ok(())
}

/// Wraps and unwraps 32 random bytes. Who may not wrap is told, since a service need not.
fn round_trip(kms: &Kms, line: &mut impl FnMut(&str, &str)) -> Result<Option<WrappedKey>> {
    let key = Secret::random()?;
    let wrapped = match kms.wrap(CHECK_ID, &key) {
        Ok(wrapped) => wrapped,
        Err(failure) if failure.class == Class::Denied => {
            line(
                "round trip",
                &format!("not tried, init and recover need it: {failure}"),
            );
            return Ok(None);
        }
        Err(failure) => return Err(failure.into()),
    };
    let back = kms.unwrap(CHECK_ID, &wrapped)?;
    if back.expose() != key.expose() {
        return Err(Failure::new(Class::Wrong, "it unwraps to something else").into());
    }
    line("round trip", "32 bytes were wrapped and unwrapped");
    Ok(Some(wrapped))
}

/// Who refuses what was wrapped for one id when it is to be unwrapped for another.
fn other_id(kms: &Kms, wrapped: &WrappedKey) -> Result<&'static str> {
    match kms.unwrap(OTHER_ID, wrapped) {
        Err(failure) if failure.class == Class::Wrong => Ok("refused by the KMS"),
        // A policy may allow the id of the file alone, which was unwrapped before this.
        Err(failure) if failure.class == Class::Denied => Ok("refused by the policy at the KMS"),
        Err(failure) => Err(failure.into()),
        // What is sealed in the file is bound to its id by ourselves.
        Ok(_) => Ok("not refused by the KMS, so by nightlatchd alone"),
    }
}

/// Wraps a master secret that is there already: the same bytes, so no key of the fleet changes.
pub(in crate::keyservice) fn wrap(config: &Path, master: &Path, output: &Path) -> Result<()> {
    let config = Config::load(config)?;
    let text = SecretSource::File(master.to_owned()).read("")?;
    let content = Secret::new(text.as_bytes().to_vec());
    let made = wrapped::of_content(&content, NO_SALT).map_err(|failure| {
        Error::config(format_args!(
            "{}: no master secret: {failure}",
            master.display()
        ))
    })?;
    let kms = wrapped::kms_of(&config)?;
    let envelope = wrapped::wrap(kms, &content)?;
    files::create(output, &envelope.text()?, Readers::Everybody)?;
    say(&format!(
        "{}check value: {}\nIn nightlatchd.toml, set secret.master to \"wrapped:\" and its path. Keep {} off this machine \
         until the service was seen to start.\n",
        told(kms, output, &envelope)?,
        made.check_value()?,
        master.display()
    ))
}

/// Opens a wrapped master secret with the recovery key, and wraps it for the KMS that is configured or leaves it plain.
pub(in crate::keyservice) fn recover(given: &Recover) -> Result<()> {
    let envelope = wrapped::read(&given.wrapped)?;
    if envelope.id() != MASTER_ID {
        let why = format!("it is of {:?} and no master secret", envelope.id());
        return Err(Error::refused(why)).doing(given.wrapped.display());
    }
    let key = RecoveryPrivateKey::load(&given.private_key)?;
    let content = key
        .open(&envelope)
        .doing(given.wrapped.display())
        .doing("recovering the master secret")?;
    // Nothing is written that the service could not use.
    let master = wrapped::of_content(&content, NO_SALT)?;
    let (text, readers, (scheme, warning)) = if given.plain {
        let text = std::str::from_utf8(content.expose()).map_err(Error::failure)?;
        let warning = "; whoever has that file can open each volume of the fleet";
        let text = Zeroizing::new(text.to_owned());
        (text, Readers::Owner, ("file", warning))
    } else {
        let config = Config::load(&given.config)?;
        let envelope = wrapped::wrap(wrapped::kms_of(&config)?, &content)?;
        let text = Zeroizing::new(envelope.text()?);
        (text, Readers::Everybody, ("wrapped", ""))
    };
    files::create(&given.output, &text, readers)?;
    say(&format!(
        "check value: {}\nIn nightlatchd.toml, set secret.master to \"{scheme}:{}\"{warning}\n",
        master.check_value()?,
        given.output.display()
    ))
}
