// SPDX-License-Identifier: Apache-2.0
//! A quote over all PCRs of the bank sha256, with the values it covers.

use std::collections::BTreeMap;

use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{
    Attest, AttestInfo, PcrSelection, PcrSelectionList, PcrSelectionListBuilder, PcrSlot,
};
use tss_esapi::traits::UnMarshall;

use super::registers::CHANGED_MAX;
use super::{AkKind, Quote, Tpm, response};
use crate::error::{Doing, Error, Result};
use crate::pcr::{Bank, PCR_COUNT};

/// A quote over all PCRs of the bank sha256.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// The quote.
    pub quote: Quote,
    /// The values it covers, PCR 0 first.
    pub pcrs: Vec<[u8; 32]>,
}

/// What PCRs that nobody uses hold (TCG PC Client Platform TPM Profile, section 4.6.2). That a PCR does so is a guess, which
/// the quote proves.
const UNUSED: [(u8, u8); 11] = [
    (8, 0),
    (13, 0),
    (14, 0),
    (16, 0),
    (17, 0xff),
    (18, 0xff),
    (19, 0xff),
    (20, 0xff),
    (21, 0xff),
    (22, 0xff),
    (23, 0),
];

impl Tpm {
    /// Quotes all PCRs of the bank sha256 with `qualifying` data, and says which values they had.
    ///
    /// The quote comes first, and its digest proves the values: what was read before, and what a PCR that nobody uses holds,
    /// is only read again where it does not fit.
    ///
    /// Commands: `Quote`, and `PCR_Read` for each eight values not known; in a connection's first quote also `CreatePrimary`.
    pub fn attest(&mut self, kind: AkKind, qualifying: &[u8; 32]) -> Result<Evidence> {
        self.attest_now(kind, qualifying)
            .doing("quoting all PCRs (sha256)")
    }

    fn attest_now(&mut self, kind: AkKind, qualifying: &[u8; 32]) -> Result<Evidence> {
        let all: Vec<u8> = (0_u8..).take(PCR_COUNT).collect();
        for _ in 0..CHANGED_MAX {
            let quote = self.sign(kind, qualifying, &slots(&all)?)?;
            let digest = pcr_digest(&quote)?;
            let mut values: BTreeMap<u8, Vec<u8>> = UNUSED
                .map(|(pcr, fill)| (pcr, vec![fill; 32]))
                .into_iter()
                .collect();
            values.extend(self.seen.clone());
            let missing: Vec<u8> = all
                .iter()
                .copied()
                .filter(|pcr| !values.contains_key(pcr))
                .collect();
            values.extend(self.read_slots(&missing)?);
            if !fits(&values, &digest) {
                values = self.read_slots(&all)?;
            }
            if fits(&values, &digest) {
                self.seen.clone_from(&values);
                return Ok(Evidence {
                    quote,
                    pcrs: values
                        .into_values()
                        .filter_map(|v| v.try_into().ok())
                        .collect(),
                });
            }
            self.seen.clear();
        }
        Err(Error::temporary("they changed each time they were quoted"))
    }

    /// The values of PCRs of the bank sha256.
    fn read_slots(&mut self, pcrs: &[u8]) -> Result<BTreeMap<u8, Vec<u8>>> {
        let mut values = BTreeMap::new();
        let mut wanted = pcrs.to_vec();
        while !wanted.is_empty() {
            let list = slots(&wanted)?;
            let (_, selected, digests) = response::resubmitting(&mut self.context, |context| {
                context.execute_without_session(|context| context.pcr_read(list.clone()))
            })
            .doing("reading PCRs")?;
            let got: Vec<u8> = selected
                .get_selections()
                .iter()
                .flat_map(PcrSelection::selected)
                .filter_map(|slot| u8::try_from(u32::from(slot).trailing_zeros()).ok())
                .filter(|pcr| wanted.contains(pcr))
                .collect();
            if got.is_empty() || got.len() != digests.len() {
                return Err(Error::unavailable(
                    "the TPM's bank sha256 is not active: activate it in the firmware's TPM setting",
                ));
            }
            wanted.retain(|pcr| !got.contains(pcr));
            let digests = digests.value().iter().map(|digest| digest.value().to_vec());
            values.extend(got.into_iter().zip(digests));
        }
        Ok(values)
    }
}

/// Whether these are the values a quote's digest is of (TPM 2.0 part 3, section 18.4).
fn fits(values: &BTreeMap<u8, Vec<u8>>, digest: &[u8]) -> bool {
    let all: Vec<u8> = values.values().flatten().copied().collect();
    values.len() == PCR_COUNT && Bank::Sha256.hash(&all) == digest
}

fn pcr_digest(quote: &Quote) -> Result<Vec<u8>> {
    match Attest::unmarshall(&quote.attest)?.attested() {
        AttestInfo::Quote { info } => Ok(info.pcr_digest().value().to_vec()),
        AttestInfo::Certify { .. }
        | AttestInfo::SessionAudit { .. }
        | AttestInfo::CommandAudit { .. }
        | AttestInfo::Time { .. }
        | AttestInfo::Creation { .. }
        | AttestInfo::Nv { .. } => Err(Error::failure("the TPM answered with another statement")),
    }
}

fn slots(pcrs: &[u8]) -> Result<PcrSelectionList> {
    let slots: Vec<PcrSlot> = pcrs
        .iter()
        .filter_map(|pcr| 1_u32.checked_shl(u32::from(*pcr)))
        .map(PcrSlot::try_from)
        .collect::<std::result::Result<_, _>>()?;
    Ok(PcrSelectionListBuilder::new()
        .with_selection(HashingAlgorithm::Sha256, &slots)
        .build()?)
}
