// SPDX-License-Identifier: Apache-2.0
//! One token in a header that is good but for it.

#![no_main]

#[path = "../copy.rs"]
mod copy;

use libfuzzer_sys::fuzz_target;
use nightlatch::config::Profile;
use nightlatch::error::Exit;
use nightlatch::header::{Expect, Header};

const BEFORE: &str = r#"{"keyslots":{"0":{"type":"luks2","key_size":96,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},"area":{"type":"raw","offset":"32768","size":"385024","encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"argon2id","time":4,"memory":65536,"cpus":2,"salt":"g5Ej6YXrYg7jvYedCN8UInJGADA4t24eFCdhxIehU5M="}}},"tokens":{"0":"#;
const AFTER: &str = r#"},"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096,"integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}}},"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"ZhXFozT+R9iVLeukxJf+vJLfQGW7AilPFuu2k3hIjWg=","digest":"wC4Ib2GaGOFVvLKa1EadnKbVKdlOla5iQtTSMW/ctjI="}},"config":{"json_size":"12288","keyslots_size":"16744448"}}"#;

fuzz_target!(|token: &[u8]| {
    let json = [BEFORE.as_bytes(), token, AFTER.as_bytes()].concat();
    let header = match Header::parse(&copy::around(&json)) {
        Ok(header) => header,
        Err(error) => return assert_eq!(error.exit(), Exit::Refused, "{error}"),
    };
    for profile in Profile::ALL {
        match header.check(profile, &Expect::default()) {
            // What we read is what we would write: no token has a part that is not looked at.
            Ok(checked) => {
                let ours = checked.nightlatch.map(|token| token.to_json());
                if let Some(written) = ours {
                    let read: serde_json::Value = serde_json::from_slice(token).unwrap();
                    assert_eq!(written, read);
                }
            }
            Err(error) => assert_eq!(error.exit(), Exit::Refused, "{error}"),
        }
    }
});
