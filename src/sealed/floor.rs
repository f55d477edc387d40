// SPDX-License-Identifier: Apache-2.0
//! Security versions of images. An image has signatures for each floor that it may be used at: what is sealed to a floor opens to
//! images that were signed for it, and what an older image was not signed for stays closed to it.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What references start with.
const PREFIX: &str = "nightlatch-";
/// The most floors that one image is signed for. Each is a signature of some 450 bytes for each bank and value of PCR 11, and the
/// stub hands all of them on.
pub const FLOORS_MAX: u32 = 64;

/// A security version, counted from 1.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Floor(u32);

impl Floor {
    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// What a signature says that it is for, as `systemd-measure` writes it beside it.
    #[must_use]
    pub fn reference(self) -> String {
        format!("{PREFIX}{}", self.0)
    }

    /// The floor that a reference is of; none, where it is not one of ours, written as we write it.
    #[must_use]
    pub fn of_reference(text: &str) -> Option<Self> {
        let number: u32 = text.strip_prefix(PREFIX)?.parse().ok()?;
        let floor = Self::try_from(number).ok()?;
        (floor.reference() == text).then_some(floor)
    }

    /// `policyRef` of `TPM2_PolicyAuthorize`: a digest, because a TPM takes no longer one (TPM 2.0 Library, part 3, section 23.16; so
    /// does systemd from version 262 on, src/shared/tpm2-util.c, `tpm2_make_policy_authorize_tbs_data`).
    #[must_use]
    pub fn policy_ref(self) -> [u8; 32] {
        Sha256::digest(self.reference()).into()
    }
}

impl TryFrom<u32> for Floor {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            0 => Err("expected a floor from 1 on, found 0".into()),
            _ => Ok(Self(number)),
        }
    }
}

impl From<Floor> for u32 {
    fn from(floor: Floor) -> Self {
        floor.0
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The floors that an image is signed for, from the oldest to its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Floors {
    oldest: Floor,
    own: Floor,
}

impl Floors {
    /// Those of an image of floor `own` that is still good at `oldest`.
    pub fn new(own: Floor, oldest: Floor) -> Result<Self, String> {
        let Some(above) = own.0.checked_sub(oldest.0) else {
            return Err(format!(
                "expected an oldest floor of at most {own}, found {oldest}"
            ));
        };
        if above >= FLOORS_MAX {
            return Err(format!(
                "expected at most {FLOORS_MAX} floors from the oldest to the image's own, found {oldest} to {own}: have a later oldest \
                 one"
            ));
        }
        Ok(Self { oldest, own })
    }

    /// The highest.
    #[must_use]
    pub fn own(self) -> Floor {
        self.own
    }

    /// The lowest.
    #[must_use]
    pub fn oldest(self) -> Floor {
        self.oldest
    }

    /// Each, in ascending order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Floor> {
        (self.oldest.0..=self.own.0).map(Floor)
    }
}

impl fmt::Display for Floors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.oldest, self.own) {
            (oldest, own) if oldest == own => write!(f, "floor {own}"),
            (oldest, own) => write!(f, "floors {oldest} to {own}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(number: u32) -> Floor {
        Floor::try_from(number).unwrap()
    }

    #[test]
    fn a_reference_is_read_as_it_is_written() {
        for number in [1, 2, 10, u32::MAX] {
            let reference = floor(number).reference();
            assert_eq!(Floor::of_reference(&reference), Some(floor(number)));
        }
        for text in [
            "",
            "initrd",
            "nightlatch-",
            "nightlatch-0",
            "nightlatch-01",
            "nightlatch-+1",
            "nightlatch-4294967296",
            "nightlatch-1 ",
        ] {
            assert_eq!(Floor::of_reference(text), None, "{text}");
        }
        assert!(Floor::try_from(0).is_err());
    }

    /// From `printf nightlatch-2 | sha256sum`.
    #[test]
    fn the_policys_reference_is_the_digest_of_the_text() {
        assert!(hex::encode(floor(2).policy_ref()).starts_with("d9664708"));
        assert!(hex::encode(floor(2).policy_ref()).ends_with("c72a"));
    }

    #[test]
    fn an_image_is_signed_for_no_more_floors_than_it_has_room_for() {
        let all = Floors::new(floor(3), floor(2)).unwrap();
        assert_eq!(all.iter().collect::<Vec<_>>(), [floor(2), floor(3)]);
        assert_eq!(all.own(), floor(3));
        assert_eq!(
            Floors::new(floor(FLOORS_MAX), floor(1))
                .unwrap()
                .iter()
                .count(),
            FLOORS_MAX as usize
        );
        let error = Floors::new(floor(FLOORS_MAX + 1), floor(1)).unwrap_err();
        assert!(error.starts_with("expected at most 64 floors"), "{error}");
        let error = Floors::new(floor(1), floor(2)).unwrap_err();
        assert_eq!(error, "expected an oldest floor of at most 1, found 2");
    }
}
