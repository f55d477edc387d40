// SPDX-License-Identifier: Apache-2.0
//! What PCRs held when a secret was sealed, kept beside it so that a refusal says which of them have changed.
//!
//! It is for a sentence and proves nothing: the TPM decides, and a header whose key is not known can say anything.

use crate::pcr::{Bank, Pcr, PcrSet};

/// The values of a policy's PCRs, one behind the other in ascending order of the PCRs, each as long as its bank's digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SealedValues(Vec<u8>);

impl SealedValues {
    /// These bytes, whatever they are: see [`SealedValues::fit`].
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Whether they are as long as the values of these PCRs in `bank`.
    #[must_use]
    pub fn fit(&self, pcrs: PcrSet, bank: Bank) -> bool {
        let len = pcrs.iter().count().checked_mul(bank.zero().len());
        len == Some(self.0.len())
    }

    /// The values' bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Which of `pcrs`, whose values in `bank` are `now`, had another value.
    #[must_use]
    pub fn changed(&self, now: &Self, pcrs: PcrSet, bank: Bank) -> PcrSet {
        let len = bank.zero().len();
        let pairs = self.0.chunks(len).zip(now.0.chunks(len));
        let changed: Vec<Pcr> = pcrs
            .iter()
            .zip(pairs)
            .filter(|(_, (then, now))| then != now)
            .map(|(pcr, _)| pcr)
            .collect();
        PcrSet::of(&changed)
    }
}

/// What follows from it that these PCRs, at least one, have other values than at sealing time: each by its number and what it
/// holds, and what is the cause of that as a rule.
#[must_use]
pub fn explain(changed: PcrSet) -> String {
    let names: Vec<String> = changed
        .iter()
        .map(|pcr| format!("PCR {pcr} ({})", holds(pcr)))
        .collect();
    let has = |pcr| changed.contains(pcr);
    let causes = [
        (
            has(Pcr::FIRMWARE) || has(Pcr::DRIVERS),
            "the firmware, or a device's driver in it, is another",
        ),
        (
            has(Pcr::SECURE_BOOT),
            "Secure Boot was switched, or its keys or the image's signer are others",
        ),
        // An image's file is measured into 4, and its sections into 11.
        (has(Pcr::KERNEL_IMAGE), "another image was booted"),
        (
            has(Pcr::BOOT_PROGRAMS) && !has(Pcr::KERNEL_IMAGE),
            "the firmware tried or started something else before the image, or the image was signed anew",
        ),
        (
            has(Pcr::KERNEL_CONFIG),
            "the command line is another, something was handed to the image, or the fence of this boot has come",
        ),
        (
            has(Pcr::SYSTEM_EXTENSIONS),
            "system extensions were handed to the image",
        ),
    ];
    let known = causes.iter().filter(|(is_so, _)| *is_so);
    let known: Vec<&str> = known.map(|(_, cause)| *cause).collect();
    let names = names.join(", ");
    if known.is_empty() {
        return names;
    }
    format!("{names}: {}", known.join("; "))
}

/// What a PCR holds, in a few words (TCG PC Client Platform Firmware Profile, section 3.3.4; UAPI group, Linux TPM PCR registry).
fn holds(pcr: Pcr) -> &'static str {
    match pcr {
        Pcr::FIRMWARE => "the firmware",
        Pcr::DRIVERS => "drivers from outside of the firmware",
        Pcr::BOOT_PROGRAMS => "what the firmware started",
        Pcr::SECURE_BOOT => "Secure Boot",
        Pcr::LOADED_FILES => "files from outside of the image",
        Pcr::KERNEL_IMAGE => "the image",
        Pcr::KERNEL_CONFIG => "what the image was handed",
        Pcr::SYSTEM_EXTENSIONS => "its extensions",
        Pcr::SYSTEM_IDENTITY => "the system's identity",
        _ => "another part of the start",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PCRS: PcrSet = PcrSet::of(&[Pcr::BOOT_PROGRAMS, Pcr::SECURE_BOOT, Pcr::KERNEL_IMAGE]);

    fn values(each: [u8; 3], bank: Bank) -> SealedValues {
        let bytes = each.map(|byte| vec![byte; bank.zero().len()]).concat();
        let values = SealedValues::new(bytes);
        assert!(values.fit(PCRS, bank));
        values
    }

    #[test]
    fn each_pcr_that_differs_is_found_and_no_other() {
        for bank in [Bank::Sha256, Bank::Sha384] {
            let then = values([1, 2, 3], bank);
            for (now, expected) in [
                ([1, 2, 3], vec![]),
                ([9, 2, 3], vec![Pcr::BOOT_PROGRAMS]),
                ([1, 9, 3], vec![Pcr::SECURE_BOOT]),
                ([9, 2, 9], vec![Pcr::BOOT_PROGRAMS, Pcr::KERNEL_IMAGE]),
            ] {
                let changed = then.changed(&values(now, bank), PCRS, bank);
                assert_eq!(Vec::from(changed), expected, "{now:?}");
            }
        }
    }

    #[test]
    fn values_of_another_length_do_not_fit() {
        for len in [0, 31, 64, 95, 97, 128] {
            assert!(!SealedValues::new(vec![7; len]).fit(PCRS, Bank::Sha256));
        }
        let values = SealedValues::new(vec![7; 96]);
        assert!(values.fit(PCRS, Bank::Sha256) && !values.fit(PCRS, Bank::Sha384));
    }

    #[test]
    fn another_image_is_one_cause_and_not_two() {
        let text = explain(PcrSet::of(&[Pcr::BOOT_PROGRAMS, Pcr::KERNEL_IMAGE]));
        assert_eq!(
            text,
            "PCR 4 (what the firmware started), PCR 11 (the image): another image was booted"
        );
    }

    #[test]
    fn each_pcr_that_is_sealed_to_has_its_cause() {
        for index in [0, 2, 4, 7, 11, 12, 13] {
            let text = explain(PcrSet::of(&[Pcr::try_from(index).unwrap()]));
            assert!(text.starts_with(&format!("PCR {index} (")), "{text}");
            assert!(text.contains("): "), "{text}");
        }
        assert_eq!(
            explain(PcrSet::of(&[Pcr::LOADED_FILES])),
            "PCR 9 (files from outside of the image)"
        );
    }
}
