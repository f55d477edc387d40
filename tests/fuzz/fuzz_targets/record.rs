// SPDX-License-Identifier: Apache-2.0
//! The anchor's record, as the TPM gives it back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::anchor::record::Record;
use nightlatch::error::Exit;

fuzz_target!(|bytes: &[u8]| {
    match Record::parse(bytes) {
        // Every record has one spelling.
        Ok((record, auth)) => assert_eq!(record.encode(&auth).as_slice(), bytes),
        Err(error) => assert_eq!(error.exit(), Exit::Refused, "{error}"),
    }
});
