// SPDX-License-Identifier: Apache-2.0
//! What of the keyslots area a header's keyslots cover, and what is left.

use std::ops::Range;

use super::reader::first_nonzero;
use super::recovery::{RECOVERY_KEYSLOTS, place};
use super::slot_pair::SlotPair;
use super::{AREA_LEN, Area, Header, KEYSLOTS_OFFSET};

impl Header {
    /// The pair of keyslots the header uses, if it uses just one and beside it no keyslots but those of recovery keys.
    pub(super) fn pair(&self) -> Option<SlotPair> {
        let ids = self.metadata.keyslots.keys().copied();
        let ids: Vec<u8> = ids.filter(|id| !RECOVERY_KEYSLOTS.contains(id)).collect();
        SlotPair::of(&ids)
    }

    /// The places of the keyslots that our profile has room for and the header does not have: the other pair's and those of
    /// recovery keys. In them may be what is left of a keyslot that went, or one whose header never came. Nobody reads it.
    pub(super) fn idle(&self) -> Vec<Range<usize>> {
        let Some(pair) = self.pair() else {
            return Vec::new();
        };
        let recovery = RECOVERY_KEYSLOTS.into_iter();
        let recovery = recovery.filter(|id| !self.metadata.keyslots.contains_key(id));
        let recovery = recovery.map(place);
        std::iter::once(pair.other().area())
            .chain(recovery)
            .collect()
    }

    /// The idle places of `area` in which there is something.
    pub(super) fn find_leftover(&self, area: &Area) -> Vec<Range<usize>> {
        let mut idle = self.idle();
        idle.retain(|place| first_nonzero_in(area, place.clone()).is_some());
        idle
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
    /// but the idle places.
    pub(super) fn find_stray(&self, area: &Area) -> Option<usize> {
        let mut ranges = self.unused();
        for idle in self.idle() {
            // A range that ends before it starts has nothing in it.
            let around = |range: Range<usize>| {
                [
                    range.start..range.end.min(idle.start),
                    range.start.max(idle.end)..range.end,
                ]
            };
            ranges = ranges.into_iter().flat_map(around).collect();
        }
        ranges
            .into_iter()
            .find_map(|range| first_nonzero_in(area, range))
    }
}

fn first_nonzero_in(area: &Area, range: Range<usize>) -> Option<usize> {
    let start = range.start;
    first_nonzero(area.part(range))?.checked_add(start)
}
