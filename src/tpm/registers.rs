// SPDX-License-Identifier: Apache-2.0
//! PCRs read and extended, in every active bank.

use std::collections::BTreeMap;

use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::PcrHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{
    CapabilityData, Digest, DigestValues, PcrSelectionList, PcrSelectionListBuilder, PcrSlot,
};

use super::integrity::Role;
use super::{Policy, Tpm, policy};
use crate::error::{Doing, Error, Result};
use crate::pcr::{Bank, Digests, Pcr, PcrSet};
use crate::sealed::signature::SIGNED_PCR;

/// How often a read of several parts is repeated because a PCR changed in between; systemd's number for the same.
pub(super) const CHANGED_MAX: u32 = 30;

/// How many values one command reads: what a `TPML_DIGEST` holds (TPM 2.0 part 2, section 10.9.3).
const READ_MAX: usize = 8;

/// Values of PCRs.
pub(super) type Values = Vec<((Bank, Pcr), Vec<u8>)>;

impl Tpm {
    /// The active banks, in the TPM's order. They are asked for once.
    ///
    /// None at all is [`Exit::Unavailable`](crate::error::Exit::Unavailable): every measurement would be lost. One this
    /// program cannot compute is refused: it could be extended at will later and then attest to anything.
    pub fn banks(&mut self) -> Result<Vec<Bank>> {
        if let Some(active) = &self.active {
            return Ok(active.clone());
        }
        let active = self.active().doing("asking the TPM for its PCR banks")?;
        self.active = Some(active.clone());
        Ok(active)
    }

    /// The values of `pcr` in every active bank.
    pub fn read(&mut self, pcr: Pcr) -> Result<Digests> {
        let mut all = self.read_all(&[pcr])?;
        Ok(all.pop().unwrap_or_default())
    }

    /// The values of each of `pcrs` in every active bank, all of one instant: one command for each eight values.
    pub fn read_all(&mut self, pcrs: &[Pcr]) -> Result<Vec<Digests>> {
        self.read_as(Role::Audits, pcrs)
    }

    /// The same at the end of a connection that vouches: where one command reads them, it spares another one.
    pub fn read_last(&mut self, pcrs: &[Pcr]) -> Result<Vec<Digests>> {
        self.read_as(Role::AuditsLast, pcrs)
    }

    fn read_as(&mut self, role: Role, pcrs: &[Pcr]) -> Result<Vec<Digests>> {
        let banks = self.banks()?;
        let wanted: Vec<_> = banks
            .iter()
            .flat_map(|bank| pcrs.iter().map(|pcr| (*bank, *pcr)))
            .collect();
        let role = if wanted.len() > READ_MAX {
            Role::Audits
        } else {
            role
        };
        let values = self.values_as(role, &wanted)?;
        let of = |pcr: &Pcr| {
            values
                .iter()
                .filter(|((_, of), _)| of == pcr)
                .map(|((bank, _), value)| (*bank, value.clone()))
                .collect()
        };
        Ok(pcrs.iter().map(of).collect())
    }

    /// Refuses a `pcr` that was extended since the reset, in any active bank.
    pub fn require_zero(&mut self, pcr: Pcr) -> Result<()> {
        require_zero(pcr, &self.read(pcr)?)
    }

    /// The same, and reads the values for `policy` with it, for the unsealing and the reading to come, and those of `others`
    /// in the policy's bank. Gives what was read of that bank, all of one instant.
    pub fn require_zero_before(
        &mut self,
        pcr: Pcr,
        policy: Policy,
        others: PcrSet,
    ) -> Result<BTreeMap<u8, Vec<u8>>> {
        let banks = self.banks()?;
        let mut wanted: Vec<_> = banks.iter().map(|bank| (*bank, pcr)).collect();
        let of_policy: Vec<_> = policy.pcrs.iter().map(|pcr| (policy.bank, pcr)).collect();
        let signed = policy.key.map(|_| SIGNED_PCR);
        let of_others = others.iter().chain(signed).map(|pcr| (policy.bank, pcr));
        for pair in of_policy.iter().copied().chain(of_others) {
            if !wanted.contains(&pair) {
                wanted.push(pair);
            }
        }
        // What has room in the same command costs nothing, and a quote may need it.
        let all = (0..=15).filter_map(|index| Pcr::try_from(index).ok());
        for pcr in all {
            let pair = (Bank::Sha256, pcr);
            let has_room = !wanted.len().is_multiple_of(READ_MAX);
            if banks.contains(&Bank::Sha256) && has_room && !wanted.contains(&pair) {
                wanted.push(pair);
            }
        }
        let values = self.values(&wanted)?;
        let digests: Digests = values
            .iter()
            .filter(|((_, of), _)| *of == pcr)
            .map(|((bank, _), value)| (*bank, value.clone()))
            .collect();
        require_zero(pcr, &digests)?;
        let of_policy: Vec<&[u8]> = of_policy
            .iter()
            .filter_map(|pair| values.iter().find(|(of, _)| of == pair))
            .map(|(_, value)| value.as_slice())
            .collect();
        if !of_policy.is_empty() {
            self.known = Some(policy::Known::new(policy, of_policy));
        }
        let of_bank = values.into_iter().filter(|((of, _), _)| *of == policy.bank);
        Ok(of_bank
            .map(|((_, pcr), value)| (pcr.index(), value))
            .collect())
    }

    /// Measures `data`: extends `pcr` with its digest in every active bank, as `TPM2_PCR_Event` would.
    ///
    /// Returns the digests. They are computed here because tss-esapi 7.7 lacks that command.
    pub fn event(&mut self, pcr: Pcr, data: &[u8]) -> Result<Digests> {
        let digests = self
            .banks()?
            .into_iter()
            .map(|bank| (bank, bank.hash(data)))
            .collect();
        self.extend(pcr, &digests)?;
        Ok(digests)
    }

    /// Extends `pcr` with one digest for each active bank, in one command.
    ///
    /// A bank left out could be extended at will later and then attest to anything, so a missing digest is an error.
    pub fn extend(&mut self, pcr: Pcr, digests: &Digests) -> Result<()> {
        let mut values = DigestValues::new();
        for bank in self.banks()? {
            let Some((_, digest)) = digests.iter().find(|(of, _)| *of == bank) else {
                return Err(Error::failure(format_args!(
                    "PCR bank {bank} is active and has no digest to extend it with"
                )));
            };
            values.set(algorithm(bank), Digest::try_from(digest.as_slice())?);
        }
        let handle = PcrHandle::try_from(u32::from(pcr.index()))?;
        self.known.take_if(|known| known.policy.pcrs.contains(pcr));
        self.seen.remove(&pcr.index());
        let extended = self.vouched(Role::Authorises, |context| {
            context.pcr_extend(handle, values.clone())
        });
        match extended {
            Ok(()) => self.followed.extended(pcr, digests),
            Err(_) => self.followed.forget(pcr),
        }
        extended.doing(format_args!("extending PCR {pcr}"))
    }

    fn active(&mut self) -> Result<Vec<Bank>> {
        let (capability, _) = self.vouched(Role::Audits, |context| {
            // A TPM has at most 16 banks (TPM 2.0 part 2, HASH_COUNT).
            context.get_capability(CapabilityType::AssignedPcr, 0, 16)
        })?;
        let CapabilityData::AssignedPcr(assigned) = capability else {
            return Err(Error::failure("it answered with another capability"));
        };
        let active: Vec<Bank> = assigned
            .get_selections()
            .iter()
            .filter(|selection| !selection.is_empty())
            .map(|selection| {
                let algorithm = selection.hashing_algorithm();
                bank(algorithm).ok_or_else(|| {
                    Error::refused(format_args!(
                        "bank {algorithm:?} is active and this program cannot extend it: \
                         deactivate it in the firmware's TPM setting"
                    ))
                })
            })
            .collect::<Result<_>>()?;
        if active.is_empty() {
            return Err(Error::unavailable(
                "no bank is active, so nothing can be measured: \
                 activate sha256 in the firmware's TPM setting",
            ));
        }
        Ok(active)
    }

    /// The values of these PCRs, all of one instant, in the order given.
    pub(super) fn values(&mut self, order: &[(Bank, Pcr)]) -> Result<Values> {
        self.values_as(Role::Audits, order)
    }

    fn values_as(&mut self, role: Role, order: &[(Bank, Pcr)]) -> Result<Values> {
        for _ in 0..CHANGED_MAX {
            if let Some(values) = self.values_once(role, order)? {
                self.followed.read(&values)?;
                let sha256 = values.iter().filter(|((bank, _), _)| *bank == Bank::Sha256);
                self.seen
                    .extend(sha256.map(|((_, pcr), value)| (pcr.index(), value.clone())));
                return Ok(values);
            }
        }
        Err(Error::temporary(
            "reading PCRs: they changed each time they were read",
        ))
    }

    /// One reading, in as many commands as the TPM needs (eight digests fit one); `None` if a PCR changed in between.
    fn values_once(&mut self, role: Role, order: &[(Bank, Pcr)]) -> Result<Option<Values>> {
        let mut wanted = order.to_vec();
        let mut found = Vec::new();
        let mut first_counter = None;
        while !wanted.is_empty() {
            let list = selection(&wanted)?;
            let (counter, selected, digests) = self
                .vouched(role, |context| context.pcr_read(list.clone()))
                .doing("reading PCRs")?;
            if *first_counter.get_or_insert(counter) != counter {
                return Ok(None);
            }
            let got = selected_pcrs(&selected);
            if got.is_empty() || got.len() != digests.len() {
                let (bank, pcr) = wanted
                    .first()
                    .map_or(("", 0), |(bank, pcr)| (bank.as_str(), pcr.index()));
                return Err(Error::unavailable(format_args!(
                    "the TPM has no PCR {pcr} in bank {bank}: activate the bank or configure another"
                )));
            }
            for (pair, digest) in got.into_iter().zip(digests.value()) {
                // Each answer brings the end nearer.
                let Some(place) = wanted.iter().position(|wanted| *wanted == pair) else {
                    let (bank, pcr) = pair;
                    return Err(Error::failure(format_args!(
                        "the TPM answered with PCR {pcr} of bank {bank}, which it was not asked for"
                    )));
                };
                wanted.remove(place);
                found.push((pair, digest.value().to_vec()));
            }
        }
        found.sort_by_key(|(pair, _)| order.iter().position(|wanted| wanted == pair));
        Ok(Some(found))
    }
}

fn require_zero(pcr: Pcr, digests: &Digests) -> Result<()> {
    for (bank, value) in digests {
        if value.iter().any(|byte| *byte != 0) {
            return Err(Error::refused(format_args!(
                "PCR {pcr} ({bank}) is already extended: something else measured into it during this boot; \
                 turn that off or configure another PCR, then reboot"
            )));
        }
    }
    Ok(())
}

pub(super) fn bank(algorithm: HashingAlgorithm) -> Option<Bank> {
    match algorithm {
        HashingAlgorithm::Sha1 => Some(Bank::Sha1),
        HashingAlgorithm::Sha256 => Some(Bank::Sha256),
        HashingAlgorithm::Sha384 => Some(Bank::Sha384),
        HashingAlgorithm::Sha512 => Some(Bank::Sha512),
        HashingAlgorithm::Sm3_256
        | HashingAlgorithm::Sha3_256
        | HashingAlgorithm::Sha3_384
        | HashingAlgorithm::Sha3_512
        | HashingAlgorithm::Null => None,
    }
}

pub(super) fn algorithm(bank: Bank) -> HashingAlgorithm {
    match bank {
        Bank::Sha1 => HashingAlgorithm::Sha1,
        Bank::Sha256 => HashingAlgorithm::Sha256,
        Bank::Sha384 => HashingAlgorithm::Sha384,
        Bank::Sha512 => HashingAlgorithm::Sha512,
    }
}

/// A selection of three octets per bank, as systemd and the PC Client profile have it.
pub(super) fn selection(pairs: &[(Bank, Pcr)]) -> Result<PcrSelectionList> {
    let mut builder = PcrSelectionListBuilder::new();
    for (bank, pcr) in pairs {
        let slot = PcrSlot::try_from(1_u32 << pcr.index())?;
        builder = builder.with_selection(algorithm(*bank), &[slot]);
    }
    Ok(builder.build()?)
}

/// The pairs a selection stands for, in the order the TPM lists their digests.
pub(super) fn selected_pcrs(list: &PcrSelectionList) -> Vec<(Bank, Pcr)> {
    let mut pairs = Vec::new();
    for selection in list.get_selections() {
        let Some(bank) = bank(selection.hashing_algorithm()) else {
            continue;
        };
        for slot in selection.selected() {
            let index = u32::from(slot).trailing_zeros();
            if let Some(pcr) = u8::try_from(index).ok().and_then(|i| Pcr::try_from(i).ok()) {
                pairs.push((bank, pcr));
            }
        }
    }
    pairs
}
