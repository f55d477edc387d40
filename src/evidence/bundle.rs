// SPDX-License-Identifier: Apache-2.0
//! Evidence in one file, JSON, so that a denial can be looked into later and elsewhere.
//!
//! ```json
//! {
//!   "ak-public": "base64 of the TPMT_PUBLIC",
//!   "quote": "base64 of the TPMS_ATTEST",
//!   "signature": "base64 of the TPMT_SIGNATURE",
//!   "pcrs": {"sha256": {"0": "hexadecimal digits"}},
//!   "firmware-log": "base64, may be left out",
//!   "userspace-log": "base64, may be left out"
//! }
//! ```
//!
//! `pcrs` may also be a list of 24 values of the quote's bank, as in the KBS protocol.
//!
//! **Never:** a secret or a name of a person is in it: what a quote and its logs show, and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::registers::{self, Registers, Values};
use super::verify::{Expected, Presented, Verified, statement, verify};
use super::{Check, Refusal};
use crate::pcr::Bank;
use crate::protocol::Bytes;

/// What a machine sent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bundle {
    /// The attestation key, a `TPMT_PUBLIC`.
    pub ak_public: Bytes,
    /// The statement, a `TPMS_ATTEST`.
    pub quote: Bytes,
    /// The signature, a `TPMT_SIGNATURE`.
    pub signature: Bytes,
    /// The PCR values.
    pub pcrs: Pcrs,
    /// The firmware's event log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_log: Option<Bytes>,
    /// systemd's event log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userspace_log: Option<Bytes>,
}

/// PCR values in hexadecimal digits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Pcrs {
    /// By bank and number, as in the record of a boot.
    Banks(BTreeMap<Bank, BTreeMap<String, String>>),
    /// All 24 of the quote's bank, as in the KBS protocol.
    List(Vec<String>),
}

impl Bundle {
    /// Takes a file apart.
    ///
    /// Fails [`Check::Encoding`].
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        serde_json::from_str(text)
            .map_err(|error| Refusal::new(Check::Encoding, format_args!("evidence: {error}")))
    }

    /// Verifies it as it would have been, but for what was asked: the quote's own qualifying data and selection are taken
    /// for that, so this says nothing about freshness.
    pub fn verify(&self) -> Result<Verified, Refusal> {
        let statement = statement(&self.ak_public.0, &self.quote.0, &self.signature.0)?;
        let (bank, pcrs) = statement.attest.selection().ok_or_else(|| {
            Refusal::new(Check::Selection, "expected a quote over PCRs of one bank")
        })?;
        let values = self.pcrs.values(bank)?;
        let expected = Expected {
            qualifying: &statement.attest.extra_data,
            bank,
            pcrs,
        };
        verify(&expected, &self.presented(&restricted(values, pcrs)))
    }

    /// What was given, with these values.
    fn presented<'a>(&'a self, values: &'a Values) -> Presented<'a> {
        Presented {
            ak: &self.ak_public.0,
            attest: &self.quote.0,
            signature: &self.signature.0,
            values,
            firmware_log: self.firmware_log.as_ref().map(|log| log.0.as_slice()),
            userspace_log: self.userspace_log.as_ref().map(|log| log.0.as_slice()),
        }
    }
}

impl Pcrs {
    /// These values.
    #[must_use]
    pub fn of(bank: Bank, values: &Values) -> Self {
        let values = values
            .iter()
            .map(|(pcr, value)| (pcr.to_string(), hex::encode(value)));
        Self::Banks(BTreeMap::from([(bank, values.collect())]))
    }

    /// The values of a bank.
    ///
    /// Fails [`Check::Encoding`] where they are no values, or there are none of the bank.
    pub fn values(&self, bank: Bank) -> Result<Values, Refusal> {
        let bad = |why: String| Refusal::new(Check::Encoding, format_args!("PCR values: {why}"));
        let value = |pcr: u8, digits: &str| {
            let len = registers::len(bank);
            hex::decode(digits)
                .ok()
                .filter(|value| value.len() == len)
                .ok_or_else(|| bad(format!("PCR {pcr}: expected {len} bytes of {bank}")))
        };
        match self {
            Self::Banks(banks) => {
                let values = banks
                    .get(&bank)
                    .ok_or_else(|| bad(format!("there are none of {bank}")))?;
                let number = |text: &str| {
                    let pcr = text.parse().ok().filter(|pcr| *pcr < registers::COUNT);
                    pcr.ok_or_else(|| bad(format!("expected a PCR from 0 to 23, found {text:?}")))
                };
                values
                    .iter()
                    .map(|(pcr, digits)| {
                        let pcr = number(pcr)?;
                        Ok((pcr, value(pcr, digits)?))
                    })
                    .collect()
            }
            Self::List(list) if list.len() == usize::from(registers::COUNT) => (0..)
                .zip(list)
                .map(|(pcr, digits)| Ok((pcr, value(pcr, digits)?)))
                .collect(),
            Self::List(list) => Err(bad(format!("expected 24, found {}", list.len()))),
        }
    }
}

/// The values of these PCRs alone.
#[must_use]
pub fn restricted(values: Values, pcrs: Registers) -> Values {
    values
        .into_iter()
        .filter(|(pcr, _)| pcrs.contains(*pcr))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
