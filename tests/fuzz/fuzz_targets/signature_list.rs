// SPDX-License-Identifier: Apache-2.0
//! Lists of the firmware's keys, and an update of them: the length of what the variable holds (two bytes, little-endian), that,
//! then the update.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::evidence::Check;
use nightlatch::evidence::signature_list::{SHA256, SignatureLists, X509};

fuzz_target!(|input: &[u8]| {
    let Some((len, input)) = input.split_first_chunk() else {
        return;
    };
    let len = usize::from(u16::from_le_bytes(*len)).min(input.len());
    let (value, update) = input.split_at(len);
    let lists = match SignatureLists::parse(update) {
        Ok(lists) => lists,
        Err(refusal) => return assert_eq!(refusal.check, Check::Encoding),
    };
    for certificate in lists.entries(X509) {
        assert!(
            lists
                .of_certificate(certificate)
                .is_some_and(|it| it.ends_with(certificate))
        );
    }
    let Ok(after) = lists.added_to(value) else {
        return assert!(SignatureLists::parse(value).is_err());
    };
    assert!(after.starts_with(value));
    // A variable that begins like the signature of an update is none.
    let (Ok(held), Ok(before)) = (SignatureLists::parse(&after), SignatureLists::parse(value))
    else {
        panic!("what is made of lists is no list");
    };
    for kind in [X509, SHA256] {
        let mut all = before.entries(kind).chain(lists.entries(kind));
        assert!(all.all(|entry| held.entries(kind).any(|it| it == entry)));
    }
    // Once is enough.
    assert_eq!(lists.added_to(&after), Ok(after));
});
