// SPDX-License-Identifier: Apache-2.0
//! The two copies of a header, and which of them may be opened (rule B6).
//!
//! A renewal writes one copy after the other, so an interruption leaves two that differ, or one that is damaged. In a
//! profile with a MAC each copy that is valid by itself is a candidate: the MAC decides. Without one the copies must agree.

use super::binary::{self, COPY_LEN, Side};
use super::broken::broken;
use super::reader::first_nonzero;
use super::{Area, Checked, Expect, Header};
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
    /// The header area up to the end of the last keyslot.
    pub(super) bytes: Vec<u8>,
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
        header.stray = header.unused().into_iter().find_map(|range| {
            let start = range.start;
            first_nonzero(self.part(range))?.checked_add(start)
        });
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
        let mut bytes = area.part(0..used_len).to_vec();
        bytes.resize(used_len, 0);
        if let Some(side) = from {
            binary::mirror(&mut bytes, side)?;
        }
        Ok(Self {
            checked,
            seqid: header.seqid,
            from,
            bytes,
        })
    }

    /// The header area up to the end of the last keyslot, in which both copies are this one. What is behind is zeros.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same as a whole area.
    pub fn area(&self) -> Result<Area> {
        Area::starting_with(self.bytes.clone())
    }

    /// Whether the copies on the disk were not the same.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.from.is_some()
    }

    /// Both copies and their offsets, in the order in which they are to be written, each durably before the next.
    ///
    /// Never first the one that this header was read from: it may be the only good one.
    #[must_use]
    pub fn copies(&self) -> [(u64, &[u8]); 2] {
        let order = match self.from {
            Some(Side::Secondary) => [Side::Primary, Side::Secondary],
            Some(Side::Primary) | None => [Side::Secondary, Side::Primary],
        };
        order.map(|side| {
            let copy = self.bytes.get(side.offset()..).unwrap_or_default();
            (
                side.offset() as u64,
                copy.get(..COPY_LEN).unwrap_or_default(),
            )
        })
    }
}

fn no_copy() -> Error {
    broken("B6", "header", "expected a valid copy, found none")
}
