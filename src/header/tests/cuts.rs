// SPDX-License-Identifier: Apache-2.0
//! What a power cut can leave of the steps of writing a header.

use super::super::Step;

/// What a write that was cut leaves: its beginning, its end, or single sectors of it.
fn cuts(old: &[u8], new: &[u8]) -> Vec<Vec<u8>> {
    let mixed = |takes: &dyn Fn(usize) -> bool| {
        let mut mixed = old.to_vec();
        let sectors = mixed.chunks_mut(512).zip(new.chunks(512));
        for (at, (to, from)) in sectors.enumerate() {
            if takes(at) {
                to.copy_from_slice(from);
            }
        }
        mixed
    };
    let sectors = new.len() / 512;
    vec![
        mixed(&|sector| sector < 8),
        mixed(&|sector| sector >= sectors / 2),
        mixed(&|sector| sector % 2 == 1),
        mixed(&|sector| sector + 1 < sectors),
        new.to_vec(),
    ]
}

/// Every disk that a power cut can leave while these steps are taken. The last one is what they end in.
pub(super) fn every_cut(disk: &[u8], steps: &[Step<'_>]) -> Vec<Vec<u8>> {
    let mut disk = disk.to_vec();
    let mut disks = vec![disk.clone()];
    for step in steps {
        let (start, bytes) = match step {
            Step::Write(offset, bytes) => (usize::try_from(*offset).unwrap(), bytes.to_vec()),
            Step::Clear(range) => (range.start, vec![0; range.len()]),
            Step::Verify(offset, bytes) => {
                let start = usize::try_from(*offset).unwrap();
                assert!(disk[start..start + bytes.len()] == **bytes);
                continue;
            }
        };
        let range = start..start + bytes.len();
        for cut in cuts(&disk[range.clone()], &bytes) {
            let mut torn = disk.clone();
            torn[range.clone()].copy_from_slice(&cut);
            disks.push(torn);
        }
        disk[range].copy_from_slice(&bytes);
    }
    disks
}
