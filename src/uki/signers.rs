// SPDX-License-Identifier: Apache-2.0
//! Whose signature a program carries, as its signature says: nothing is verified.
//!
//! That is what is wanted where a signature is not to be there: a doubtful one counts as one.

use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use super::pe::Pe;
use crate::error::{Doing, Error, Result};

impl Pe<'_> {
    /// Whether one of its signatures names `certificate`, DER: as the signer's, or as that of somebody who issued one in the
    /// signature's chain.
    ///
    /// A signature is a `SignedData` (RFC 5652), which names whoever signed by issuer and serial number, and has certificates
    /// in it with the names of subject and issuer.
    pub fn names_signer(&self, certificate: &[u8]) -> Result<bool> {
        let parsed = Certificate::from_der(certificate)
            .map_err(Error::config)
            .doing("certificate")?;
        let body = parsed.tbs_certificate();
        let der = |value: std::result::Result<Vec<u8>, x509_cert::der::Error>| {
            value.map_err(Error::config).doing("certificate")
        };
        let serial = der(body.serial_number().to_der())?;
        let signer = [der(body.issuer().to_der())?, serial].concat();
        let mut names = vec![signer, certificate.to_vec()];
        // An empty name would be found in anything.
        if !body.subject().is_empty() {
            names.push(der(body.subject().to_der())?);
        }
        let table = self.signature_table();
        Ok(names.iter().any(|name| has(table, name)))
    }
}

fn has(bytes: &[u8], sought: &[u8]) -> bool {
    bytes.windows(sought.len()).any(|window| window == sought)
}
