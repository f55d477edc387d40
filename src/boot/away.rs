// SPDX-License-Identifier: Apache-2.0
//! Volumes that need not be there (`required = false`), and that this boot goes on without.
//!
//! Whatever ends such a volume's way, the others go on: it is missing, refused, not opened by any source, not mapped or not mounted.
//! It is not opened then, and nothing of it is measured as opened; that it is away is measured, in the fence's PCR. What may pass by
//! itself is tried again as for any volume, for as long as the volume's device is waited for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::warn;

use crate::config::{Level, Volume};
use crate::error::{Doing, Error, Exit, Result};
use crate::volume;
use crate::volume::Keyed;

/// The volumes that this boot goes on without, each with why.
#[derive(Debug)]
pub struct Away<'a> {
    /// When the boot began to look for its volumes.
    since: Instant,
    all: Mutex<Vec<(&'a Volume, Error)>>,
}

impl<'a> Away<'a> {
    pub(super) fn since(since: Instant) -> Self {
        Self {
            since,
            all: Mutex::new(Vec::new()),
        }
    }

    /// What was done with a volume; `None` where it failed and the others go on. A failure that may pass ends the try until the
    /// volume was waited for.
    pub(super) fn unless_required<T>(
        &self,
        volume: &'a Volume,
        done: Result<T>,
    ) -> Result<Option<T>> {
        let error = match done {
            Ok(done) => return Ok(Some(done)),
            Err(error) => error,
        };
        let Some(wait_s) = volume.wait_s() else {
            return Err(error);
        };
        let may_pass = error.exit() == Exit::Temporary;
        if may_pass && self.since.elapsed() < Duration::from_secs(wait_s.into()) {
            return Err(error);
        }
        self.add(volume, error);
        Ok(None)
    }

    /// The same of a volume that may be mapped by now.
    pub(super) fn unless_required_or_closed<T>(
        &self,
        volume: &'a Volume,
        done: Result<T>,
    ) -> Result<Option<T>> {
        // Nothing is tried again once it was measured.
        let done = self.unless_required(volume, done.map_err(Error::for_good))?;
        if done.is_none() {
            close(volume);
        }
        Ok(done)
    }

    /// The boot goes on without this volume.
    pub fn add(&self, volume: &'a Volume, error: Error) {
        warn!(volume = volume.name.as_str(); "away, and the others go on: {error}");
        self.lock().push((volume, error));
    }

    /// The volumes, in no order.
    pub(super) fn volumes(&self) -> Vec<&'a Volume> {
        self.lock().iter().map(|(volume, _)| *volume).collect()
    }

    pub(super) fn into_all(self) -> Vec<(&'a Volume, Error)> {
        let all = self.all.into_inner();
        all.unwrap_or_else(PoisonError::into_inner)
    }

    /// Two devices that hold the same volume are one volume and a copy of it. Which is which nobody knows; but one that need not be
    /// there does not keep the other from being opened.
    pub(super) fn require_distinct(
        &self,
        keyed: Vec<(&'a Volume, Keyed)>,
    ) -> Result<Vec<(&'a Volume, Keyed)>> {
        let known: Vec<(&Volume, String)> = keyed
            .iter()
            .map(|(volume, keyed)| (*volume, keyed.uuid.clone()))
            .collect();
        let checked = keyed.into_iter().map(|(volume, keyed)| {
            let twin = known
                .iter()
                .filter(|(other, uuid)| other.name != volume.name && *uuid == keyed.uuid)
                // Of two that are both required the second one is told.
                .find(|(other, _)| {
                    !volume.required || other.required && is_before(other, volume, &known)
                });
            let distinct = match twin {
                None => Ok(keyed),
                Some((other, _)) => Err(Error::refused(format_args!(
                    "volume {} has the UUID of volume {}: one of them is a copy",
                    volume.name, other.name
                ))),
            };
            let distinct = self.unless_required(volume, distinct)?;
            Ok(distinct.map(|keyed| (volume, keyed)))
        });
        checked.filter_map(Result::transpose).collect()
    }

    /// A thread that panicked while it held the lock left a list that is still worth having.
    fn lock(&self) -> MutexGuard<'_, Vec<(&'a Volume, Error)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_before(this: &Volume, that: &Volume, all: &[(&Volume, String)]) -> bool {
    let mut names = all.iter().map(|(volume, _)| &volume.name);
    names.find(|name| **name == this.name || **name == that.name) == Some(&this.name)
}

/// A volume that the boot goes on without is not left mapped.
pub(super) fn close(volume: &Volume) {
    let closed = volume::close(volume).doing("closing");
    if let Err(error) = closed {
        warn!(volume = volume.name.as_str(); "{error}");
    }
}

/// Those that there are.
pub(super) fn present<T>(all: Vec<(&Volume, Option<T>)>) -> Vec<(&Volume, T)> {
    let present = all
        .into_iter()
        .filter_map(|(volume, done)| done.map(|done| (volume, done)));
    present.collect()
}

/// Whether one of them is the anchor's business. A boot without any is not counted, and the record is left as it is.
pub(super) fn is_anchored(open: &[&Volume]) -> bool {
    open.iter().any(|volume| volume.level() != Level::Off)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config() -> Config {
        let volume = |name: &str, more: &str| {
            format!(
                "[[volume]]\nname = \"{name}\"\ndevice = \"/dev/{name}\"\nrole = \"state\"\nmount = \"/srv/{name}\"\n\
                 sources = [\"tpm\"]\n{more}\n"
            )
        };
        let boot = "boot.authorities = [\"/authority.pem\"]\n".to_owned();
        let volumes = [volume("state", ""), volume("data", "required = false")];
        Config::parse(&[boot, volumes.concat()].concat()).unwrap()
    }

    fn refused() -> Result<u8> {
        Err(Error::refused("forged"))
    }

    #[test]
    fn the_others_go_on_without_a_volume_that_need_not_be_there_and_no_other() {
        let config = config();
        let [state, data] = [0, 1].map(|index| config.volumes().nth(index).unwrap());
        let away = Away::since(Instant::now());
        assert_eq!(away.unless_required(data, Ok(1)).unwrap(), Some(1));
        assert_eq!(away.unless_required(state, Ok(2)).unwrap(), Some(2));
        assert!(away.volumes().is_empty());
        let error = away.unless_required(state, refused()).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert_eq!(away.unless_required(data, refused()).unwrap(), None);
        assert_eq!(away.volumes().len(), 1);
        let all = away.into_all();
        let [(volume, error)] = &all[..] else {
            panic!("{all:?}");
        };
        assert_eq!(
            (volume.name.as_str(), error.exit()),
            ("data", Exit::Refused)
        );
    }

    #[test]
    fn what_may_pass_is_tried_again_for_as_long_as_the_volume_is_waited_for() {
        let config = config();
        let data = config.volumes().nth(1).unwrap();
        let busy = || -> Result<u8> { Err(Error::temporary("busy")) };
        let away = Away::since(Instant::now());
        let error = away.unless_required(data, busy()).unwrap_err();
        assert_eq!(error.exit(), Exit::Temporary);
        // Once it was measured nothing is, and nothing is waited for.
        let done = away.unless_required(data, busy().map_err(Error::for_good));
        assert_eq!(done.unwrap(), None);
        let waited = Duration::from_secs(11);
        let away = Away::since(Instant::now().checked_sub(waited).unwrap());
        assert_eq!(away.unless_required(data, busy()).unwrap(), None);
    }
}
