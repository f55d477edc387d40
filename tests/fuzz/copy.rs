// SPDX-License-Identifier: Apache-2.0
//! A copy of a header around metadata, with a checksum that is right: a fuzzer does not find one by itself.

use sha2::{Digest as _, Sha256};

/// Length of a copy, and of its binary part.
pub const COPY_LEN: usize = 16_384;
pub const BINARY_LEN: usize = 4096;

#[allow(dead_code, reason = "not every target makes one")]
/// The first copy of a header whose metadata is `json`, cut to the space there is.
pub fn around(json: &[u8]) -> Vec<u8> {
    let mut copy = vec![0; COPY_LEN];
    for (at, what) in [
        (0, b"LUKS\xba\xbe\0\x02".as_slice()),
        (8, &16_384_u64.to_be_bytes()),
        (24, b"nightlatch"),
        (72, b"sha256"),
        (168, b"a6c7535f-0a9f-4c23-9524-fed431126906"),
        (208, b"state"),
        (BINARY_LEN, &json[..json.len().min(COPY_LEN - BINARY_LEN)]),
    ] {
        copy[at..at + what.len()].copy_from_slice(what);
    }
    seal(&mut copy);
    copy
}

/// Makes the checksum of a copy right.
pub fn seal(copy: &mut [u8]) {
    copy[448..512].fill(0);
    let sum = Sha256::digest(&*copy);
    copy[448..480].copy_from_slice(&sum);
}
