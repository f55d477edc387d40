// SPDX-License-Identifier: Apache-2.0
//! Signatures of PCR 11, as an image carries them in its section `.pcrsig` and systemd-stub hands them to the initrd: JSON as
//! `systemd-measure sign` writes it (systemd 262, src/measure/measure-tool.c and src/shared/tpm2-util.c).
//!
//! What is signed is the digest of a policy that asks for one value of the PCR (TPM 2.0 Library, part 3, section 23.7,
//! `TPM2_PolicyPCR`), so that a TPM which knows the key opens for each value that the key has signed (section 23.16,
//! `TPM2_PolicyAuthorize`). There is no reference of the policy here (`policyRef`): it is empty.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Serialize};

use super::measured::{INITRD_PHASE, Uki};
use crate::error::{Error, Result};
use crate::key::pcr::{PcrKey, PcrPublicKey};
use crate::pcr::{Bank, Pcr};

/// The section that has the signatures, which is measured into no PCR.
pub const SIGNATURES: &str = ".pcrsig";
/// The section that may have the public key, and is measured.
pub const PUBLIC_KEY: &str = ".pcrpkey";
/// The longest section that is read, in bytes. A signature has less than one KiB.
const LEN_MAX: usize = 1 << 20;
/// `TPM_CC_PolicyPCR` (TPM 2.0 Library, part 2, section 6.5.2).
const POLICY_PCR: u32 = 0x0000_017f;
/// Bytes of a selection's bitmap: 24 PCRs (TPM 2.0 Library, part 2, section 10.6.1).
const SELECT_LEN: usize = 3;

/// A value of PCR 11 that was signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PcrSignature {
    /// The PCRs: 11 alone.
    pub pcrs: Vec<u8>,
    /// The key's fingerprint, in hexadecimal digits: see [`PcrPublicKey::fingerprint`].
    pub pkfp: String,
    /// A reference that the signature is over as well. None is made here.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The policy's digest, in hexadecimal digits.
    pub pol: String,
    /// The signature, in Base64.
    pub sig: String,
}

impl PcrSignature {
    /// Signs one value of PCR 11.
    fn new(key: &PcrKey, bank: Bank, value: &[u8]) -> Result<Self> {
        let policy = policy_digest(bank, value)?;
        Ok(Self {
            pcrs: vec![Pcr::KERNEL_IMAGE.index()],
            pkfp: hex::encode(key.public().fingerprint()),
            reference: None,
            pol: hex::encode(&policy),
            sig: Base64::encode_string(&key.sign(&policy)?),
        })
    }

    /// Whether it is this key's, and good, for `value` of PCR 11 in `bank`.
    #[must_use]
    pub fn is_for(&self, key: &PcrPublicKey, bank: Bank, value: &[u8]) -> bool {
        let Ok(policy) = policy_digest(bank, value) else {
            return false;
        };
        self.pcrs == [Pcr::KERNEL_IMAGE.index()]
            && self.reference.is_none()
            && self.pkfp == hex::encode(key.fingerprint())
            && self.pol == hex::encode(&policy)
            && Base64::decode_vec(&self.sig).is_ok_and(|it| key.has_signed(&policy, &it))
    }
}

/// All signatures of an image, bank by bank.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct PcrSignatures {
    banks: BTreeMap<String, Vec<PcrSignature>>,
}

impl PcrSignatures {
    /// Signs what PCR 11 is when the initrd asks for keys: before any phase, which is what it stays without the firmware's
    /// variables, and in the phase `enter-initrd`. Nothing later: the running system is to open nothing.
    pub fn sign(uki: &Uki<'_>, key: &PcrKey, banks: &[Bank]) -> Result<Self> {
        let mut signed = Self::default();
        for bank in banks {
            let values = Self::values(uki, *bank);
            let entries = values
                .iter()
                .map(|(_, value)| PcrSignature::new(key, *bank, value));
            let entries = entries.collect::<Result<_>>()?;
            signed.banks.insert(bank.to_string(), entries);
        }
        Ok(signed)
    }

    /// The values that are signed, each with the phase it belongs to, if there is one.
    #[must_use]
    pub fn values(uki: &Uki<'_>, bank: Bank) -> [(Option<&'static str>, Vec<u8>); 2] {
        [
            (None, uki.before_phases(bank)),
            (Some(INITRD_PHASE), uki.in_initrd(bank)),
        ]
    }

    /// Takes a section, or the file that the stub makes of it: JSON, with zeros or white space behind it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > LEN_MAX {
            return Err(Error::refused(format_args!(
                "signatures of PCR values: expected at most {LEN_MAX} bytes, found {}",
                bytes.len()
            )));
        }
        let end = bytes.iter().rposition(|byte| *byte != 0);
        let text = end.and_then(|end| bytes.get(..=end)).unwrap_or_default();
        serde_json::from_slice(text)
            .map_err(|error| Error::refused(format_args!("signatures of PCR values: {error}")))
    }

    /// The section's contents.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::failure)
    }

    /// The signatures of one bank.
    #[must_use]
    pub fn of(&self, bank: Bank) -> &[PcrSignature] {
        self.banks.get(bank.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The fingerprints of the keys that signed, each once.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self
            .banks
            .values()
            .flatten()
            .map(|it| it.pkfp.as_str())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// The digest of the policy that PCR 11 of `bank` has this value, SHA-256 whatever the bank (TPM 2.0 Library, part 3, section
/// 23.7): that of the empty policy, the command, the selection and the value's digest.
pub fn policy_digest(bank: Bank, value: &[u8]) -> Result<Vec<u8>> {
    let pcr = usize::from(Pcr::KERNEL_IMAGE.index());
    let mut select = [0; SELECT_LEN];
    if let Some(byte) = select.get_mut(pcr / 8) {
        *byte = 1_u8 << (pcr % 8);
    }
    let hash = Bank::Sha256;
    let len = u8::try_from(SELECT_LEN).map_err(Error::failure)?;
    let selection = [
        &1_u32.to_be_bytes()[..],
        &bank.algorithm_id().to_be_bytes(),
        &[len],
        &select,
    ];
    let parts = [
        &hash.zero()[..],
        &POLICY_PCR.to_be_bytes(),
        &selection.concat(),
        &hash.hash(value),
    ];
    Ok(hash.hash(&parts.concat()))
}

#[cfg(test)]
mod tests;
