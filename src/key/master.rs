// SPDX-License-Identifier: Apache-2.0
//! The file that a master secret is in: `constellation-mastersecret.json`.

use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::{KEY_LEN, Secret};
use crate::error::{Error, Result};

/// The shortest master secret that is taken, in bytes: that of Constellation.
const MASTER_LEN_MIN: usize = 16;

/// The file `constellation-mastersecret.json`. Its contents are wiped when dropped.
#[derive(Deserialize, Serialize)]
pub(crate) struct MasterFile {
    /// The secret, base64.
    pub(crate) key: String,
    /// The salt, base64.
    pub(crate) salt: String,
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

/// Takes the file of a master secret apart: the secret and its salt.
pub(crate) fn parse(text: &str) -> Result<(Secret, Secret)> {
    let file: MasterFile = serde_json::from_str(text)
        // The message of the parser may quote the secret.
        .map_err(|error| {
            Error::config(format_args!(
                "expected {{\"key\":\"…\",\"salt\":\"…\"}}, found something else at line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
    let decode = |text: &str, name: &str, len_min: usize| {
        let bytes = Base64::decode_vec(text)
            .map(Secret::new)
            .map_err(|error| Error::config(format_args!("{name}: {error}")))?;
        match bytes.expose().len() {
            len if len < len_min => Err(Error::config(format_args!(
                "{name}: expected at least {len_min} bytes, found {len}"
            ))),
            _ => Ok(bytes),
        }
    };
    Ok((
        decode(&file.key, "key", MASTER_LEN_MIN)?,
        decode(&file.salt, "salt", KEY_LEN)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_or_broken_master_secret_is_refused_without_being_quoted() {
        let salt = Base64::encode_string(&[1; 32]);
        let text = |key: &str, salt: &str| format!(r#"{{"key":"{key}","salt":"{salt}"}}"#);
        let key = Base64::encode_string(&[2; 32]);
        assert!(parse(&text(&key, &salt)).is_ok());
        for (key, salt) in [
            (Base64::encode_string(&[2; 15]), salt.clone()),
            (key.clone(), Base64::encode_string(&[1; 31])),
            ("c2VjcmV0!".into(), salt.clone()),
        ] {
            let error = parse(&text(&key, &salt)).unwrap_err();
            assert!(!error.to_string().contains(&key), "{error}");
        }
        let error = parse(r#"{"key":12345678}"#).unwrap_err().to_string();
        assert!(
            error.contains("line 1") && !error.contains("12345"),
            "{error}"
        );
    }
}
