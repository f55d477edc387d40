// SPDX-License-Identifier: Apache-2.0
//! Which master secret a store's fleet has: a check value, kept from the first start on.
//!
//! Whoever can write the file of a wrapped master secret, and may wrap with the KMS's key, could put another one there, by
//! which nodes would make their new volumes; and an operator can mistake a file. A store that has seen the fleet does not
//! start with it. Where a store has volumes and no check value yet, a plain master secret is believed, since only its owner
//! can have put it there, and a wrapped one is not.

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::keyservice::config::secret::{CheckValue, MasterSource, SecretFrom};
use crate::keyservice::registry::VOLUMES;
use crate::keyservice::secrets::Master;
use crate::keyservice::store::{Entry, Store};

/// Where the check value is.
const KEY: &str = "master/check";

#[derive(Deserialize, Serialize)]
struct Check {
    /// Hexadecimal digits.
    check: String,
}

/// Refuses another master secret than the one that was recorded, or that the configuration names. Where none was recorded,
/// this one is.
pub(crate) fn compare(store: &Store, master: &Master, from: &SecretFrom) -> Result<()> {
    let ours = master.check_value()?;
    let found = store.get(KEY)?;
    if let Some(named) = &from.check_value {
        return named_one(store, found, &ours, named);
    }
    if let Some(found) = found {
        return same(&found, &ours);
    }
    if matches!(from.master, MasterSource::Wrapped(_)) && !store.list(VOLUMES, "", 1)?.is_empty() {
        return Err(Error::refused(format_args!(
            "the store has volumes and no check value of their master secret, so nothing shows that this wrapped one is \
             theirs: start the service once with the plain one, or, if its check value {ours} is the fleet's, name it as \
             secret.check-value"
        )));
    }
    record(store, &ours)
}

/// The configuration decides, and the store follows.
fn named_one(
    store: &Store,
    found: Option<Entry>,
    ours: &CheckValue,
    named: &CheckValue,
) -> Result<()> {
    if named != ours {
        return Err(Error::refused(format_args!(
            "secret.check-value names another master secret: that of secret.master has {ours}"
        )));
    }
    let Some(found) = found else {
        return record(store, ours);
    };
    if same(&found, ours).is_ok() || store.swap(&[(found, value(ours)?)])? == [true] {
        return Ok(());
    }
    Err(Error::temporary(
        "recording the check value of the master secret: it was changed meanwhile",
    ))
}

fn record(store: &Store, ours: &CheckValue) -> Result<()> {
    let made = store.create(&[(KEY.to_owned(), value(ours)?)]);
    let found = made.doing("recording the check value of the master secret")?;
    match found.into_iter().next().flatten() {
        // Another replica was first.
        Some(found) => same(&found, ours),
        None => Ok(()),
    }
}

fn value(ours: &CheckValue) -> Result<Vec<u8>> {
    let check = Check {
        check: ours.to_string(),
    };
    serde_json::to_vec(&check).map_err(Error::failure)
}

fn same(found: &Entry, ours: &CheckValue) -> Result<()> {
    let found: Check = serde_json::from_slice(&found.value)
        .map_err(Error::failure)
        .doing("reading the check value of the master secret")?;
    if found.check == ours.to_string() {
        return Ok(());
    }
    Err(Error::refused(format_args!(
        "the store has seen another master secret: the volumes of its fleet do not open with this one, and secret.master and \
         store belong together; if the other one was the mistake, name this one as secret.check-value = \"{ours}\""
    )))
}

#[cfg(test)]
#[path = "tests/master.rs"]
mod tests;
