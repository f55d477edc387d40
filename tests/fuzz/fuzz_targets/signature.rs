// SPDX-License-Identifier: Apache-2.0
//! The signatures that come with an image, in a file that the host can lay there as well, and the key that a header names. The
//! first byte says which of the two.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::error::Exit;
use nightlatch::key::pcr::PcrPublicKey;
use nightlatch::pcr::Bank;
use nightlatch::sealed::signature::PcrSignatures;

const KEY: &[u8] = include_bytes!("../../fixtures/pcr-key.pem");

fuzz_target!(|input: &[u8]| {
    let Some((what, bytes)) = input.split_first() else {
        return;
    };
    if what % 2 == 0 {
        signatures(bytes);
    } else {
        key(bytes);
    }
});

fn signatures(bytes: &[u8]) {
    let key = PcrPublicKey::from_pem(KEY).expect("a key");
    match PcrSignatures::parse(bytes) {
        Ok(signatures) => {
            let written = signatures.to_json().expect("JSON");
            let read = PcrSignatures::parse(written.as_bytes());
            assert_eq!(read.expect("what was written"), signatures);
            for bank in [Bank::Sha256, Bank::Sha384] {
                if let Err(error) = signatures.find(bank, &key, &[0; 32], None) {
                    assert_eq!(error.exit(), Exit::Refused);
                }
                for entry in signatures.of(bank) {
                    // Nobody has signed anything by this key.
                    assert!(!entry.is_for(&key, bank, &[0; 32], None));
                }
            }
        }
        Err(error) => assert_eq!(error.exit(), Exit::Refused),
    }
}

fn key(pem: &[u8]) {
    match PcrPublicKey::from_pem(pem) {
        Ok(key) => {
            assert_eq!(key.public_area().len(), 278);
            let again = PcrPublicKey::from_pem(key.pem().as_bytes()).expect("the same key");
            assert_eq!(again, key);
        }
        Err(error) => assert_eq!(error.exit(), Exit::Config),
    }
}
