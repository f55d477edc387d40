// SPDX-License-Identifier: Apache-2.0
//! What `evidence verify` was given.

use std::fs;
use std::path::PathBuf;

use crate::ctl::cli::Verify;
use crate::error::{Doing, Error, Result};
use crate::evidence::bundle::Pcrs;
use crate::evidence::key::known;

/// What the files hold.
#[derive(Debug)]
pub(super) struct Given {
    /// The attestation key that is known, DER of a `SubjectPublicKeyInfo`.
    pub(super) ak: Option<Vec<u8>>,
    pub(super) firmware_log: Option<Vec<u8>>,
    pub(super) userspace_log: Option<Vec<u8>>,
    pub(super) values: Option<Pcrs>,
}

impl Given {
    pub(super) fn read(options: &Verify) -> Result<Self> {
        let bytes = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| fs::read(path).doing(format_args!("reading {}", path.display())))
                .transpose()
        };
        let ak = bytes(&options.ak)?.map(|bytes| known(&bytes));
        let values = bytes(&options.pcrs)?
            .map(|bytes| serde_json::from_slice(&bytes).map_err(Error::refused))
            .transpose();
        Ok(Self {
            ak: ak.transpose().doing("reading the attestation key")?,
            firmware_log: bytes(&options.firmware_log)?,
            userspace_log: bytes(&options.log)?,
            values: values.doing("reading PCR values")?,
        })
    }
}
