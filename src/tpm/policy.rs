// SPDX-License-Identifier: Apache-2.0
//! The policy a secret is sealed under: PCR values, and nothing else.

use std::fmt;

use crate::pcr::{Bank, PcrSet};

/// `TPM_CC_PolicyPCR` (TPM 2.0 part 2, section 6.5.2).
const CC_POLICY_PCR: u32 = 0x0000_017f;

/// Octets of a PCR selection that cover 24 PCRs (PC Client Platform TPM Profile, `PCR_SELECT_MIN`).
const SELECT_LEN: u8 = 3;

/// The PCRs whose values a secret is sealed to, and the bank they are taken from.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The PCRs.
    pub pcrs: PcrSet,
    /// The bank.
    pub bank: Bank,
}

impl Policy {
    /// The digest of a SHA-256 policy session after one `TPM2_PolicyPCR`, with `values` in the order of the PCRs.
    ///
    /// policyDigest = H(0³² ‖ `TPM_CC_PolicyPCR` ‖ pcrs ‖ H(values)) (TPM 2.0 part 3, section 23.7).
    pub(super) fn digest<'v>(self, values: impl IntoIterator<Item = &'v [u8]>) -> [u8; 32] {
        let all: Vec<u8> = values.into_iter().flatten().copied().collect();
        let mut message = vec![0; 32];
        message.extend(CC_POLICY_PCR.to_be_bytes());
        message.extend(self.selection());
        message.extend(Bank::Sha256.hash(&all));
        let mut digest = [0; 32];
        digest.copy_from_slice(&Bank::Sha256.hash(&message));
        digest
    }

    /// The marshalled `TPML_PCR_SELECTION` (TPM 2.0 part 2, section 10.9.7).
    fn selection(self) -> Vec<u8> {
        let mask = u32::from(self.pcrs.bits());
        let mut bytes = 1_u32.to_be_bytes().to_vec();
        bytes.extend(algorithm_id(self.bank).to_be_bytes());
        bytes.push(SELECT_LEN);
        bytes.extend(mask.to_le_bytes().iter().take(usize::from(SELECT_LEN)));
        bytes
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PCRs {} ({})", self.pcrs, self.bank)
    }
}

/// `TPM_ALG_ID` (TCG Algorithm Registry).
fn algorithm_id(bank: Bank) -> u16 {
    match bank {
        Bank::Sha1 => 0x0004,
        Bank::Sha256 => 0x000b,
        Bank::Sha384 => 0x000c,
        Bank::Sha512 => 0x000d,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcr::Pcr;

    /// From `tpm2_policypcr -l sha256:7,11,12` in a trial session on a software TPM whose PCRs are zero.
    #[test]
    fn the_digest_equals_what_a_tpm_computes() {
        let pcrs = [Pcr::KERNEL_CONFIG, Pcr::SECURE_BOOT, Pcr::KERNEL_IMAGE];
        let policy = Policy {
            pcrs: PcrSet::of(&pcrs),
            bank: Bank::Sha256,
        };
        let digest = policy.digest([&[0; 32][..]; 3]);
        assert_eq!(
            hex::encode(digest),
            "8ce5a74bf207172cc78feb4024174b5422a63fa219045a85f16e94e1c76caec1"
        );
        let policy = Policy {
            pcrs: PcrSet::of(&pcrs),
            bank: Bank::Sha384,
        };
        let digest = policy.digest([&[0; 48][..]; 3]);
        assert_eq!(
            hex::encode(digest),
            "b5614a872fbb079c7def05aa2ca7e8bd1a6328892cde36401c325e900219fa35"
        );
    }

    #[test]
    fn a_policy_names_each_pcr_once_in_order() {
        let pcrs = [Pcr::KERNEL_CONFIG, Pcr::SECURE_BOOT, Pcr::KERNEL_CONFIG];
        let policy = Policy {
            pcrs: PcrSet::of(&pcrs),
            bank: Bank::Sha256,
        };
        assert_eq!(policy.to_string(), "PCRs 7+12 (sha256)");
    }
}
