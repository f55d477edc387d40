// SPDX-License-Identifier: Apache-2.0
//! Signatures of what PCR 11 holds in an image's initrd, made by who built the image: what is sealed to the builder's key opens
//! to each image that carries one. They are in the image's section `.pcrsig`, and systemd-stub hands them to the initrd: JSON as
//! `systemd-measure sign` writes it (systemd 262, src/measure/measure-tool.c and src/shared/tpm2-util.c). The TPM looks at them,
//! so they need no trust; the key comes from the measured configuration, and never with them.
//!
//! What is signed is the digest of a policy that asks for one value of the PCR (TPM 2.0 Library, part 3, section 23.7,
//! `TPM2_PolicyPCR`), so that a TPM which knows the key opens for each value that the key has signed (section 23.16,
//! `TPM2_PolicyAuthorize`). A reference of the policy (`policyRef`) says for which [`Floor`] a signature is; it is empty in those
//! that are for nodes without one.

use std::collections::{BTreeMap, BTreeSet};

use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::key::pcr::{PcrKey, PcrPublicKey};
use crate::pcr::{Bank, Pcr, PcrSet};
use crate::sealed::floor::Floor;

/// Where systemd-stub lays them, below the root of the initrd (systemd-stub(7)).
pub const SIGNATURES_PATH: &str = ".extra/tpm2-pcr-signature.json";
/// The PCR whose values are signed: that of the image's own parts.
pub const SIGNED_PCR: Pcr = Pcr::KERNEL_IMAGE;
/// The longest section or file that is read, in bytes. A signature has less than one KiB.
pub const SIGNATURES_LEN_MAX: usize = 1 << 20;
/// `TPM_CC_PolicyPCR` (TPM 2.0 Library, part 2, section 6.5.2).
const POLICY_PCR: u32 = 0x0000_017f;
/// Bytes of a selection's bitmap: 24 PCRs (TPM 2.0 Library, part 2, section 10.6.1; PC Client Platform TPM Profile,
/// `PCR_SELECT_MIN`).
const SELECT_LEN: u8 = 3;

/// A value of PCR 11 that was signed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PcrSignature {
    /// The PCRs: 11 alone.
    pub pcrs: Vec<u8>,
    /// The key's fingerprint, in hexadecimal digits: see [`PcrPublicKey::fingerprint`].
    pub pkfp: String,
    /// A reference whose digest the signature is over as well: see [`Floor::reference`].
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The policy's digest, in hexadecimal digits.
    pub pol: String,
    /// The signature, in Base64.
    pub sig: String,
}

impl PcrSignature {
    /// Signs one value of PCR 11, for a floor or for nodes without one.
    pub fn new(key: &PcrKey, bank: Bank, value: &[u8], floor: Option<Floor>) -> Result<Self> {
        let policy = policy_digest(bank, value);
        Ok(Self {
            pcrs: vec![SIGNED_PCR.index()],
            pkfp: hex::encode(key.public().fingerprint()),
            reference: floor.map(Floor::reference),
            pol: hex::encode(policy),
            sig: Base64::encode_string(&key.sign(&signed_bytes(&policy, floor))?),
        })
    }

    /// Whether it says that it is this key's, of PCR 11 alone and for this floor.
    fn is_by(&self, key: &PcrPublicKey, floor: Option<Floor>) -> bool {
        self.pcrs == [SIGNED_PCR.index()]
            && self.reference == floor.map(Floor::reference)
            && self.pkfp == hex::encode(key.fingerprint())
    }

    /// Whether it is this key's, and good, for `value` of PCR 11 in `bank` and this floor.
    #[must_use]
    pub fn is_for(
        &self,
        key: &PcrPublicKey,
        bank: Bank,
        value: &[u8],
        floor: Option<Floor>,
    ) -> bool {
        let policy = policy_digest(bank, value);
        let signed = signed_bytes(&policy, floor);
        self.is_by(key, floor)
            && self.pol == hex::encode(policy)
            && Base64::decode_vec(&self.sig).is_ok_and(|it| key.has_signed(&signed, &it))
    }
}

/// All signatures of an image, bank by bank.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct PcrSignatures {
    banks: BTreeMap<String, Vec<PcrSignature>>,
}

impl PcrSignatures {
    /// Those of these banks.
    #[must_use]
    pub fn new(banks: impl IntoIterator<Item = (Bank, Vec<PcrSignature>)>) -> Self {
        let banks = banks.into_iter();
        Self {
            banks: banks.map(|(bank, all)| (bank.to_string(), all)).collect(),
        }
    }

    /// Takes a section, or the file that the stub makes of it: JSON, with zeros or white space behind it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > SIGNATURES_LEN_MAX {
            return Err(Error::refused(format_args!(
                "signatures of PCR values: expected at most {SIGNATURES_LEN_MAX} bytes, found {}",
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

    /// The signature by `key` of this value of PCR 11 in `bank` and for this floor, as it is: the TPM says whether it is good.
    ///
    /// Without one the refusal says which of them is another.
    pub fn find(
        &self,
        bank: Bank,
        key: &PcrPublicKey,
        value: &[u8],
        floor: Option<Floor>,
    ) -> Result<Vec<u8>> {
        let policy = hex::encode(policy_digest(bank, value));
        let mut by_key = self.of(bank).iter().filter(|it| it.is_by(key, floor));
        let Some(first) = by_key.next() else {
            return Err(self.none_by(bank, key, floor));
        };
        std::iter::once(first)
            .chain(by_key)
            .find(|it| it.pol == policy)
            .and_then(|it| Base64::decode_vec(&it.sig).ok())
            .ok_or_else(|| {
                Error::refused(format_args!(
                    "the signatures by the key of the configuration are of other values of PCR {SIGNED_PCR} than this boot's: \
                     the image was changed after \"nightlatchctl policy sign\", or something was measured beside it"
                ))
            })
    }

    /// What there is instead of a signature by `key` that is good for all there is.
    fn none_by(&self, bank: Bank, key: &PcrPublicKey, floor: Option<Floor>) -> Error {
        let is_its = |entry: &&PcrSignature| entry.pkfp == key.to_string();
        let others = self.banks.iter().filter(|(name, all)| {
            name.as_str() != bank.as_str() && all.iter().any(|it| is_its(&it))
        });
        let others: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
        let instead = if !others.is_empty() {
            format!(
                "it has some for bank {}, and tpm.bank is {bank}: sign it with --bank {bank}",
                others.join(" and ")
            )
        } else if self.of(bank).iter().any(|it| is_its(&it)) {
            "it has some for other PCRs or floors, or with a reference of their own, which are not taken: have \"nightlatchctl policy \
             sign\" sign an image that was built without them, with --floor where the configuration has a floor"
                .to_owned()
        } else {
            "sign it with \"nightlatchctl policy sign\" and that key before it gets its signature for Secure Boot".to_owned()
        };
        let which = floor.map_or_else(String::new, |floor| format!(" for floor {floor}"));
        Error::refused(format_args!(
            "the image carries no signature of PCR {SIGNED_PCR}{which} by the key of the configuration, {key}: {instead}"
        ))
    }

    /// The highest floor that a signature of this value of PCR 11 in `bank` says it is for.
    #[must_use]
    pub fn floor_of(&self, bank: Bank, value: &[u8]) -> Option<Floor> {
        let policy = hex::encode(policy_digest(bank, value));
        let of_it = self.of(bank).iter().filter(|it| it.pol == policy);
        let references = of_it.filter_map(|it| it.reference.as_deref());
        references.filter_map(Floor::of_reference).max()
    }

    /// The fingerprints of the keys that are said to have signed this value of PCR 11 in `bank`, each once.
    #[must_use]
    pub fn keys_of(&self, bank: Bank, value: &[u8]) -> BTreeSet<&str> {
        let policy = hex::encode(policy_digest(bank, value));
        let of_it = self.of(bank).iter().filter(|it| it.pol == policy);
        of_it.map(|it| it.pkfp.as_str()).collect()
    }
}

/// What a signature is over: the policy's digest, and behind it that of the reference where there is one (TPM 2.0 Library, part 3,
/// section 23.16: aHash).
fn signed_bytes(policy: &[u8; 32], floor: Option<Floor>) -> Vec<u8> {
    let mut bytes = policy.to_vec();
    bytes.extend(floor.iter().flat_map(|floor| floor.policy_ref()));
    bytes
}

/// The digest of the policy that PCR 11 of `bank` has this value, SHA-256 whatever the bank (TPM 2.0 Library, part 3, section
/// 23.7): that of the empty policy, the command, the selection and the value's digest.
#[must_use]
pub fn policy_digest(bank: Bank, value: &[u8]) -> [u8; 32] {
    pcrs_digest([0; 32], bank, PcrSet::of(&[SIGNED_PCR]), value)
}

/// The digest that `before` becomes where PCRs of `bank` have values that are these one after the other, in the PCRs' order.
#[must_use]
pub(crate) fn pcrs_digest(before: [u8; 32], bank: Bank, pcrs: PcrSet, values: &[u8]) -> [u8; 32] {
    // TPML_PCR_SELECTION (TPM 2.0 Library, part 2, section 10.9.7).
    let bits = u32::from(pcrs.bits()).to_le_bytes();
    let mut selection = 1_u32.to_be_bytes().to_vec();
    selection.extend(bank.algorithm_id().to_be_bytes());
    selection.push(SELECT_LEN);
    selection.extend(bits.iter().take(usize::from(SELECT_LEN)));
    Sha256::new()
        .chain_update(before)
        .chain_update(POLICY_PCR.to_be_bytes())
        .chain_update(selection)
        .chain_update(Sha256::digest(values))
        .finalize()
        .into()
}

#[cfg(test)]
mod tests;
