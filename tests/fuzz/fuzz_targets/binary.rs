// SPDX-License-Identifier: Apache-2.0
//! Both binary headers and what a device is taken for. The input is laid over a header area: 4 KiB for each copy's binary
//! part, then 4 KiB for the block a provisioning marker is in, then metadata. Its first byte says which checksums to leave wrong
//! and which profile to ask.

#![no_main]

#[path = "../copy.rs"]
mod copy;

use libfuzzer_sys::fuzz_target;
use nightlatch::config::Profile;
use nightlatch::error::Exit;
use nightlatch::header::{AREA_LEN, Area, Content, Expect, MARKER_LEN, MARKER_OFFSET, Probe};

fuzz_target!(|input: &[u8]| {
    let (sealed, input) = input.split_first().unwrap_or((&0, &[]));
    let mut parts = input.chunks(copy::BINARY_LEN);
    let mut area = vec![0; AREA_LEN];
    for at in [0, copy::COPY_LEN, MARKER_OFFSET] {
        let part = parts.next().unwrap_or_default();
        area[at..at + part.len().min(MARKER_LEN)].copy_from_slice(part);
    }
    for (at, part) in parts.take(3).enumerate() {
        for start in [0, copy::COPY_LEN] {
            let at = start + (1 + at) * copy::BINARY_LEN;
            area[at..at + part.len()].copy_from_slice(part);
        }
    }
    // Without checksums that are right little but checksums would be tested.
    for (bit, start) in [(1, 0), (2, copy::COPY_LEN)] {
        if sealed & bit == 0 {
            copy::seal(&mut area[start..start + copy::COPY_LEN]);
        }
    }
    let area = Area::from_vec(area).unwrap();
    match area.classify(Probe::Zero) {
        Ok(Content::Luks(copies)) => {
            let profile = Profile::ALL[usize::from(sealed >> 2) % Profile::ALL.len()];
            if let Err(error) = copies.check(&area, profile, &Expect::default()) {
                assert_eq!(error.exit(), Exit::Refused, "{error}");
            }
        }
        Ok(Content::Blank | Content::Interrupted(_)) => {}
        Err(error) => assert_eq!(error.exit(), Exit::Refused, "{error}"),
    }
});
