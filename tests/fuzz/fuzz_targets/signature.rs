// SPDX-License-Identifier: Apache-2.0
//! The signatures that come with an image, in a file that the host can lay there as well, and the key that a header names. The
//! first byte says which of the two.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::error::Exit;
use nightlatch::pcr::Bank;
use nightlatch::sealed::signature::{PcrSignatures, PolicyKey};

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
    let key = PolicyKey::parse(KEY).expect("a key");
    match PcrSignatures::parse(bytes, Bank::Sha256) {
        Ok(signatures) => match signatures.find(&key, &[0; 32]) {
            // As long as the key's modulus: the TPM takes no other.
            Ok(signature) => assert_eq!(signature.len(), 256),
            Err(error) => assert_eq!(error.exit(), Exit::Refused),
        },
        Err(error) => assert_eq!(error.exit(), Exit::Refused),
    }
}

fn key(pem: &[u8]) {
    match PolicyKey::parse(pem) {
        Ok(key) => {
            assert_eq!(key.public_area().len(), 278);
            let again = PolicyKey::parse(key.pem().as_bytes()).expect("the same key");
            assert_eq!(again, key);
        }
        Err(error) => assert_eq!(error.exit(), Exit::Config),
    }
}
