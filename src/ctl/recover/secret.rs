// SPDX-License-Identifier: Apache-2.0
//! What the operator has: the master secret, of which each volume's key is derived here, or the secret of one volume.

use crate::ctl::cli::Recover;
use crate::ctl::input;
use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret, master};

/// The longest file of a master secret, in bytes.
const MASTER_FILE_LEN_MAX: usize = 4096;

#[derive(Debug)]
pub(super) enum Given {
    Master { secret: Secret, salt: Secret },
    Key(Secret),
}

impl Given {
    pub(super) fn read(options: &Recover) -> Result<Option<Self>> {
        if let Some(path) = &options.master_secret {
            let bytes = Secret::new(input::read(path, MASTER_FILE_LEN_MAX)?);
            let text = std::str::from_utf8(bytes.expose()).map_err(Error::config);
            let (secret, salt) = text.and_then(master::parse).doing(path.display())?;
            return Ok(Some(Self::Master { secret, salt }));
        }
        let Some(path) = &options.key_file else {
            return Ok(None);
        };
        let key = Secret::new(input::read(path, KEY_LEN).doing(path.display())?);
        if key.expose().len() != KEY_LEN {
            return Err(Error::config(format_args!(
                "{}: expected a secret of {KEY_LEN} bytes, found {}",
                path.display(),
                key.expose().len()
            )));
        }
        Ok(Some(Self::Key(key)))
    }

    /// The key of the volume with this UUID, as the key service derives it.
    pub(super) fn of(&self, uuid: &str) -> Result<Secret> {
        match self {
            Self::Master { secret, salt } => secret.derive(salt.expose(), uuid),
            Self::Key(key) => Ok(Secret::new(key.expose().to_vec())),
        }
    }
}
