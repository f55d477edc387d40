// SPDX-License-Identifier: Apache-2.0
//! The JSON of a header, and the templates of all profiles.

#![no_main]

#[path = "../copy.rs"]
mod copy;

use libfuzzer_sys::fuzz_target;
use nightlatch::config::Profile;
use nightlatch::error::Exit;
use nightlatch::header::{Expect, Header};

fuzz_target!(|json: &[u8]| {
    let copy = copy::around(json);
    match Header::parse(&copy) {
        Ok(header) => {
            // What is accepted means the same to every JSON parser.
            let len = json
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(json.len());
            serde_json::from_slice::<serde_json::Value>(&json[..len.min(12_288)]).unwrap();
            for profile in Profile::ALL {
                if let Err(error) = header.check(profile, &Expect::default()) {
                    assert_eq!(error.exit(), Exit::Refused, "{error}");
                }
            }
        }
        Err(error) => assert_eq!(error.exit(), Exit::Refused, "{error}"),
    }
});
