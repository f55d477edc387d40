// SPDX-License-Identifier: Apache-2.0
//! Both binary headers and what a device is taken for. The input is laid over a header area: a byte, then 4 KiB for each
//! copy's binary part, then metadata; with a provisioning marker its 4 KiB come before the metadata.
//!
//! The bits of the byte: the checksum of the first and of the second copy is left wrong, there is a marker, and from the
//! fourth on which profile to ask.

#![no_main]

#[path = "../copy.rs"]
mod copy;

use libfuzzer_sys::fuzz_target;
use nightlatch::config::Profile;
use nightlatch::error::Exit;
use nightlatch::header::{AREA_LEN, Area, Content, Expect, MARKER_OFFSET, Probe};

fuzz_target!(|input: &[u8]| {
    let (how, input) = input.split_first().unwrap_or((&0, &[]));
    let mut parts = input.chunks(copy::BINARY_LEN);
    let mut area = vec![0; 2 * copy::COPY_LEN];
    for at in [0, copy::COPY_LEN] {
        let part = parts.next().unwrap_or_default();
        area[at..at + part.len()].copy_from_slice(part);
    }
    // The marker is the last block: only with one is the area 16 MiB long, which takes a hundred times as long.
    let marker = (how & 4 != 0).then(|| parts.next().unwrap_or_default());
    for (at, part) in parts.take(3).enumerate() {
        for start in [0, copy::COPY_LEN] {
            let at = start + (1 + at) * copy::BINARY_LEN;
            area[at..at + part.len()].copy_from_slice(part);
        }
    }
    // Without checksums that are right little but checksums would be tested.
    for (bit, start) in [(1, 0), (2, copy::COPY_LEN)] {
        if how & bit == 0 {
            copy::seal(&mut area[start..start + copy::COPY_LEN]);
        }
    }
    if let Some(marker) = marker {
        let mut whole = vec![0; AREA_LEN];
        whole[..area.len()].copy_from_slice(&area);
        whole[MARKER_OFFSET..][..marker.len()].copy_from_slice(marker);
        area = whole;
    }
    let area = Area::starting_with(area).unwrap();
    match area.classify(Probe::Zero) {
        Ok(Content::Luks(copies)) => {
            let profile = Profile::ALL[usize::from(how >> 3) % Profile::ALL.len()];
            if let Err(error) = copies.check(&area, profile, &Expect::default()) {
                assert_eq!(error.exit(), Exit::Refused, "{error}");
            }
        }
        Ok(Content::Blank | Content::Interrupted(_)) => {}
        Err(error) => assert_eq!(error.exit(), Exit::Refused, "{error}"),
    }
});
