// SPDX-License-Identifier: Apache-2.0
//! The sentence of a boot that failed, as anybody may have written it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::anchor::failure::Failure;
use nightlatch::protocol::SENTENCE_LEN_MAX;

fuzz_target!(|bytes: &[u8]| {
    let Some(failure) = Failure::parse(bytes) else {
        return;
    };
    let plain = |c: char| c == ' ' || c.is_ascii_graphic();
    assert!(failure.sentence.chars().all(plain));
    if failure.sentence.len() <= SENTENCE_LEN_MAX {
        assert_eq!(Failure::parse(&failure.encode()), Some(failure));
    }
});
