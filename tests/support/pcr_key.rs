// SPDX-License-Identifier: Apache-2.0
//! A builder's key that signs values of PCR 11.

use nightlatch::key::Secret;
use nightlatch::key::pcr::PcrKey;
use nightlatch::pcr::{Bank, Pcr, PcrSet};
use nightlatch::sealed::signature::{PcrSignature, PcrSignatures};
use nightlatch::tpm::{Policy, Tpm};
use openssl::pkey::PKey;
use openssl::rsa::Rsa;

/// A new key.
pub(crate) fn new() -> PcrKey {
    let made = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    PcrKey::from_pem(&Secret::new(made.private_key_to_pem_pkcs8().unwrap())).unwrap()
}

/// Its signatures of these values, of the bank sha256.
pub(crate) fn signatures(key: &PcrKey, values: &[&[u8]]) -> PcrSignatures {
    let sign = |value: &&[u8]| PcrSignature::new(key, Bank::Sha256, value, None).unwrap();
    PcrSignatures::new([(Bank::Sha256, values.iter().map(sign).collect())])
}

/// Has the TPM take what it holds in PCR 11 for signed; returns the policy of values of PCRs 7, 12 and 13 beside it.
pub(crate) fn approve(key: &PcrKey, tpm: &mut Tpm) -> Policy {
    let value = pcr_11(tpm);
    let signatures = signatures(key, &[&value]);
    tpm.approve(key.public(), &signatures, Bank::Sha256, &value)
        .unwrap();
    policy(key)
}

/// What is sealed to the key.
pub(crate) fn policy(key: &PcrKey) -> Policy {
    Policy {
        pcrs: PcrSet::of(&[Pcr::SECURE_BOOT, Pcr::KERNEL_CONFIG, Pcr::SYSTEM_EXTENSIONS]),
        bank: Bank::Sha256,
        key: Some(key.public().name()),
    }
}

/// What PCR 11 holds in the bank sha256.
pub(crate) fn pcr_11(tpm: &mut Tpm) -> Vec<u8> {
    let digests = tpm.read(Pcr::KERNEL_IMAGE).unwrap();
    let of_bank = digests.into_iter().find(|(bank, _)| *bank == Bank::Sha256);
    of_bank.unwrap().1
}
