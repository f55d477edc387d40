// SPDX-License-Identifier: Apache-2.0
//! A builder's key that signs values of PCR 11, and the file of signatures as `systemd-measure sign` writes it.

use base64ct::{Base64, Encoding as _};
use nightlatch::pcr::{Bank, Pcr, PcrSet};
use nightlatch::sealed::signature::{PcrSignatures, PolicyKey};
use nightlatch::tpm::{Policy, Tpm};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::{Value, json};

pub(crate) struct PcrKey(PKey<Private>);

impl PcrKey {
    pub(crate) fn new() -> Self {
        Self::of_bits(2048)
    }

    pub(crate) fn of_bits(bits: u32) -> Self {
        Self(PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap())
    }

    /// `BEGIN PUBLIC KEY`.
    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.public_key_to_pem().unwrap()
    }

    pub(crate) fn public(&self) -> PolicyKey {
        PolicyKey::parse(&self.pem()).unwrap()
    }

    /// An entry of the file for one value of PCR 11.
    pub(crate) fn entry(&self, bank: Bank, value: &[u8]) -> Value {
        let policy = Policy::signed(bank).digest([value]);
        let mut signer = Signer::new(MessageDigest::sha256(), &self.0).unwrap();
        signer.update(&policy).unwrap();
        let signature = signer.sign_to_vec().unwrap();
        let der = self.0.rsa().unwrap().public_key_to_der_pkcs1().unwrap();
        json!({
            "pcrs": [11],
            "pkfp": hex::encode(Bank::Sha256.hash(&der)),
            "pol": hex::encode(policy),
            "sig": Base64::encode_string(&signature),
        })
    }

    /// The file for these values of the bank sha256.
    pub(crate) fn signatures(&self, values: &[&[u8]]) -> PcrSignatures {
        let entries = values.iter().map(|value| self.entry(Bank::Sha256, value));
        let entries: Vec<_> = entries.collect();
        PcrSignatures::parse(&file(&entries), Bank::Sha256).unwrap()
    }

    /// Has the TPM take what it holds in PCR 11 for signed; returns the policy of values of PCRs 7, 12 and 13 beside it.
    pub(crate) fn approve(&self, tpm: &mut Tpm) -> Policy {
        let value = pcr_11(tpm);
        tpm.approve(
            &self.public(),
            &self.signatures(&[&value]),
            Bank::Sha256,
            &value,
        )
        .unwrap();
        self.policy()
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            pcrs: PcrSet::of(&[Pcr::SECURE_BOOT, Pcr::KERNEL_CONFIG, Pcr::SYSTEM_EXTENSIONS]),
            bank: Bank::Sha256,
            key: Some(self.public().name()),
        }
    }
}

/// The file with these entries of the bank sha256.
pub(crate) fn file(entries: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&json!({ "sha256": entries })).unwrap()
}

/// What PCR 11 holds in the bank sha256.
pub(crate) fn pcr_11(tpm: &mut Tpm) -> Vec<u8> {
    let digests = tpm.read(Pcr::KERNEL_IMAGE).unwrap();
    let (_, value) = digests
        .into_iter()
        .find(|(bank, _)| *bank == Bank::Sha256)
        .unwrap();
    value
}
