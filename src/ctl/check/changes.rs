// SPDX-License-Identifier: Apache-2.0
//! What the command line says that is about to change of the firmware's keys.

use std::path::Path;

use crate::ctl::{cli, input};
use crate::error::{Doing, Error, Result};
use crate::evidence::signature_list::{LISTS_LEN_MAX, SignatureLists};
use crate::evidence::start::{Changes, KeyList, certificates};

/// The longest file with a certificate that is read, in bytes.
const CERTIFICATE_LEN_MAX: usize = 1 << 16;

/// Reads the files that say it.
pub(super) fn of(given: &cli::Check) -> Result<Changes> {
    let lists = [
        (KeyList::Kek, &given.kek),
        (KeyList::Db, &given.db),
        (KeyList::Dbx, &given.dbx),
    ];
    let mut added = Vec::new();
    for (list, file) in lists {
        if let Some(file) = file {
            added.push((list, update(file).doing(file.display())?));
        }
    }
    let signer = given.signer.as_deref();
    let signer = signer.map(|file| certificate(file).doing(file.display()));
    Ok(Changes {
        added,
        signer: signer.transpose()?,
    })
}

fn update(file: &Path) -> Result<Vec<u8>> {
    let bytes = input::read(file, LISTS_LEN_MAX).map_err(Error::config)?;
    let lists = SignatureLists::parse(&bytes).map_err(|why| {
        Error::config(format_args!(
            "{why}; expected signature lists, with the signature of an update in front or without"
        ))
    })?;
    // An empty one would be taken for an update that changes nothing.
    if lists == SignatureLists::default() {
        return Err(Error::config("expected signature lists, found none"));
    }
    Ok(bytes)
}

fn certificate(file: &Path) -> Result<Vec<u8>> {
    let bytes = input::read(file, CERTIFICATE_LEN_MAX).map_err(Error::config)?;
    let found = certificates(&bytes).map_err(Error::config)?;
    match <[Vec<u8>; 1]>::try_from(found) {
        Ok([certificate]) => Ok(certificate),
        Err(several) => {
            let len = several.len();
            Err(Error::config(format_args!(
                "expected one certificate, found {len}"
            )))
        }
    }
}
