// SPDX-License-Identifier: Apache-2.0
//! A line of a `.pub` file, and a signature of OpenSSH's that anybody may send to a node. The first byte says which of the two.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::error::Exit;
use nightlatch::key::openssh::{OpensshKey, signature};

const OPERATOR: &str = include_str!("../../fixtures/openssh/operator.pub");
const TOUCHED: &str = include_str!("../../fixtures/openssh/security-key.pub");

fuzz_target!(|input: &[u8]| {
    let Some((what, bytes)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if what % 2 == 0 {
        if let Ok(key) = OpensshKey::parse(text) {
            let again = OpensshKey::parse(&key.to_string());
            assert_eq!(again.expect("what was written"), key);
        }
        return;
    }
    let keys = [OPERATOR, TOUCHED].map(|line| OpensshKey::parse(line.trim()).expect("a key"));
    // Nobody has signed this, whatever the text says.
    let verdict = signature::verify(text, "nightlatch-recover", b"another message", &keys);
    assert_eq!(verdict.expect_err("a signature").exit(), Exit::Refused);
});
