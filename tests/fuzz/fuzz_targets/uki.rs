// SPDX-License-Identifier: Apache-2.0
//! Unified kernel images. Whatever the file is, it is taken apart or refused; a hash does not depend on the signature; and what
//! has room for a section more has it then.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::pcr::Bank;
use nightlatch::uki::{Pe, Uki};

fuzz_target!(|data: &[u8]| {
    if let Ok(program) = Pe::parse(data) {
        let hash = program.authenticode(Bank::Sha256);
        assert_eq!(hash.is_ok(), program.authenticode(Bank::Sha384).is_ok());
        if let Ok(longer) = program.with_section(".added", data) {
            assert!(Pe::parse(&longer).unwrap().has_section(".added"));
        }
    }
    let Ok(uki) = Uki::parse(data) else {
        return;
    };
    let value = uki.kernel_image(Bank::Sha256);
    assert_eq!(value.len(), 32);
    assert_ne!(value, Bank::Sha256.zero());
    if let Some(line) = uki.command_line() {
        assert!(!line.contains(['\n', '\0']));
    }
    if let Ok(kernel) = uki.kernel() {
        assert!(
            kernel
                .authenticode(Bank::Sha256)
                .is_ok_and(|hash| hash.len() == 32)
        );
    }
});
