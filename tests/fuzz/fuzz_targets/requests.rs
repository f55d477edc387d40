// SPDX-License-Identifier: Apache-2.0
//! What an operator asked the next boot for, as the TPM gives it back: with an HMAC that is none, and as who can make one would.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::anchor::requests::{RequestKeys, Requests};
use nightlatch::error::Exit;
use nightlatch::key::Secret;

fuzz_target!(|bytes: &[u8]| {
    let keys = RequestKeys::of(&Secret::new(vec![7; 32])).unwrap();
    assert!(Requests::parse(bytes, &keys).is_err());
    match Requests::of_content(bytes) {
        // Every list has one spelling.
        Ok(requests) => {
            assert_eq!(requests.content().as_slice(), bytes);
            let written = requests.encode(&keys).unwrap();
            assert!(Requests::parse(&written, &keys).is_ok());
        }
        Err(error) => assert_eq!(error.exit(), Exit::Refused, "{error}"),
    }
});
