// SPDX-License-Identifier: Apache-2.0
//! Which master secret a store's fleet has: a check value, kept from the first start with a wrapped one on.
//!
//! Whoever can write the file of a wrapped master secret, and may wrap with the KMS's key, could put another one there,
//! by which nodes would make their new volumes. A store that has seen the fleet does not start with it.

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::keyservice::secrets::Keys;
use crate::keyservice::store::Store;

/// Where the check value is.
const KEY: &str = "master/check";

#[derive(Deserialize, Serialize)]
struct Check {
    /// Hexadecimal digits.
    check: String,
}

/// Refuses another master secret than the one that was recorded. With `record` it is, where none was.
pub(crate) fn compare(store: &Store, keys: &Keys, record: bool) -> Result<()> {
    let master = keys
        .master()
        .map_err(|rejection| Error::failure(rejection.why))?;
    let ours = hex::encode(master.check_value()?.expose());
    let found = if record {
        let check = Check {
            check: ours.clone(),
        };
        let value = serde_json::to_vec(&check).map_err(Error::failure)?;
        let made = store.create(&[(KEY.to_owned(), value)]);
        made.doing("recording the check value of the master secret")?
            .into_iter()
            .next()
            .flatten()
    } else {
        store.get(KEY)?
    };
    let Some(found) = found else { return Ok(()) };
    let found: Check = serde_json::from_slice(&found.value)
        .map_err(Error::failure)
        .doing("reading the check value of the master secret")?;
    if found.check == ours {
        return Ok(());
    }
    Err(Error::refused(
        "the store has seen another master secret: the volumes of its fleet do not open with this one; \
         secret.master and store belong together",
    ))
}
