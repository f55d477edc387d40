// SPDX-License-Identifier: Apache-2.0
//! The file of a wrapped master secret.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::error::Exit;
use nightlatch::key::Secret;
use nightlatch::keyservice::kms::envelope::Envelope;

fuzz_target!(|bytes: &[u8]| {
    let Ok(envelope) = Envelope::parse(bytes) else {
        return;
    };
    // What is accepted has one spelling, and means the same in it.
    let text = envelope.text().unwrap();
    let again = Envelope::parse(text.as_bytes()).unwrap();
    assert_eq!(again.text().unwrap(), text);
    assert_eq!(again.wrapped().kek, envelope.wrapped().kek);
    let error = envelope.open(&Secret::new(vec![0; 32])).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
});
