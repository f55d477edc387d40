// SPDX-License-Identifier: Apache-2.0
//! The configuration. It is trusted, but an administrator's slip is to end in a sentence.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::config::Config;
use nightlatch::error::Exit;

fuzz_target!(|text: &str| {
    match Config::parse(text) {
        Ok(config) => assert!(config.volumes().next().is_some()),
        Err(error) => {
            assert_eq!(error.exit(), Exit::Config);
            assert!(error.to_string().starts_with("line "), "{error}");
        }
    }
});
