// SPDX-License-Identifier: Apache-2.0
//! dm-integrity's superblock on a device of any length: 8 bytes for the length, then the superblock.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nightlatch::error::Exit;
use nightlatch::header::superblock::{SUPERBLOCK_LEN, check, data_len};

fuzz_target!(|input: &[u8]| {
    let Some((len, input)) = input.split_first_chunk() else {
        return;
    };
    let device_len = u64::from_le_bytes(*len);
    let mut bytes = [0; SUPERBLOCK_LEN];
    for (to, from) in bytes.iter_mut().zip(input) {
        *to = *from;
    }
    assert!(data_len(device_len) <= device_len);
    if let Err(error) = check(&bytes, device_len) {
        assert_eq!(error.exit(), Exit::Refused, "{error}");
    }
});
