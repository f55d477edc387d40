// SPDX-License-Identifier: Apache-2.0
//! Who vouches for an image at the firmware, by the files of certificates that a command is given.

use std::path::Path;

use crate::ctl::input;
use crate::error::{Doing, Error, Result};
use crate::evidence::start::certificates;
use crate::key::pcr::PcrPublicKey;
use crate::uki::{Pe, Uki};

/// A file with its certificates, in DER.
pub(super) struct Authority {
    pub(super) file: String,
    certificates: Vec<Vec<u8>>,
}

impl Authority {
    /// Reads each file.
    pub(super) fn all(files: &[String]) -> Result<Vec<Self>> {
        let read = |file: &String| {
            let bytes = input::read(Path::new(file), input::IMAGE_LEN_MAX).doing(file)?;
            let certificates = certificates(&bytes).map_err(Error::config);
            Ok(Self {
                file: file.clone(),
                certificates: certificates.doing(file)?,
            })
        };
        files.iter().map(read).collect()
    }

    /// Whether a program carries a signature of one of them.
    pub(super) fn has_signed(&self, program: &Pe<'_>) -> Result<bool> {
        let mut is_signed = false;
        for certificate in &self.certificates {
            is_signed |= program.names_signer(certificate)?;
        }
        Ok(is_signed)
    }

    /// Whether one of them is of this key.
    pub(super) fn is_of(&self, key: &PcrPublicKey) -> bool {
        let mut certificates = self.certificates.iter();
        certificates.any(|certificate| key.is_of_certificate(certificate))
    }
}

/// Refuses an image whose kernel carries a signature of an authority.
pub(super) fn refuse_signed_kernel(uki: &Uki<'_>, authorities: &[Authority]) -> Result<()> {
    for authority in authorities {
        if authority.has_signed(&uki.kernel()?)? {
            return Err(Error::refused(format_args!(
                "section .linux: the kernel carries a signature of {}: under that key anybody \
                 starts it with another initrd; build the image without, ukify has --no-sign-kernel",
                authority.file
            )));
        }
    }
    Ok(())
}
