// SPDX-License-Identifier: Apache-2.0
//! The master secret in a file that a KMS unwraps: at the start, and again while the service runs.
//!
//! What is sealed in the file is the text of `mastersecret.json`, so all that follows from it is the same as without a
//! KMS. The file is read at the start; a recheck unwraps what was read then.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::warn;

use super::{Master, load_measurement_salt, parse};
use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret, fill_random};
use crate::keyservice::config::secret::CheckValue;
use crate::keyservice::config::{Config, kms::Kms as KmsConfig};
use crate::keyservice::kms::envelope::{Envelope, FILE_LEN_MAX};
use crate::keyservice::kms::recovery::RecoveryKey;
use crate::keyservice::kms::watch::Watch;
use crate::keyservice::kms::{self, Answered, Class, Failure, Kms, MASTER_ID};

/// How long a start tries. The unit starts the service again ten seconds after it has given up.
const START_MAX: Duration = Duration::from_secs(60);

/// The pause before a start's second try; each one after is twice as long, up to the other. The half of each is random,
/// so that replicas that were started together do not ask together.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// What is said where the KMS alone can unwrap, and no recovery key is configured.
const NO_KEY: &str = "recovery: none, so the KMS's key is the only way to the data; \
     kms.recovery-key names a key of yours for the day on which it is lost";

/// What is said where there is one, and the file was not made for it.
const OLDER_FILE: &str = "recovery: none, so the KMS's key is the only way to the data: \
     the file was made without kms.recovery-key, so wrap the plain master secret again";

/// A wrapped master secret, and what was heard of its KMS.
#[derive(Debug)]
pub struct Wrapped {
    pub(super) kms: Kms,
    envelope: Envelope,
    measurement_salt: [u8; KEY_LEN],
    /// What the master secret of the start is recognised by, which each later one has to be. It was compared with the store.
    started_with: Option<CheckValue>,
    watch: Mutex<Watch>,
}

impl Wrapped {
    /// Reads the file and has the KMS unwrap it, for a minute where it does not at once.
    pub(super) fn start(config: &Config, path: &Path) -> Result<(Self, Master)> {
        let kms = kms_of(config)?;
        let envelope = read(path)?;
        if envelope.recovery().is_none() {
            let has_key = kms.recovery_key.is_some();
            warn!("{}: {}", path.display(), no_recovery(has_key));
        }
        let measurement_salt = load_measurement_salt(&config.secret.measurement_salt)?;
        let mut wrapped = Self {
            kms: Kms::new(kms)?,
            envelope,
            measurement_salt,
            started_with: None,
            watch: Mutex::new(Watch::new(kms.recheck, kms.grace, Instant::now())),
        };
        let master = patiently(START_MAX, thread::sleep, || wrapped.unwrap())
            .doing("unwrapping the master secret")?;
        wrapped.started_with = Some(master.check_value()?);
        *wrapped.watch() = Watch::new(kms.recheck, kms.grace, Instant::now());
        Ok((wrapped, master))
    }

    pub(super) fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unwrap(&self) -> Answered<Master> {
        let content = kms::open(&self.kms, MASTER_ID, &self.envelope)?;
        let master = of_content(&content, self.measurement_salt)?;
        // AES-GCM does not commit to its key: who made the file can have it open to another text under another key.
        let value = master.check_value().map_err(Failure::unusable)?;
        match &self.started_with {
            Some(started_with) if *started_with != value => Err(Failure::new(
                Class::Wrong,
                "what it unwraps opens another master secret than at the start",
            )),
            _ => Ok(master),
        }
    }
}

/// The table `[kms]`.
pub fn kms_of(config: &Config) -> Result<&KmsConfig> {
    config
        .kms
        .as_ref()
        .ok_or_else(|| Error::config("there is no table [kms], which says who wraps and unwraps"))
}

/// Reads the file of a wrapped master secret. Everybody may read it, and only its owner and group write to it.
pub fn read(path: &Path) -> Result<Envelope> {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    let read = || {
        let file = std::fs::File::open(path)
            .map_err(|error| Error::config(format_args!("{error}{}", hint(error.kind()))))?;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o002 != 0 {
            return Err(Error::config(format_args!(
                "everybody may write to it (mode {:o}): chmod 0644",
                mode & 0o777
            )));
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(FILE_LEN_MAX).unwrap_or(u64::MAX);
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Envelope::parse(&bytes).map_err(Error::config)
    };
    read()
        .doing(path.display())
        .doing("reading the wrapped master secret")
}

/// What to do about a file that cannot be opened.
fn hint(kind: ErrorKind) -> &'static str {
    if kind == ErrorKind::NotFound {
        ": nightlatchd init --kms makes it"
    } else if kind == ErrorKind::PermissionDenied {
        ": there is no secret in it, and the account of the service reads it: chmod 0644, and 0755 its directory"
    } else {
        ""
    }
}

fn no_recovery(has_key: bool) -> &'static str {
    if has_key { OLDER_FILE } else { NO_KEY }
}

/// Who beside the KMS can unwrap, as far as can be told without doing it. Without a file it is of the next one.
pub fn recovery(config: &KmsConfig, envelope: Option<&Envelope>) -> Result<String> {
    let ours = config.recovery_key.as_ref();
    let ours = ours.map(|path| RecoveryKey::load(path.as_path())?.thumbprint());
    let ours = ours.transpose()?;
    let found = envelope.and_then(Envelope::recovery);
    Ok(match (envelope, found, ours) {
        (None, _, Some(ours)) => {
            format!("recovery: what is wrapped next is for the key {ours} too")
        }
        (_, None, ours) => no_recovery(ours.is_some()).to_owned(),
        (_, Some(found), ours) => {
            let key = found.key.as_deref().unwrap_or("that it does not name");
            match ours {
                Some(ours) if ours != key => format!(
                    "recovery: the file is for the key {key}, and kms.recovery-key is {ours}: \
                     wrap the plain master secret again"
                ),
                _ => format!(
                    "recovery: the file is for the key {key}; only kms recover shows that it opens"
                ),
            }
        }
    })
}

/// Wraps the text of a `mastersecret.json`, for the KMS and the recovery key of a configuration.
pub fn wrap(config: &KmsConfig, master: &Secret) -> Result<Envelope> {
    let recovery = config.recovery_key.as_ref();
    let recovery = recovery.map(|path| RecoveryKey::load(path.as_path()));
    let recovery = recovery.transpose()?;
    kms::seal(&Kms::new(config)?, MASTER_ID, master, recovery.as_ref())
        .doing("wrapping the master secret")
}

/// The master secret whose file was sealed.
pub(crate) fn of_content(content: &Secret, measurement_salt: [u8; KEY_LEN]) -> Answered<Master> {
    let text = std::str::from_utf8(content.expose());
    let wrong = |error: Error| Failure::new(Class::Wrong, error);
    let text = text.map_err(|_error| wrong(Error::config("what was sealed is no text")))?;
    let (secret, salt) = parse(text).map_err(wrong)?;
    Master::new(secret, salt, measurement_salt).map_err(wrong)
}

/// Tries again what may become possible by itself, with pauses, until `limit` has gone by.
fn patiently<T>(
    limit: Duration,
    mut pause: impl FnMut(Duration),
    mut work: impl FnMut() -> Answered<T>,
) -> Result<T> {
    let (mut spent, mut longest) = (Duration::ZERO, PAUSE_MIN);
    loop {
        let start = Instant::now();
        let failure = match work() {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        let wait = jittered(longest)?;
        spent = spent.saturating_add(start.elapsed()).saturating_add(wait);
        let may_pass = match failure.class {
            Class::Away | Class::Denied | Class::Gone => true,
            Class::Wrong | Class::Unusable => false,
        };
        if !may_pass || spent >= limit {
            return Err(failure.into());
        }
        warn!("{failure}; trying again in {} ms", wait.as_millis());
        pause(wait);
        longest = longest.saturating_mul(2).min(PAUSE_MAX);
    }
}

/// At least half of `longest`.
fn jittered(longest: Duration) -> Result<Duration> {
    let mut random = [0; 2];
    fill_random(&mut random)?;
    let half = longest.checked_div(2).unwrap_or_default();
    let share = f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX);
    Ok(half.saturating_add(half.mul_f64(share)))
}

#[cfg(test)]
#[cfg(feature = "kms-openbao")]
#[path = "tests/wrapped.rs"]
mod tests;
