// SPDX-License-Identifier: Apache-2.0
//! The mark of a provisioning that has not finished.
//!
//! Written and synced to a proven-blank device before anything else and cleared by the very last write, so a device that
//! carries it, and nothing that cannot be explained by it, holds nothing anybody kept: the next boot starts over. It is
//! not authenticated; a host that forges it destroys a volume it could have destroyed by blanking it.

use sha2::{Digest, Sha256};

use super::binary::{self, BINARY_LEN, COPY_LEN, PRIMARY_MAGIC, SECONDARY_MAGIC, Start};
use super::reader::{Reader, is_zero, text};
use super::slot_pair::SlotPair;
use super::violation::violation;
use super::{role, uuid};
use crate::config::Role;
use crate::error::{Error, Result};

/// What a marker starts with.
const MAGIC: &[u8; 26] = b"nightlatch-provisioning-1\0";
/// The part of the magic without the version, by which a marker of any version is recognised.
const MAGIC_STEM: &[u8] = b"nightlatch-provisioning-";
/// Length of a UUID in text.
const UUID_LEN: usize = 36;
/// Bytes under the checksum: the rest of one 512-byte sector, which disks write whole or not at all.
const SUMMED_LEN: usize = 480;
/// The role word and zeros up to the checksum.
const ROLE_LEN: usize = SUMMED_LEN - MAGIC.len() - UUID_LEN;

/// Where the keyslots area of a new volume is unused: behind the volume secret's keyslot and the TPM's.
const UNUSED_OFFSET: usize = SlotPair::First.area().end;

/// Length in bytes of the block a marker is in.
pub const MARKER_LEN: usize = 4096;

/// Which volume was being provisioned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Marker {
    /// The UUID of the volume that was to be.
    pub uuid: String,
    /// What it was for.
    pub role: Role,
}

impl Marker {
    /// The block to write.
    #[must_use]
    pub fn encode(&self) -> [u8; MARKER_LEN] {
        let text = [MAGIC, self.uuid.as_bytes(), self.role.as_str().as_bytes()].concat();
        let mut summed = [0; SUMMED_LEN];
        for (to, from) in summed.iter_mut().zip(text) {
            *to = from;
        }
        let sum = Sha256::digest(summed);
        let mut block = [0; MARKER_LEN];
        for (to, from) in block.iter_mut().zip(summed.into_iter().chain(sum)) {
            *to = from;
        }
        block
    }

    /// Whether `rest`, the whole area in front of the marker, is what an interrupted provisioning of this volume leaves there.
    ///
    /// The binary headers become durable before anything else of the header does. So there is nothing, or the beginning of
    /// at least one of them, or both and then whatever fits where metadata and two keyslots go. A disk that was put to
    /// another use since, with the marker left over in its corner, shows something else.
    pub(super) fn explains(&self, rest: &[u8]) -> bool {
        let part = |from: usize, len: usize| rest.get(from..).and_then(|rest| rest.get(..len));
        let [Some(first), Some(second)] = [0, COPY_LEN].map(|from| part(from, BINARY_LEN)) else {
            return false;
        };
        let starts = [
            binary::start(first, PRIMARY_MAGIC, &self.uuid),
            binary::start(second, SECONDARY_MAGIC, &self.uuid),
        ];
        let between = part(BINARY_LEN, COPY_LEN - BINARY_LEN).is_some_and(is_zero);
        let after = |from: usize| rest.get(from..).is_some_and(is_zero);
        match starts {
            [Start::Foreign, _] | [_, Start::Foreign] => false,
            [Start::Named, Start::Named] => after(UNUSED_OFFSET),
            [Start::Blank, _] | [_, Start::Blank] => between && after(COPY_LEN + BINARY_LEN),
        }
    }

    /// Whether a block is meant as a marker, of whatever version.
    pub(super) fn is_in(block: &[u8]) -> bool {
        block.starts_with(MAGIC_STEM)
    }

    /// Reads a block back. Whatever deviates is refused.
    pub fn parse(block: &[u8; MARKER_LEN]) -> Result<Self> {
        let mut reader = Reader::new(block);
        let (Some(magic), Some(id), Some(word)) = (
            reader.array::<{ MAGIC.len() }>(),
            reader.array::<UUID_LEN>(),
            reader.array::<ROLE_LEN>(),
        ) else {
            return Err(wrong("length"));
        };
        if magic != *MAGIC {
            return Err(wrong("version"));
        }
        let summed = block
            .first_chunk::<SUMMED_LEN>()
            .ok_or_else(|| wrong("length"))?;
        if reader.array() != Some(<[u8; 32]>::from(Sha256::digest(summed))) {
            return Err(wrong("checksum"));
        }
        if !is_zero(reader.rest()) {
            return Err(wrong("padding"));
        }
        let role = text(&word).and_then(role);
        Ok(Self {
            uuid: text(&id).and_then(uuid).ok_or_else(|| wrong("uuid"))?,
            role: role.ok_or_else(|| wrong("role"))?,
        })
    }
}

fn wrong(part: &str) -> Error {
    violation(
        "F23",
        format_args!("provisioning marker: {part}"),
        "expected what this program writes, found something else",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        Marker {
            uuid: "a6c7535f-0a9f-4c23-9524-fed431126906".into(),
            role: Role::State,
        }
    }

    #[test]
    fn a_marker_comes_back_as_it_was_written() {
        let block = marker().encode();
        assert!(Marker::is_in(&block));
        assert_eq!(Marker::parse(&block).unwrap(), marker());
        assert_eq!(&block[..26], b"nightlatch-provisioning-1\0");
        assert_eq!(&block[62..68], b"state\0");
        assert_eq!(block[480..512], Sha256::digest(&block[..480])[..]);
    }

    #[test]
    fn every_changed_byte_of_a_marker_is_refused() {
        let good = marker().encode();
        for at in 0..good.len() {
            let mut block = good;
            block[at] ^= 1;
            assert!(Marker::parse(&block).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_marker_of_another_version_is_refused_although_its_checksum_is_right() {
        let mut block = marker().encode();
        block[24] = b'2';
        let sum = Sha256::digest(&block[..480]);
        block[480..512].copy_from_slice(&sum);
        assert!(Marker::is_in(&block));
        assert_eq!(
            Marker::parse(&block).unwrap_err().to_string(),
            "rule F23: provisioning marker: version: expected what this program writes, found something else"
        );
    }
}
