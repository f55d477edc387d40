// SPDX-License-Identifier: Apache-2.0
//! Policies: PCR values and nothing else for a secret, or what a key has signed and PCR values beside it; for the anchor's
//! record these, or knowledge of its value.

use std::fmt;

use super::Tpm;
use crate::config;
use crate::error::{Error, Result};
use crate::key::pcr::{KeyName, PcrPublicKey};
use crate::pcr::{Bank, PcrSet};
use crate::sealed::signature::{SIGNED_PCR, pcrs_digest};
use crate::sealed::values::SealedValues;

// Command codes (TPM 2.0 part 2, section 6.5.2).
const CC_POLICY_AUTHORIZE: u32 = 0x0000_016a;
const CC_POLICY_AUTH_VALUE: u32 = 0x0000_016b;
const CC_POLICY_OR: u32 = 0x0000_0171;
const CC_POLICY_NV_WRITTEN: u32 = 0x0000_018f;

/// `TPMI_YES_NO`: yes.
const YES: u8 = 1;

/// What a secret is sealed to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// The PCRs whose values it is sealed to.
    pub pcrs: PcrSet,
    /// The bank they are taken from.
    pub bank: Bank,
    /// The key that has to have signed the value of [`SIGNED_PCR`], where it is sealed to one: see [`Tpm::approve`].
    pub key: Option<KeyName>,
}

impl Policy {
    /// What the configuration says, with the key that it names.
    #[must_use]
    pub fn of(config: &config::Tpm, key: Option<&PcrPublicKey>) -> Self {
        Self {
            pcrs: config.pcrs,
            bank: config.bank.into(),
            key: key.map(PcrPublicKey::name),
        }
    }

    /// What has to be signed.
    #[must_use]
    pub fn signed(bank: Bank) -> Self {
        Self {
            pcrs: PcrSet::of(&[SIGNED_PCR]),
            bank,
            key: None,
        }
    }

    /// Each PCR that it depends on.
    #[must_use]
    pub fn all_pcrs(self) -> PcrSet {
        let signed = self.key.map(|_| SIGNED_PCR);
        let all: Vec<_> = self.pcrs.iter().chain(signed).collect();
        PcrSet::of(&all)
    }

    /// The digest of a SHA-256 policy session after one `TPM2_PolicyPCR`, with `values` in the order of the PCRs; before that
    /// comes `TPM2_PolicyAuthorize` where a key has to have signed.
    ///
    /// policyDigest = H(before ‖ `TPM_CC_PolicyPCR` ‖ pcrs ‖ H(values)) (TPM 2.0 part 3, section 23.7). What is signed stands
    /// before: the key's approval takes the place of the digest (section 23.16).
    #[must_use]
    pub fn digest<'v>(self, values: impl IntoIterator<Item = &'v [u8]>) -> [u8; 32] {
        let all: Vec<u8> = values.into_iter().flatten().copied().collect();
        let before = self.key.map_or([0; 32], authorized_by);
        pcrs_digest(before, self.bank, self.pcrs, &all)
    }
}

/// The digest after `TPM2_PolicyAuthorize` with this key and an empty reference, which is hashed all the same:
/// H(H(0³² ‖ `TPM_CC_PolicyAuthorize` ‖ name) ‖ policyRef) (TPM 2.0 part 3, section 23.16).
fn authorized_by(key: KeyName) -> [u8; 32] {
    let named = step([0; 32], CC_POLICY_AUTHORIZE, &[key.bytes()]);
    let mut digest = [0; 32];
    digest.copy_from_slice(&Bank::Sha256.hash(&named));
    digest
}

/// The digest after `TPM2_PolicyNvWritten` with yes and `TPM2_PolicyAuthValue`: for whoever knows the authorisation value of
/// an index that was written (TPM 2.0 part 3, sections 23.17 and 23.20).
pub(super) fn knowing_auth() -> [u8; 32] {
    let written = step([0; 32], CC_POLICY_NV_WRITTEN, &[&[YES]]);
    step(written, CC_POLICY_AUTH_VALUE, &[])
}

/// The digest after `TPM2_PolicyOR` of two branches, which starts from zero (TPM 2.0 part 3, section 23.6).
pub(super) fn either(branches: &[[u8; 32]; 2]) -> [u8; 32] {
    step([0; 32], CC_POLICY_OR, &[&branches.concat()])
}

/// policyDigest = H(policyDigest ‖ command code ‖ arguments).
fn step(before: [u8; 32], command_code: u32, arguments: &[&[u8]]) -> [u8; 32] {
    let code = command_code.to_be_bytes();
    let message = [&before[..], &code, &arguments.concat()].concat();
    let mut digest = [0; 32];
    digest.copy_from_slice(&Bank::Sha256.hash(&message));
    digest
}

/// A policy's digest with the values the PCRs had when they were last read.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) policy: Policy,
    digest: [u8; 32],
    values: SealedValues,
}

impl Known {
    /// With `values` in the order of the PCRs.
    pub(super) fn new<'v>(policy: Policy, values: impl IntoIterator<Item = &'v [u8]>) -> Self {
        let values: Vec<u8> = values.into_iter().flatten().copied().collect();
        Self {
            policy,
            digest: policy.digest([values.as_slice()]),
            values: SealedValues::new(values),
        }
    }
}

impl Tpm {
    /// Whether `digest` is the policy's with the values of the PCRs. They are read again before they differ: reading costs
    /// a command, and that they are still the same is found out by the TPM.
    pub(super) fn policy_is(&mut self, policy: Policy, digest: &[u8; 32]) -> Result<bool> {
        match self.known(policy) {
            Some(known) if known == *digest => Ok(true),
            _ => Ok(self.policy_hash_now(policy)? == *digest),
        }
    }

    /// What a session's policy digest would be with the values the PCRs had when they were last read.
    pub(super) fn policy_hash(&mut self, policy: Policy) -> Result<[u8; 32]> {
        match self.known(policy) {
            Some(known) => Ok(known),
            None => self.policy_hash_now(policy),
        }
    }

    /// What a session's policy digest would be with the values the PCRs have now.
    pub(super) fn policy_hash_now(&mut self, policy: Policy) -> Result<[u8; 32]> {
        if policy.pcrs.is_empty() {
            return Err(Error::config("a policy without PCRs protects nothing"));
        }
        let pcrs: Vec<_> = policy.pcrs.iter().map(|pcr| (policy.bank, pcr)).collect();
        let values = self.values(&pcrs)?;
        let known = Known::new(policy, values.iter().map(|(_, value)| value.as_slice()));
        let digest = known.digest;
        self.known = Some(known);
        Ok(digest)
    }

    fn known(&self, policy: Policy) -> Option<[u8; 32]> {
        let known = self.known.as_ref();
        known
            .filter(|known| known.policy == policy)
            .map(|known| known.digest)
    }

    /// The values of the policy's PCRs when they were last read.
    pub(super) fn known_values(&self, policy: Policy) -> Option<&SealedValues> {
        let known = self.known.as_ref();
        known
            .filter(|known| known.policy == policy)
            .map(|known| &known.values)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = self.key.map_or("", |_| "signed values of PCR 11 and ");
        write!(f, "{signed}PCRs {} ({})", self.pcrs, self.bank)
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
            key: None,
        };
        let digest = policy.digest([&[0; 32][..]; 3]);
        assert_eq!(
            hex::encode(digest),
            "8ce5a74bf207172cc78feb4024174b5422a63fa219045a85f16e94e1c76caec1"
        );
        let policy = Policy {
            pcrs: PcrSet::of(&pcrs),
            bank: Bank::Sha384,
            key: None,
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
            key: None,
        };
        assert_eq!(policy.to_string(), "PCRs 7+12 (sha256)");
    }
}
