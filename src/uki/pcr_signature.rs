// SPDX-License-Identifier: Apache-2.0
//! Which values of PCR 11 an image gets signatures of, which it carries, and the sections that have to do with them.

use std::collections::BTreeSet;

use super::measured::{INITRD_PHASE, Uki};
use crate::error::{Doing, Error, Result};
use crate::key::pcr::{PcrKey, PcrPublicKey};
use crate::pcr::Bank;
use crate::sealed::floor::{Floor, Floors};
use crate::sealed::signature::{PcrSignature, PcrSignatures};

/// The section that has the signatures, which is measured into no PCR.
pub const SIGNATURES: &str = ".pcrsig";
/// The section that may have the public key, and is measured.
pub const PUBLIC_KEY: &str = ".pcrpkey";

impl Uki<'_> {
    /// Signs what PCR 11 is when the initrd asks for keys: before any phase, which is what it stays without the firmware's
    /// variables, and in the phase `enter-initrd`. Nothing later: the running system is to open nothing. Each is signed for each
    /// of `purposes`, a floor or none.
    pub fn sign(
        &self,
        key: &PcrKey,
        banks: &[Bank],
        purposes: &[Option<Floor>],
    ) -> Result<PcrSignatures> {
        let of = |bank: &Bank| {
            let values = self.signed_values(*bank);
            let all = purposes
                .iter()
                .flat_map(|floor| values.iter().map(|(_, value)| (value, *floor)));
            let signed = all.map(|(value, floor)| PcrSignature::new(key, *bank, value, floor));
            Ok((*bank, signed.collect::<Result<_>>()?))
        };
        let all: Vec<_> = banks.iter().map(of).collect::<Result<_>>()?;
        Ok(PcrSignatures::new(all))
    }

    /// The values that are signed, each with the phase it belongs to, if there is one.
    #[must_use]
    pub fn signed_values(&self, bank: Bank) -> [(Option<&'static str>, Vec<u8>); 2] {
        [
            (None, self.before_phases(bank)),
            (Some(INITRD_PHASE), self.in_initrd(bank)),
        ]
    }

    /// The fingerprints of the keys that its signatures name for the value that PCR 11 has when it asks for its keys, in one of
    /// these banks. Nothing where it has no signatures at all.
    ///
    /// Nothing is verified: that takes the key.
    pub fn signed_by(&self, banks: &[Bank]) -> Result<Option<BTreeSet<String>>> {
        Ok(self.carried()?.map(|carried| {
            let keys = banks.iter().flat_map(|bank| {
                let keys = carried.keys_of(*bank, &self.kernel_image(*bank));
                keys.into_iter().map(str::to_owned).collect::<Vec<_>>()
            });
            keys.collect()
        }))
    }

    /// The highest floor that its signatures name for the value that PCR 11 has when it asks for its keys, in one of these banks.
    /// Nothing is verified.
    pub fn floor(&self, banks: &[Bank]) -> Result<Option<Floor>> {
        let carried = self.carried()?.unwrap_or_default();
        let floors = banks
            .iter()
            .filter_map(|bank| carried.floor_of(*bank, &self.kernel_image(*bank)));
        Ok(floors.max())
    }

    /// Whether it carries good signatures by `key` of the value that PCR 11 has when it asks for its keys: one for each of
    /// `floors`, or without a floor where the configuration has none.
    ///
    /// Refused as a boot refuses it, or its TPM.
    pub fn check_signed(
        &self,
        key: &PcrPublicKey,
        bank: Bank,
        floors: Option<Floors>,
    ) -> Result<()> {
        let floors = floors.map(Floors::iter);
        match floors {
            None => self.check_signed_for(key, bank, None),
            Some(mut floors) => {
                floors.try_for_each(|floor| self.check_signed_for(key, bank, Some(floor)))
            }
        }
    }

    fn check_signed_for(&self, key: &PcrPublicKey, bank: Bank, floor: Option<Floor>) -> Result<()> {
        let Some(carried) = self.carried()? else {
            return Err(Error::refused(format_args!(
                "it has no section {SIGNATURES}"
            )));
        };
        let value = self.kernel_image(bank);
        carried.find(bank, key, &value, floor)?;
        if carried
            .of(bank)
            .iter()
            .any(|it| it.is_for(key, bank, &value, floor))
        {
            return Ok(());
        }
        Err(Error::refused(format_args!(
            "section {SIGNATURES}: the signature that names the key {key} is not by it"
        )))
    }

    fn carried(&self) -> Result<Option<PcrSignatures>> {
        let section = self.section(SIGNATURES)?;
        let parsed = section.map(PcrSignatures::parse).transpose();
        parsed.doing(format_args!("section {SIGNATURES}"))
    }
}

#[cfg(test)]
mod tests;
