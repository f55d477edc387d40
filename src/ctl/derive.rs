// SPDX-License-Identifier: Apache-2.0
//! `derive`: the key for an id, as a node or a key service would derive it.
//!
//! **Never:** a key kept anywhere: it is printed and forgotten.

use serde_json::json;

use crate::ctl::cli::Derive;
use crate::ctl::input::MASTER_LEN_MIN;
use crate::ctl::{Answer, input};
use crate::error::{Doing, Result};
use crate::key::KEY_LEN;

pub(super) fn derive(given: &Derive) -> Result<Answer> {
    let secret = input::secret(&given.secret, MASTER_LEN_MIN).doing("reading the secret")?;
    let salt = input::secret(&given.salt, KEY_LEN).doing("reading the salt")?;
    let key = secret.derive(salt.expose(), &given.id)?;
    // Printed next, so from here on it is the caller's to keep secret.
    let digits = hex::encode(key.expose());
    let json = json!({"id": given.id, "key": digits});
    Ok(Answer::new(format!("{digits}\n"), json))
}
