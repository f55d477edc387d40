// SPDX-License-Identifier: Apache-2.0
//! Endorsement certificates: who says that an endorsement key belongs to a TPM.
//!
//! RFC 5280 as far as such chains use it, and the TCG EK Credential Profile. There is no revocation: a key that is not to
//! be trusted any more is one the policy does not list.
//!
//! **Never:** the machine's own store of certificates, a revocation list, or the network.

mod certificate;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_cert::der::pem;

use self::certificate::Certificate;
use super::key::Ek;
use super::{Check, Refusal};

/// Certificates between the endorsement certificate and a root, both excluded. Vendors have two or three.
const INTERMEDIATES_MAX: usize = 6;
/// Certificates a list of authorities may have.
const AUTHORITIES_MAX: usize = 256;
/// What starts and ends a certificate in PEM (RFC 7468, section 5).
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Who may vouch for endorsement keys.
#[derive(Clone, Debug, Default)]
pub struct Authorities {
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
}

impl Authorities {
    /// Takes the certificates that are trusted, and those that may stand between them and an endorsement certificate, as
    /// PEM. Text around the certificates is ignored, as everywhere.
    pub fn from_pem(roots: &str, intermediates: &str) -> Result<Self, Refusal> {
        Ok(Self {
            roots: certificates(roots)?,
            intermediates: certificates(intermediates)?,
        })
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Whom the roots are about.
    pub fn roots(&self) -> impl Iterator<Item = String> {
        self.roots.iter().map(Certificate::subject)
    }

    /// Checks that `certificate`, DER as it is kept in a TPM's NV memory, is about `ek` and comes from a root.
    ///
    /// `sent` are further intermediates that the machine itself brought, as DER: they need not be trusted.
    ///
    /// Fails [`Check::Encoding`], [`Check::EkKey`] or [`Check::EkChain`].
    pub fn verify(
        &self,
        certificate: &[u8],
        sent: &[Vec<u8>],
        ek: &Ek,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        let leaf = Certificate::parse(certificate)?;
        if !leaf.is_about(ek)? {
            return Err(Refusal::new(
                Check::EkKey,
                "the endorsement certificate is about another key",
            ));
        }
        let now = since_epoch(now)?;
        leaf.is_of_an_endorsement_key(ek)
            .and_then(|()| leaf.is_valid(now))
            .map_err(|why| Refusal::new(Check::EkChain, format_args!("{leaf}: {why}")))?;
        if sent.len() > INTERMEDIATES_MAX {
            return Err(Refusal::new(
                Check::EkChain,
                format_args!("{} intermediate certificates were sent", sent.len()),
            ));
        }
        let sent: Vec<Certificate> = sent
            .iter()
            .map(|der| Certificate::parse(der))
            .collect::<Result<_, _>>()?;
        self.climb(leaf, &sent, now)
    }

    /// Goes from issuer to issuer until one is a root. Names may be ambiguous, so the first whose key made the signature is
    /// taken; a signature has one maker.
    fn climb(&self, leaf: Certificate, sent: &[Certificate], now: Duration) -> Result<(), Refusal> {
        let mut current = leaf;
        for below in 0..=INTERMEDIATES_MAX {
            let fits = |issuer: &&Certificate| current.is_issued_by(issuer);
            let authority = |issuer: &Certificate| {
                issuer
                    .is_authority(below)
                    .and_then(|()| issuer.is_valid(now))
                    .map_err(|why| Refusal::new(Check::EkChain, format_args!("{issuer}: {why}")))
            };
            if let Some(root) = self.roots.iter().find(fits) {
                return authority(root);
            }
            let others = self.intermediates.iter().chain(sent);
            let Some(issuer) = others.clone().find(fits) else {
                return Err(Refusal::new(
                    Check::EkChain,
                    format_args!("{current}: nobody who is trusted issued it"),
                ));
            };
            authority(issuer)?;
            current = issuer.clone();
        }
        Err(Refusal::new(
            Check::EkChain,
            format_args!("more than {INTERMEDIATES_MAX} intermediate certificates"),
        ))
    }
}

fn since_epoch(now: SystemTime) -> Result<Duration, Refusal> {
    now.duration_since(UNIX_EPOCH)
        .map_err(|error| Refusal::new(Check::EkChain, format_args!("the clock: {error}")))
}

fn certificates(text: &str) -> Result<Vec<Certificate>, Refusal> {
    let blocks = pem_blocks(text)?;
    blocks.iter().map(|der| Certificate::parse(der)).collect()
}

/// What is between the marks of PEM in a text, in DER. Text around them is ignored, as everywhere.
///
/// Fails [`Check::Encoding`].
pub(super) fn pem_blocks(text: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let bad = |why: &str| Refusal::new(Check::Encoding, format_args!("certificate: {why}"));
        let (body, left) = after.split_once(END).ok_or_else(|| bad("it has no end"))?;
        let block = format!("{BEGIN}{body}{END}\n");
        let (_, der) =
            pem::decode_vec(block.as_bytes()).map_err(|error| bad(&error.to_string()))?;
        found.push(der);
        if found.len() > AUTHORITIES_MAX {
            return Err(bad(&format!("there are more than {AUTHORITIES_MAX}")));
        }
        rest = left;
    }
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests;
