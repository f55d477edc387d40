// SPDX-License-Identifier: Apache-2.0
//! The two copies of a header, and which of them may be opened (rule B6).
//!
//! A renewal writes one copy after the other, so an interruption leaves two that differ, or one that is damaged. In a
//! profile with a MAC each copy that is valid by itself is a candidate: the MAC decides. Without one the copies must agree.

use std::ops::Range;
use std::sync::Arc;

use super::binary::{self, COPY_LEN, Side};
use super::violation::violation;
use super::{Area, Checked, Expect, Header, KEYSLOTS_OFFSET};
use crate::config::Profile;
use crate::error::{Error, Result};

/// Both copies, each parsed by itself. At least one could be.
#[derive(Debug)]
pub struct Copies {
    primary: Result<Header>,
    secondary: Result<Header>,
    /// The first difference.
    differ: Option<Error>,
}

/// A header that equals the template of its profile, as the area it would be in if both copies said the same.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What the template took from it.
    pub checked: Checked,
    /// The header's sequence number. It counts changes.
    pub seqid: u64,
    /// The copy on the disk it was read from; `None` where both agree.
    pub(super) from: Option<Side>,
    /// Both copies, which say the same, whatever the disk has.
    pub(super) copies: Vec<u8>,
    /// The keyslots area up to the end of the last keyslot. Where no keyslot is there are zeros, whatever the disk has.
    /// Shared by the headers of a volume that have the same keyslots: memory is scarce in an initrd.
    pub(super) material: Arc<Vec<u8>>,
    /// The places of those of its keyslots that are not on the disk yet.
    pub(super) missing: Vec<Range<usize>>,
    /// The places of keyslots it does not have in which the disk has something.
    pub(super) leftover: Vec<Range<usize>>,
}

/// A step of writing a header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step<'a> {
    /// These bytes go to this offset.
    Write(u64, &'a [u8]),
    /// These bytes must come back from this offset, from the disk itself.
    Verify(u64, &'a [u8]),
    /// Zeros go to this part of the header area.
    Clear(Range<usize>),
}

impl Area {
    /// Parses both copies. If neither can be read, the refusal is that of the primary one.
    pub fn copies(&self) -> Result<Copies> {
        let primary = self.copy(Side::Primary);
        let secondary = self.copy(Side::Secondary);
        let differ = match (&primary, &secondary) {
            (Ok(_), Ok(_)) => binary::compare(self.bytes()).err(),
            (Err(_), Err(_)) => return Err(primary.err().unwrap_or_else(no_copy)),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => None,
        };
        Ok(Copies {
            primary,
            secondary,
            differ,
        })
    }

    fn copy(&self, side: Side) -> Result<Header> {
        let mut header = Header::parse_copy(self.bytes(), side)?;
        header.stray = header.find_stray(self);
        header.leftover = header.find_leftover(self);
        Ok(header)
    }
}

impl Copies {
    /// Whether the copies on the disk are not the same: the next renewal makes them so.
    #[must_use]
    pub fn differ(&self) -> bool {
        self.differ.is_some() || self.primary.is_err() || self.secondary.is_err()
    }

    /// The only header there is, where both copies are valid and say the same.
    pub fn agreed(self) -> Result<Header> {
        let header = self.primary?;
        self.secondary?;
        self.differ.map_or(Ok(header), Err)
    }

    /// The profile the header was made for, as it says itself. For reports only.
    #[must_use]
    pub fn claimed_profile(&self) -> Profile {
        let either = self.primary.as_ref().or(self.secondary.as_ref());
        either.map_or(Profile::default(), Header::claimed_profile)
    }

    /// Compares each copy with the template of `profile`. What passes comes back, highest sequence number first; if none
    /// does, the refusal of the first.
    ///
    /// In `nightlatch-1` a candidate means nothing until [`Candidate::authenticate`] has accepted it.
    pub fn check(self, area: &Area, profile: Profile, expect: &Expect) -> Result<Vec<Candidate>> {
        let strict = match profile {
            Profile::Nightlatch1 => !self.differ(),
            Profile::Luks2Strict | Profile::Constellation => true,
        };
        if strict {
            let header = self.agreed()?;
            return Ok(vec![Candidate::of(area, &header, None, profile, expect)?]);
        }
        let sides = [
            (Side::Primary, self.primary),
            (Side::Secondary, self.secondary),
        ];
        let (mut good, mut refusal) = (Vec::new(), None);
        for (side, header) in sides {
            let candidate =
                header.and_then(|header| Candidate::of(area, &header, Some(side), profile, expect));
            match candidate {
                Ok(candidate) => good.push(candidate),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        if good.is_empty() {
            return Err(refusal.unwrap_or_else(no_copy));
        }
        good.sort_by_key(|candidate| std::cmp::Reverse(candidate.seqid));
        Ok(good)
    }
}

impl Candidate {
    fn of(
        area: &Area,
        header: &Header,
        from: Option<Side>,
        profile: Profile,
        expect: &Expect,
    ) -> Result<Self> {
        let checked = header.check(profile, expect)?;
        let used_len = header.used_len();
        let mut copies = area.part(0..KEYSLOTS_OFFSET).to_vec();
        if let Some(side) = from {
            binary::mirror(&mut copies, side)?;
        }
        let mut material = area.part(KEYSLOTS_OFFSET..used_len).to_vec();
        material.resize(used_len.saturating_sub(KEYSLOTS_OFFSET), 0);
        // What is left of other keyslots is not this header's, and its MAC does not cover it.
        let is_ours = checked.pair.is_some();
        for idle in header.idle().into_iter().filter(|_| is_ours) {
            let idle = in_material(&idle, &material);
            material.get_mut(idle).unwrap_or_default().fill(0);
        }
        Ok(Self {
            leftover: header
                .leftover
                .iter()
                .filter(|_| is_ours)
                .cloned()
                .collect(),
            checked,
            seqid: header.seqid,
            from,
            copies,
            material: Arc::new(material),
            missing: Vec::new(),
        })
    }

    /// The header area up to the end of the last keyslot, in which both copies are this one: first the copies, then the
    /// keyslots. What is behind is zeros.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.copies, &self.material]
    }

    /// The same as a whole area.
    pub fn area(&self) -> Result<Area> {
        Area::starting_with(self.parts().concat())
    }

    /// Whether the disk has more than this header: a copy that says something else, or what is left of other keyslots. The
    /// next renewal puts that right.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.from.is_some() || self.has_leftover()
    }

    /// Whether the place of a keyslot that it does not have is not clear: a change of keyslots was interrupted.
    #[must_use]
    pub fn has_leftover(&self) -> bool {
        !self.leftover.is_empty()
    }

    /// Its key material in this part of the header area.
    pub(super) fn material_in(&self, place: &Range<usize>) -> &[u8] {
        let bytes = self.material.get(in_material(place, &self.material));
        bytes.unwrap_or_default()
    }

    /// The same header when its steps have been taken.
    #[must_use]
    pub fn written(self) -> Self {
        Self {
            from: None,
            missing: Vec::new(),
            leftover: Vec::new(),
            ..self
        }
    }

    /// What makes this header the one on the disk, step by step, each durable before the next.
    ///
    /// Keyslots the disk does not have yet come first, and are in nobody's way: the header that is there says nothing of
    /// their place. Then come the copies, never first the one that this header was read from, which may be the only good
    /// one. Keyslots that are gone are cleared when both copies are there, and nothing says anything of them any more.
    #[must_use]
    pub fn steps(&self) -> Vec<Step<'_>> {
        let keyslots = self.missing.iter();
        let keyslots: Vec<_> = keyslots
            .map(|place| (place.start as u64, self.material_in(place)))
            .collect();
        let order = match self.from {
            Some(Side::Secondary) => [Side::Primary, Side::Secondary],
            Some(Side::Primary) | None => [Side::Secondary, Side::Primary],
        };
        let copies = order.map(|side| {
            let start = side.offset();
            let copy = self.copies.get(start..start.saturating_add(COPY_LEN));
            (start as u64, copy.unwrap_or_default())
        });
        let write = |(at, bytes)| Step::Write(at, bytes);
        let verify = |(at, bytes)| Step::Verify(at, bytes);
        let mut steps = Vec::new();
        steps.extend(keyslots.iter().copied().map(write));
        steps.extend(keyslots.iter().copied().map(verify));
        steps.extend(copies.map(write));
        // What is cleared may be what the header that was there needs.
        if !keyslots.is_empty() || self.has_leftover() {
            steps.extend(copies.map(verify));
        }
        steps.extend(self.leftover.iter().cloned().map(Step::Clear));
        steps
    }
}

/// Where a part of the header area is in `material`, which begins with the keyslots area and may end before it does.
fn in_material(part: &Range<usize>, material: &[u8]) -> Range<usize> {
    let at = |offset: usize| offset.saturating_sub(KEYSLOTS_OFFSET).min(material.len());
    at(part.start)..at(part.end)
}

fn no_copy() -> Error {
    violation("B6", "header", "expected a valid copy, found none")
}
