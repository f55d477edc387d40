// SPDX-License-Identifier: Apache-2.0
//! The master secret of a running service: there, or not while its KMS does not let it.
//!
//! What stops releases drops the master secret, which is wiped once the last request that works with it has ended; so are
//! the keys of sessions. An unwrap that succeeds later brings the same ones back.

use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Result;
use crate::keyservice::config::Config;
use crate::keyservice::config::secret::MasterSource;
use crate::keyservice::reply::{Fault, Rejection};
use crate::keyservice::secrets::Master;
#[cfg(feature = "kms")]
use crate::keyservice::secrets::wrapped::Wrapped;

/// When to come back while releases are stopped, in seconds: as often as the KMS is asked again.
const RETRY_S: u64 = 30;

/// What a running service has of its master secret.
#[derive(Debug)]
pub struct Keys {
    held: RwLock<Held>,
    #[cfg(feature = "kms")]
    pub(super) wrapped: Option<Wrapped>,
}

#[derive(Debug)]
enum Held {
    Master(Arc<Master>),
    #[cfg_attr(
        not(feature = "kms"),
        expect(dead_code, reason = "only a KMS stops releases")
    )]
    Stopped {
        check: &'static str,
        why: String,
    },
}

impl Keys {
    /// Reads the master secret, or has the KMS unwrap it.
    pub fn load(config: &Config) -> Result<Self> {
        match &config.secret.master {
            MasterSource::Plain(source) => {
                let master = Master::load(source, &config.secret.measurement_salt)?;
                Ok(Self::of(master))
            }
            #[cfg(feature = "kms")]
            MasterSource::Wrapped(path) => {
                let (wrapped, master) = Wrapped::start(config, path)?;
                Ok(Self {
                    wrapped: Some(wrapped),
                    ..Self::of(master)
                })
            }
            #[cfg(not(feature = "kms"))]
            MasterSource::Wrapped(_) => Err(no_kms()),
        }
    }

    fn of(master: Master) -> Self {
        Self {
            held: RwLock::new(Held::Master(Arc::new(master))),
            #[cfg(feature = "kms")]
            wrapped: None,
        }
    }

    /// The master secret, or why there is none now.
    pub fn master(&self) -> std::result::Result<Arc<Master>, Rejection> {
        match &*self.held.read().unwrap_or_else(PoisonError::into_inner) {
            Held::Master(master) => Ok(Arc::clone(master)),
            Held::Stopped { check, why } => Err(Rejection {
                retry_after_s: Some(RETRY_S),
                ..Rejection::new(Fault::Local, check, why)
            }),
        }
    }

    /// Whether releases are stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        matches!(&*held, Held::Stopped { .. })
    }

    #[cfg(feature = "kms")]
    pub(super) fn stop(&self, check: &'static str, why: String) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Held::Stopped { check, why };
    }

    #[cfg(feature = "kms")]
    pub(super) fn resume(&self, master: Master) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Held::Master(Arc::new(master));
    }
}

/// What a build without a KMS says.
#[cfg(not(feature = "kms"))]
pub(in crate::keyservice) fn no_kms() -> crate::error::Error {
    crate::error::Error::config(
        "this nightlatchd was built without a KMS: build it with --features kms-all",
    )
}
