// SPDX-License-Identifier: Apache-2.0
//! What of the keyslots area a header's keyslots cover, and what is left.

use std::ops::Range;

use super::reader::first_nonzero;
use super::slot_pair::SlotPair;
use super::{AREA_LEN, Area, Header, KEYSLOTS_OFFSET};

impl Header {
    /// The pair of keyslots the header uses, if it uses just one.
    pub(super) fn pair(&self) -> Option<SlotPair> {
        let ids: Vec<u8> = self.metadata.keyslots.keys().copied().collect();
        SlotPair::of(&ids)
    }

    /// Where the last keyslot ends, in bytes from the start of the header area.
    pub(super) fn used_len(&self) -> usize {
        self.unused().last().map_or(AREA_LEN, |range| range.start)
    }

    /// The parts of the keyslots area that no keyslot covers.
    pub(super) fn unused(&self) -> Vec<Range<usize>> {
        let mut areas: Vec<(u64, u64)> = self
            .metadata
            .keyslots
            .values()
            .map(|slot| {
                (
                    slot.area_offset,
                    slot.area_offset.saturating_add(slot.area_size),
                )
            })
            .collect();
        areas.sort_unstable();
        let clamp = |at: u64| usize::try_from(at).unwrap_or(AREA_LEN).min(AREA_LEN);
        let mut ranges = Vec::new();
        let mut from = KEYSLOTS_OFFSET;
        for (start, end) in areas {
            ranges.push(from..clamp(start).max(from));
            from = clamp(end).max(from);
        }
        ranges.push(from..AREA_LEN);
        ranges
    }

    /// The first byte of `area` that is not zero where no keyslot is and none has ever been, which is all of what is unused
    /// but the other pair's place.
    pub(super) fn find_stray(&self, area: &Area) -> Option<usize> {
        let idle = self.pair().map_or(0..0, |pair| pair.other().area());
        // A range that ends before it starts has nothing in it.
        let around = |range: Range<usize>| {
            [
                range.start..range.end.min(idle.start),
                range.start.max(idle.end)..range.end,
            ]
        };
        let mut ranges = self.unused().into_iter().flat_map(around);
        ranges.find_map(|range| first_nonzero_in(area, range))
    }
}

impl Area {
    /// Whether the place of `pair` has something in it.
    pub(super) fn has_material_of(&self, pair: SlotPair) -> bool {
        first_nonzero_in(self, pair.area()).is_some()
    }
}

fn first_nonzero_in(area: &Area, range: Range<usize>) -> Option<usize> {
    let start = range.start;
    first_nonzero(area.part(range))?.checked_add(start)
}
