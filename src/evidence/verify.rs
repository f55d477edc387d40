// SPDX-License-Identifier: Apache-2.0
//! What was asked for against what was given.
//!
//! **Never:** what a policy accepts: whether evidence is true is one question, whether it is good enough another.

use super::attest::{Attest, Clock};
use super::eventlog::{Event, Log};
use super::key::{Ak, Name};
use super::registers::{self, Registers, Values};
use super::{Check, Refusal};
use crate::pcr::Bank;

/// PCRs that have to follow from the event logs, where there are any: those of the static root of trust but PCR 10, which
/// the kernel's integrity measurement keeps a log of its own for.
pub const LOGGED: [u8; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15];

/// What a verifier asked for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The qualifying data: exactly these bytes.
    pub qualifying: &'a [u8],
    /// The bank.
    pub bank: Bank,
    /// The PCRs: all of them and no others.
    pub pcrs: Registers,
}

/// What came back. Nothing of it is trusted.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The attestation key, a `TPMT_PUBLIC`.
    pub ak: &'a [u8],
    /// The statement, a `TPMS_ATTEST`.
    pub attest: &'a [u8],
    /// The signature, a `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
    /// The PCR values.
    pub values: &'a Values,
    /// The firmware's event log.
    pub firmware_log: Option<&'a [u8]>,
    /// systemd's event log.
    pub userspace_log: Option<&'a [u8]>,
}

/// A statement that a key signed, about what was asked for. The values are not known yet.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The quote.
    pub attest: Attest,
    /// The key.
    pub ak: Ak,
}

/// What a TPM says, verified: a key of the kind that signs only what its TPM made signed that these are the values. Whose
/// TPM that is, [`Ak::name`] has to be matched with.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The bank.
    pub bank: Bank,
    /// The values.
    pub pcrs: Values,
    /// The PCRs whose values follow from the logs that were given.
    pub explained: Registers,
    /// What was measured into these.
    pub events: Vec<Event>,
    /// The TPM's clock.
    pub clock: Clock,
    /// The version of the TPM's firmware.
    pub firmware_version: u64,
    /// The name of the attestation key.
    pub ak_name: Name,
}

/// Verifies evidence: every check there is but whose TPM it is and whether the values are good ones.
///
/// The order of checks is that of [`Check`].
pub fn verify(expected: &Expected<'_>, presented: &Presented<'_>) -> Result<Verified, Refusal> {
    let statement = statement(presented.ak, presented.attest, presented.signature)?;
    statement.answers(expected)?;
    statement.is_over(expected.bank, expected.pcrs, presented.values)?;
    let (explained, events) = logs(expected, presented)?;
    Ok(Verified {
        bank: expected.bank,
        pcrs: presented.values.clone(),
        explained,
        events,
        clock: statement.attest.clock,
        firmware_version: statement.attest.firmware_version,
        ak_name: statement.ak.name(),
    })
}

/// Verifies that `ak` may sign quotes and signed this one.
pub fn statement(ak: &[u8], attest: &[u8], signature: &[u8]) -> Result<Statement, Refusal> {
    let parsed = Attest::parse(attest)?;
    let ak = Ak::parse(ak)?;
    ak.verify(attest, signature)?;
    Ok(Statement { attest: parsed, ak })
}

impl Statement {
    /// Checks that the quote selects and is about what was asked for.
    pub fn answers(&self, expected: &Expected<'_>) -> Result<(), Refusal> {
        if self.attest.selection() != Some((expected.bank, expected.pcrs)) {
            return Err(Refusal::new(
                Check::Selection,
                format_args!(
                    "expected a quote over PCRs {} of {}, found {}",
                    expected.pcrs,
                    expected.bank,
                    selected(&self.attest)
                ),
            ));
        }
        self.is_about(expected.qualifying)
    }

    /// Checks the qualifying data.
    pub fn is_about(&self, qualifying: &[u8]) -> Result<(), Refusal> {
        if self.attest.extra_data == qualifying {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Nonce,
            format_args!(
                "expected a quote about {}, found one about {}",
                hex::encode(qualifying),
                hex::encode(&self.attest.extra_data)
            ),
        ))
    }

    /// Checks that the quote was made over these values of exactly these PCRs.
    pub fn is_over(&self, bank: Bank, pcrs: Registers, values: &Values) -> Result<(), Refusal> {
        let presented: Registers = values.keys().copied().collect();
        if presented != pcrs || values.len() != pcrs.iter().count() {
            return Err(Refusal::new(
                Check::Digest,
                format_args!("expected values of PCRs {pcrs}, found those of {presented}"),
            ));
        }
        let wanted = registers::len(bank);
        if let Some((pcr, value)) = values.iter().find(|(_, value)| value.len() != wanted) {
            return Err(Refusal::new(
                Check::Digest,
                format_args!("PCR {pcr}: expected {wanted} bytes, found {}", value.len()),
            ));
        }
        if self.is_digest_of(pcrs, values) {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Digest,
            "the quote was made over other PCR values",
        ))
    }

    /// Whether the quote's digest is that of `values`, of which there may be more. Both schemes of keys use SHA-256.
    #[must_use]
    pub fn is_digest_of(&self, pcrs: Registers, values: &Values) -> bool {
        let all: Vec<u8> = pcrs
            .iter()
            .filter_map(|pcr| values.get(&pcr))
            .flatten()
            .copied()
            .collect();
        Bank::Sha256.hash(&all) == self.attest.pcr_digest
    }
}

/// A quote's selection for people.
fn selected(attest: &Attest) -> String {
    let parts: Vec<String> = attest
        .selections
        .iter()
        .map(|selection| {
            let bank = selection.bank().map_or_else(
                || format!("{:#06x}", selection.algorithm),
                |b| b.to_string(),
            );
            format!("{} of {bank}", selection.pcrs)
        })
        .collect();
    if parts.is_empty() {
        return "none".into();
    }
    parts.join(" and ")
}

/// Replays the logs; which PCRs follow from them, and what was measured into these.
fn logs(
    expected: &Expected<'_>,
    presented: &Presented<'_>,
) -> Result<(Registers, Vec<Event>), Refusal> {
    if presented.firmware_log.is_none() && presented.userspace_log.is_none() {
        return Ok((Registers::default(), Vec::new()));
    }
    let log = Log::of(presented.firmware_log, presented.userspace_log)?;
    let replayed = log.replay(expected.bank)?;
    let explained: Registers = expected
        .pcrs
        .iter()
        .filter(|pcr| replayed.get(pcr) == presented.values.get(pcr))
        .collect();
    // Without the firmware's log only what nothing but user space measures into can follow.
    let unexplained: Registers = expected
        .pcrs
        .iter()
        .filter(|pcr| LOGGED.contains(pcr) && !explained.contains(*pcr))
        .filter(|pcr| presented.firmware_log.is_some() || *pcr == 15)
        .collect();
    if !unexplained.is_empty() {
        return Err(Refusal::new(
            Check::EventLog,
            format_args!("PCRs {unexplained} do not follow from the event logs"),
        ));
    }
    Ok((explained, log.events(expected.bank, explained)))
}

#[cfg(test)]
mod tests;
