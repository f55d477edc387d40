// SPDX-License-Identifier: Apache-2.0
//! What the TPM says of the boots it counted, and which headers fit that. Pure.
//!
//! The counter goes up by two in each boot, once before the first header is written and once when the last one is durable. So
//! an even value says that the boot it stands for has written all its headers, and an odd one that a boot is doing that, or
//! was cut off at it. Headers have the even value that their boot is to end with: in between those of [`Count::last`] fit, and
//! those of [`Count::next`].
//!
//! What a boot that was cut off has written has the same count as what the next one writes, which goes on with another copy of
//! the disk if the host likes. So a count does not say which of the two it was, and a host that cuts one boot for each that it
//! lets through would keep a copy of any age at the newest count. The nonce says it. Headers and record have it in common, and
//! a boot that finds an odd count draws another one, which reaches the record after the headers and before the count: from
//! then on no header of [`Count::last`] fits but those that this boot has written. A boot that finds an even count goes on with the
//! nonce there is, which costs no write: no other boot has written a header beside its own that has this nonce. One that makes
//! a volume draws another, since it writes that header before the count is odd: cut off there, what it has left fits until a
//! boot was counted, and not longer.
//!
//! A record of before has no nonce, and its counter was raised once in each boot, when the headers were durable. Its headers
//! fit as they did. The first boot that counts draws a nonce, and raises the counter to an even value after the record has it.
//!
//! A volume that a boot is without is as new as it can be, and its header stays behind. So before that boot's nonce and count the
//! record says with which count and nonce the volume was last open, which does not move with the boots that follow; and it is
//! taken away when the count of the boot is up that has the volume again, before anything of it can be written.

use crate::header::{BootNonce, Stamp};

/// The counter's value, and the nonce that the record has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count {
    /// The counter's value.
    pub counter: u64,
    /// `None` in a record of before, and in one whose boots were not counted yet.
    pub nonce: Option<BootNonce>,
}

impl Count {
    /// The count that the headers of the last boot have which wrote all of them.
    #[must_use]
    pub fn last(self) -> u64 {
        match self.nonce {
            Some(_) => self.counter & !1,
            None => self.counter,
        }
    }

    /// The count that the headers of this boot get; `None` at the counter's end.
    #[must_use]
    pub fn next(self) -> Option<u64> {
        (self.counter | 1).checked_add(1)
    }

    /// The nonce that this boot's headers get, where it need not draw one.
    #[must_use]
    pub fn nonce_again(self) -> Option<BootNonce> {
        self.nonce.filter(|_| self.counter.is_multiple_of(2))
    }

    /// Whether the counter is to be raised before the first header is written.
    #[must_use]
    pub fn is_raised_first(self) -> bool {
        self.nonce_again().is_some()
    }

    /// Whether a header's count, its epoch without what the volume's are ahead, may be the newest.
    #[must_use]
    pub fn fits(self, found: Stamp) -> Fit {
        let is_next = self.next() == Some(found.epoch);
        let is_last = self.last() == found.epoch;
        match self.nonce {
            // What an interrupted boot of before has written has the count after this one, even or not.
            None if is_last || is_next || self.counter.checked_add(1) == Some(found.epoch) => {
                Fit::Newest
            }
            Some(_) if is_next || is_last && found.nonce == self.nonce => Fit::Newest,
            Some(_) if is_last => Fit::OtherBoot,
            None | Some(_) => Fit::OtherCount,
        }
    }

    /// The same for a volume that was away in boots that were counted, and was last open with `last_open`.
    ///
    /// That is a lower bound: a boot that had the volume back and was cut off has written a later header, with whatever nonce, and
    /// until the entry says that the volume is back nothing behind a header has changed.
    #[must_use]
    pub fn fits_away(self, last_open: Stamp, found: Stamp) -> Fit {
        let is_later = found.epoch > last_open.epoch;
        match self.next() {
            _ if found == last_open => Fit::Newest,
            Some(next) if is_later && found.epoch <= next => Fit::Newest,
            _ if found.epoch == last_open.epoch => Fit::OtherBoot,
            _ => Fit::OtherCount,
        }
    }

    /// What a volume of level `epoch` was last open with that is away from this boot on, where its epochs are those of the counter.
    #[must_use]
    pub fn last_open(self) -> Stamp {
        Stamp {
            epoch: self.last(),
            nonce: self.nonce,
        }
    }
}

/// How a header compares with the count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fit {
    /// It is what this boot, or the last one, has written.
    Newest,
    /// It has the count of the last boot, and was written by another one, which was cut off.
    OtherBoot,
    /// It is older, or from elsewhere.
    OtherCount,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(byte: u8) -> Option<BootNonce> {
        BootNonce::from_bytes([byte; 7])
    }

    fn fit(counter: u64, nonce: Option<BootNonce>, found: (u64, Option<BootNonce>)) -> Fit {
        let (epoch, of_header) = found;
        Count { counter, nonce }.fits(Stamp {
            epoch,
            nonce: of_header,
        })
    }

    #[test]
    fn the_headers_of_the_last_boot_fit_and_those_of_this_one() {
        for counter in [6, 7] {
            for (found, expected) in [
                ((6, nonce(1)), Fit::Newest),
                ((6, nonce(2)), Fit::OtherBoot),
                ((6, None), Fit::OtherBoot),
                ((8, nonce(1)), Fit::Newest),
                ((8, nonce(2)), Fit::Newest),
                ((8, None), Fit::Newest),
                ((7, nonce(1)), Fit::OtherCount),
                ((4, nonce(1)), Fit::OtherCount),
                ((10, nonce(1)), Fit::OtherCount),
            ] {
                assert_eq!(
                    fit(counter, nonce(1), found),
                    expected,
                    "{counter} {found:?}"
                );
            }
        }
    }

    #[test]
    fn headers_of_before_fit_a_record_of_before_and_no_other() {
        for (counter, fitting) in [(6, [6, 7, 8].as_slice()), (7, &[7, 8])] {
            for epoch in 4..10 {
                let fits = fit(counter, None, (epoch, None)) == Fit::Newest;
                assert_eq!(fits, fitting.contains(&epoch), "{counter} {epoch}");
            }
        }
        assert_eq!(fit(8, nonce(1), (8, None)), Fit::OtherBoot);
    }

    /// What was last open with epoch 6 and nonce 1, where 20 boots and a half were counted since.
    #[test]
    fn a_volume_that_was_away_fits_from_its_last_opening_on() {
        let count = Count {
            counter: 27,
            nonce: nonce(3),
        };
        let of = |epoch, nonce| Stamp { epoch, nonce };
        for (found, expected) in [
            ((6, nonce(1)), Fit::Newest),
            ((6, nonce(2)), Fit::OtherBoot),
            ((6, None), Fit::OtherBoot),
            ((8, nonce(1)), Fit::Newest),
            ((26, nonce(2)), Fit::Newest),
            ((28, nonce(3)), Fit::Newest),
            ((4, nonce(1)), Fit::OtherCount),
            ((30, nonce(3)), Fit::OtherCount),
        ] {
            let (epoch, of_header) = found;
            let fit = count.fits_away(of(6, nonce(1)), of(epoch, of_header));
            assert_eq!(fit, expected, "{found:?}");
        }
        assert_eq!(count.last_open(), of(26, nonce(3)));
        let before = Count {
            counter: 27,
            nonce: None,
        };
        assert_eq!(before.last_open(), of(27, None));
    }

    #[test]
    fn a_boot_after_one_that_was_cut_off_draws_and_any_other_raises_first() {
        let count = |counter, nonce| Count { counter, nonce };
        assert_eq!(count(6, nonce(1)).nonce_again(), nonce(1));
        assert!(count(6, nonce(1)).is_raised_first());
        for drawing in [count(7, nonce(1)), count(6, None), count(7, None)] {
            assert_eq!(drawing.nonce_again(), None);
            assert!(!drawing.is_raised_first());
            assert_eq!(drawing.next(), Some(8));
        }
        assert_eq!(count(u64::MAX, nonce(1)).next(), None);
        assert_eq!(count(u64::MAX - 1, None).next(), None);
    }
}
