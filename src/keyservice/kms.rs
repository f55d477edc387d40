// SPDX-License-Identifier: Apache-2.0
//! A KMS of the operator's: it holds a key that never leaves it, and wraps the master secret with that.
//!
//! [`Kms`] is whichever is configured, [`envelope`] the file of what was wrapped, [`recovery`] the way without the KMS,
//! and [`watch`] what the answers of a running service's rechecks mean. A back end is a [`BackEnd`], in a file and a cargo
//! feature of its own; what all of them speak is [`request`].
//!
//! **Never:** the master secret sent to a KMS: what it wraps are 32 random bytes, and those open the file.

#[cfg(feature = "kms-aws")]
pub mod aws;
#[cfg(feature = "kms-azure")]
pub mod azure;
pub mod envelope;
#[cfg(feature = "kms-gcp")]
pub mod gcp;
#[cfg(feature = "kms-openbao")]
pub mod openbao;
pub mod recovery;
pub(crate) mod request;
mod table;
pub mod watch;

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

use crate::error::{Error, Exit, Result};
use crate::key::{KEY_LEN, Secret};
use crate::keyservice::config::kms::{Kms as Config, Provider};
use crate::keyservice::config::secret::SecretSource;

/// What the file of the wrapped master secret says it is, and what the KMS is given as context.
pub const MASTER_ID: &str = "master";

/// What a failure means. Each has a word of its own in the audit log and in counters.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// No answer, or one that says "later": nothing is known.
    Away,
    /// The KMS does not let the service use the key.
    Denied,
    /// The key is disabled, destroyed or about to be.
    Gone,
    /// The key is not the one that wrapped this, or what was wrapped has changed.
    Wrong,
    /// It will not get better by itself: a setting is wrong, here or there.
    Unusable,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Away,
        Self::Denied,
        Self::Gone,
        Self::Wrong,
        Self::Unusable,
    ];

    /// The word in counters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Denied => "denied",
            Self::Gone => "gone",
            Self::Wrong => "wrong",
            Self::Unusable => "unusable",
        }
    }

    /// The word in the audit log, where it stands beside checks of machines.
    #[must_use]
    pub fn check(self) -> &'static str {
        match self {
            Self::Away => "kms-away",
            Self::Denied => "kms-denied",
            Self::Gone => "kms-gone",
            Self::Wrong => "kms-wrong",
            Self::Unusable => "kms-unusable",
        }
    }

    /// How a program ends that can do nothing else.
    #[must_use]
    pub fn exit(self) -> Exit {
        match self {
            Self::Away => Exit::Temporary,
            Self::Denied | Self::Gone | Self::Wrong => Exit::Refused,
            Self::Unusable => Exit::Config,
        }
    }

    /// What it means, as the beginning of a sentence.
    fn meaning(self) -> &'static str {
        match self {
            Self::Away => "the KMS is away",
            Self::Denied => "the KMS denies",
            Self::Gone => "the KMS's key is gone",
            Self::Wrong => "the KMS's key is another one",
            Self::Unusable => "the KMS cannot be used like this",
        }
    }
}

/// Why a KMS gave nothing. No secret and no token is in it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What it means.
    pub class: Class,
    why: String,
    is_vouched: bool,
}

impl Failure {
    /// A failure of a class.
    pub fn new(class: Class, why: impl fmt::Display) -> Self {
        Self {
            class,
            why: why.to_string(),
            is_vouched: true,
        }
    }

    /// The word of a metadata service, which answers in the clear and shows nothing of who it is.
    #[cfg_attr(
        not(any(feature = "kms-aws", feature = "kms-azure", feature = "kms-gcp")),
        allow(dead_code, reason = "only clouds have one")
    )]
    pub(crate) fn unvouched(self) -> Self {
        Self {
            is_vouched: false,
            ..self
        }
    }

    /// What it means for a service that runs: releases end at once by the KMS's own word alone.
    #[must_use]
    pub(crate) fn while_running(self) -> Self {
        let class = if self.is_vouched {
            self.class
        } else {
            Class::Away
        };
        Self { class, ..self }
    }

    /// An error of this program's own side, which nobody but its operator can end.
    pub(crate) fn unusable(error: Error) -> Self {
        Self::new(Class::Unusable, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.meaning(), self.why)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.class.exit(), failure)
    }
}

/// What a KMS answers.
pub type Answered<T> = std::result::Result<T, Failure>;

/// What a KMS made of some bytes.
#[derive(Debug)]
pub struct WrappedKey {
    /// Which key did it: provider, key and its version.
    pub kek: String,
    /// What it gave back.
    pub bytes: Vec<u8>,
}

/// What a KMS says of its key.
#[derive(Debug)]
pub struct Description {
    /// The kind of key.
    pub kind: String,
    /// Which versions of it wrap and unwrap, or what else there is to say.
    pub versions: String,
}

/// Whether the token of the service has the rights that it needs, and which it has beside.
#[derive(Debug, Default)]
pub struct Rights {
    /// What only the commands of an operator need, and the token may do.
    pub only_commands: Vec<String>,
    /// What nothing here needs, and the token may do.
    pub excess: Vec<String>,
    /// What the service needs, and the token may not do.
    pub missing: Vec<String>,
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |words: &[String]| match words {
            [] => "none".to_owned(),
            words => words.join(", "),
        };
        write!(
            f,
            "missing {}; for init and recover alone {}; too many {}",
            list(&self.missing),
            list(&self.only_commands),
            list(&self.excess)
        )
    }
}

/// A key of one KMS. Its `Display` is what the key is called in the file, without a version.
pub trait BackEnd: fmt::Debug + fmt::Display + Send + Sync {
    /// Wraps `key`, and has the KMS bind it to `id` where it can.
    fn wrap(&self, id: &str, key: &Secret) -> Answered<WrappedKey>;

    /// Unwraps what [`wrap`](Self::wrap) gave for the same `id`. What another key wrapped is wrong, and not even asked about.
    fn unwrap(&self, id: &str, wrapped: &WrappedKey) -> Answered<Secret>;

    /// What the KMS says of its key.
    fn describe(&self) -> Answered<Description>;

    /// What the credentials may do there; nothing where the KMS cannot be asked.
    fn rights(&self) -> Answered<Option<Rights>>;

    /// Whether this key has wrapped what names `kek`, in any of its versions.
    fn has_wrapped(&self, kek: &str) -> bool;
}

/// The KMS that is configured.
#[derive(Debug)]
pub struct Kms(Box<dyn BackEnd>);

impl Kms {
    /// The KMS of a configuration. Nothing is asked and no credential read: both are done for each call.
    pub fn new(config: &Config) -> Result<Self> {
        let back_end: Box<dyn BackEnd> = match &config.provider {
            #[cfg(feature = "kms-openbao")]
            Provider::OpenBao { key, token } => Box::new(openbao::Transit::new(config, key, token)),
            #[cfg(not(feature = "kms-openbao"))]
            Provider::OpenBao { .. } => return Err(left_out("kms-openbao")),
            #[cfg(feature = "kms-aws")]
            Provider::Aws { key, login } => Box::new(aws::Aws::new(config, key, login)),
            #[cfg(not(feature = "kms-aws"))]
            Provider::Aws { .. } => return Err(left_out("kms-aws")),
            #[cfg(feature = "kms-gcp")]
            Provider::Gcp { key, login } => Box::new(gcp::Gcp::new(config, key, login)),
            #[cfg(not(feature = "kms-gcp"))]
            Provider::Gcp { .. } => return Err(left_out("kms-gcp")),
            #[cfg(feature = "kms-azure")]
            Provider::Azure { key, login } => Box::new(azure::Azure::new(config, key, login)),
            #[cfg(not(feature = "kms-azure"))]
            Provider::Azure { .. } => return Err(left_out("kms-azure")),
        };
        Ok(Self(back_end))
    }
}

impl Deref for Kms {
    type Target = dyn BackEnd;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

impl fmt::Display for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a build with other back ends says.
#[cfg_attr(
    feature = "kms-all",
    expect(dead_code, reason = "all of them are built")
)]
fn left_out(feature: &str) -> Error {
    Error::config(format_args!(
        "kms.provider: this nightlatchd was built without it: build it with --features {feature}"
    ))
}

/// A file of another key, which is not even asked about.
fn other_key(of: &impl fmt::Display, kek: &str) -> Failure {
    let why = format!(
        "the file was wrapped by {kek}, and the configuration names {of}: \
         kms.key and secret.master belong together"
    );
    Failure::new(Class::Wrong, why)
}

/// What was unwrapped, which are as many bytes as are ever wrapped.
fn unwrapped(bytes: &[u8]) -> Answered<Secret> {
    if bytes.len() == KEY_LEN {
        return Ok(Secret::new(bytes.to_vec()));
    }
    let why = format!("what it unwrapped is not {KEY_LEN} bytes");
    Err(Failure::new(Class::Wrong, why))
}

/// What is in a file of credentials now, without the spaces around it. A file that is not there or has nothing in it may come
/// yet, of whoever writes it.
fn shown(source: &SecretSource) -> Answered<Zeroizing<String>> {
    let path = source.path().map_err(Failure::unusable)?;
    let text = source.read_if_there().map_err(Failure::unusable)?;
    match text.as_deref().map(|text| text.trim()) {
        Some(text) if !text.is_empty() => Ok(Zeroizing::new(text.to_owned())),
        _ => {
            let why = format!(
                "kms.credentials: {}: there is nothing in it yet",
                path.display()
            );
            Err(Failure::new(Class::Away, why))
        }
    }
}

/// Wraps `content` into a file's envelope: for the KMS, and for the owner of the recovery key where there is one.
pub fn seal(
    kms: &Kms,
    id: &str,
    content: &Secret,
    recovery: Option<&recovery::RecoveryKey>,
) -> Result<envelope::Envelope> {
    let key = Secret::random()?;
    let wrapped = kms.wrap(id, &key)?;
    // Not trusted to be the one that unwraps until it has.
    let back = kms.unwrap(id, &wrapped)?;
    if back.expose() != key.expose() {
        return Err(Failure::new(Class::Wrong, "it unwraps to something else").into());
    }
    let recovery = recovery.map(|owner| owner.seal(&key)).transpose()?;
    envelope::Envelope::seal(id, wrapped, content, &key, recovery)
}

/// Opens an envelope with the KMS.
pub fn open(kms: &Kms, id: &str, envelope: &envelope::Envelope) -> Answered<Secret> {
    if envelope.id() != id {
        let why = format!(
            "the file is of {:?}, and {id:?} is asked for",
            envelope.id()
        );
        return Err(Failure::new(Class::Wrong, why));
    }
    let key = kms.unwrap(id, envelope.wrapped())?;
    envelope
        .open(&key)
        .map_err(|error| Failure::new(Class::Wrong, error))
}

#[cfg(test)]
#[cfg(any(feature = "kms-aws", feature = "kms-gcp", feature = "kms-azure"))]
#[path = "kms/tests/cloud.rs"]
mod cloud;
#[cfg(test)]
#[path = "kms/tests/stub.rs"]
pub(crate) mod stub;

#[cfg(test)]
#[cfg(feature = "kms-openbao")]
pub(crate) mod tests;
