// SPDX-License-Identifier: Apache-2.0
//! `derive`: the key for an id, as a node or a key service would derive it.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::ctl::{Answer, usage};
use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret};

/// A secret below 128 bits is none.
const SECRET_LEN_MIN: usize = 16;

#[derive(Default)]
struct Options<'a> {
    secret: Option<&'a str>,
    salt: Option<&'a str>,
    id: Option<&'a str>,
}

pub(super) fn derive(words: &[&str]) -> Result<Answer> {
    let Options {
        secret: Some(secret),
        salt: Some(salt),
        id: Some(id),
    } = options(words)?
    else {
        return Err(usage("derive: expected --secret, --salt and --id"));
    };
    if id.is_empty() {
        return Err(usage("derive: expected an id that is not empty"));
    }
    let secret = read(secret, SECRET_LEN_MIN).doing("reading the secret")?;
    let salt = read(salt, KEY_LEN).doing("reading the salt")?;
    let key = secret.derive(salt.expose(), id)?;
    // Printed next, so from here on it is the caller's to keep secret.
    let digits = hex::encode(key.expose());
    let json = json!({"id": id, "key": digits});
    Ok(Answer::new(format!("{digits}\n"), json))
}

fn options<'a>(words: &[&'a str]) -> Result<Options<'a>> {
    let mut options = Options::default();
    let (pairs, rest) = words.as_chunks::<2>();
    for [option, value] in pairs {
        let place = match *option {
            "--secret" => &mut options.secret,
            "--salt" => &mut options.salt,
            "--id" => &mut options.id,
            other => return Err(usage(&format!("derive: unknown option {other:?}"))),
        };
        if place.replace(value).is_some() {
            return Err(usage(&format!("derive: {option} is there twice")));
        }
    }
    match rest {
        [] => Ok(options),
        words => Err(usage(&format!("derive: {} needs a value", words.concat()))),
    }
}

fn read(path: &str, len_min: usize) -> Result<Secret> {
    let bytes = fs::read(Path::new(path)).doing(path)?;
    let bytes = Secret::new(bytes);
    match bytes.expose().len() {
        len if len < len_min => Err(Error::refused(format_args!(
            "{path}: expected at least {len_min} bytes, found {len}"
        ))),
        _ => Ok(bytes),
    }
}
