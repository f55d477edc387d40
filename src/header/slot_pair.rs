// SPDX-License-Identifier: Apache-2.0
//! The two pairs of keyslots that our profile has room for. Recovery keyslots come behind them: [`super::recovery`].
//!
//! A header uses one pair. A volume whose secret is changed gets the other one, whole, before the first one is let go of:
//! each keyslot has a place of its own, so the old header stays good until the new one is complete.

use std::ops::Range;

use super::KEYSLOTS_OFFSET;
use super::layout::KEYSLOT_AREA_LEN;

#[expect(clippy::cast_possible_truncation, reason = "a constant of 385,024")]
const SLOT_LEN: usize = KEYSLOT_AREA_LEN as usize;

/// Where the second pair starts, and where it ends.
const SECOND_OFFSET: usize = KEYSLOTS_OFFSET + 2 * SLOT_LEN;
const END_OFFSET: usize = SECOND_OFFSET + 2 * SLOT_LEN;

/// Two keyslots: that of the volume's secret and that of the TPM's copy of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlotPair {
    /// Keyslots 0 and 1. Every volume starts with these.
    First,
    /// Keyslots 2 and 3.
    Second,
}

impl SlotPair {
    /// The pair that exactly these keyslots, in ascending order, are of: the secret's alone, or both.
    pub(super) fn of(ids: &[u8]) -> Option<Self> {
        match ids {
            [0] | [0, 1] => Some(Self::First),
            [2] | [2, 3] => Some(Self::Second),
            _ => None,
        }
    }

    /// The keyslot of the secret itself.
    #[must_use]
    pub const fn secret(self) -> u8 {
        match self {
            Self::First => 0,
            Self::Second => 2,
        }
    }

    /// The keyslot of the secret that is sealed to the TPM.
    #[must_use]
    pub const fn tpm(self) -> u8 {
        match self {
            Self::First => 1,
            Self::Second => 3,
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// Where both keyslots' key material is, in bytes from the start of the header area.
    #[must_use]
    pub const fn area(self) -> Range<usize> {
        match self {
            Self::First => KEYSLOTS_OFFSET..SECOND_OFFSET,
            Self::Second => SECOND_OFFSET..END_OFFSET,
        }
    }

    /// Where this keyslot's key material starts: right behind that of the one before it, as libcryptsetup places them.
    pub(super) fn offset_of(keyslot: u8) -> u64 {
        u64::from(keyslot)
            .saturating_mul(KEYSLOT_AREA_LEN)
            .saturating_add(KEYSLOTS_OFFSET as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MARKER_OFFSET;
    use super::*;

    #[test]
    fn the_pairs_lie_side_by_side_and_short_of_the_marker() {
        let [first, second] = [SlotPair::First, SlotPair::Second];
        assert_eq!(first.area(), 32_768..802_816);
        assert_eq!(second.area(), 802_816..1_572_864);
        assert!(second.area().end <= MARKER_OFFSET);
        for pair in [first, second] {
            assert_eq!(pair.other().other(), pair);
            let start = usize::try_from(SlotPair::offset_of(pair.secret())).unwrap();
            let middle = usize::try_from(SlotPair::offset_of(pair.tpm())).unwrap();
            assert_eq!(start, pair.area().start);
            assert_eq!(middle - start, SLOT_LEN);
            assert_eq!(pair.area().end - middle, SLOT_LEN);
            assert_eq!(SlotPair::of(&[pair.secret()]), Some(pair));
            assert_eq!(SlotPair::of(&[pair.secret(), pair.tpm()]), Some(pair));
        }
        for ids in [
            &[] as &[u8],
            &[1],
            &[3],
            &[0, 2],
            &[0, 3],
            &[2, 1],
            &[0, 1, 2],
            &[0, 1, 2, 3],
        ] {
            assert_eq!(SlotPair::of(ids), None, "{ids:?}");
        }
    }
}
