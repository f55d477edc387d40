// SPDX-License-Identifier: Apache-2.0
//! `derive`: the key for an id, as a node or a key service would derive it.
//!
//! **Never:** a key kept anywhere: it is printed and forgotten.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::ctl::Answer;
use crate::ctl::cli::Derive;
use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret};

/// A secret below 128 bits is none.
const SECRET_LEN_MIN: usize = 16;

pub(super) fn derive(given: &Derive) -> Result<Answer> {
    let secret = read(&given.secret, SECRET_LEN_MIN).doing("reading the secret")?;
    let salt = read(&given.salt, KEY_LEN).doing("reading the salt")?;
    let key = secret.derive(salt.expose(), &given.id)?;
    // Printed next, so from here on it is the caller's to keep secret.
    let digits = hex::encode(key.expose());
    let json = json!({"id": given.id, "key": digits});
    Ok(Answer::new(format!("{digits}\n"), json))
}

fn read(path: &Path, len_min: usize) -> Result<Secret> {
    let bytes = fs::read(path).doing(path.display())?;
    let bytes = Secret::new(bytes);
    match bytes.expose().len() {
        len if len < len_min => Err(Error::refused(format_args!(
            "{}: expected at least {len_min} bytes, found {len}",
            path.display()
        ))),
        _ => Ok(bytes),
    }
}
