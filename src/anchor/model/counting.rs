// SPDX-License-Identifier: Apache-2.0
//! How the boots of the model count: as `Anchor::begin_renewal` and `Anchor::advance` do, and as the program of before did.

use super::*;

/// Whose boots it has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Program {
    Now,
    /// Of before, which drew no nonces and raised the counter once, when all headers were written.
    Before,
}

/// How a boot counts.
pub(super) struct Counting {
    pub(super) stamp: Stamp,
    /// What comes before the first header.
    pub(super) first: Option<Write>,
    /// What comes after the last one.
    pub(super) then: Vec<Write>,
}

impl Nv {
    pub(super) fn count(&self) -> Count {
        Count {
            counter: self.counter,
            nonce: self.record().nonce,
        }
    }
}

impl Node {
    /// The nonce that this boot draws, if it does.
    pub(super) fn drawn(&self) -> BootNonce {
        BootNonce::from_bytes([self.fresh; NONCE_LEN]).unwrap()
    }

    pub(super) fn counting(&self, level: Level) -> Counting {
        let again = self.nv.count().nonce_again();
        self.counting_with(level, again.or_else(|| Some(self.drawn())))
    }

    /// The same in a boot that makes the record with the write `define`, which has its nonce.
    pub(super) fn counting_after(&self, define: &Write, level: Level) -> Counting {
        let mut defined = self.clone();
        defined.apply(define);
        let nonce = defined.nv.count().nonce;
        defined.counting_with(level, nonce)
    }

    /// The same in a boot that makes a volume, whose record is that of `defined`: as `Anchor::draw_for_new_volume` has it.
    pub(super) fn counting_new(&self, defined: &Self, level: Level) -> Counting {
        let count = defined.nv.count();
        let nonce = match (self.nv.record.is_some(), count.nonce_again()) {
            (false, None) => count.nonce,
            (false, Some(_)) => BootNonce::from_bytes([self.fresh | 0x80; NONCE_LEN]),
            (true, _) => Some(self.drawn()),
        };
        defined.counting_with(level, nonce)
    }

    /// The nonce of a record that this boot makes.
    pub(super) fn first_nonce(&self, level: Level) -> Option<BootNonce> {
        (level >= Level::Epoch && self.program == Program::Now).then(|| self.drawn())
    }

    fn counting_with(&self, level: Level, nonce: Option<BootNonce>) -> Counting {
        let count = self.nv.count();
        let (nonce, next, is_raised_first) = match self.program {
            _ if level < Level::Epoch => (None, self.nv.counter, false),
            Program::Before => (None, self.nv.counter + 1, false),
            Program::Now => (nonce, count.next().unwrap(), count.is_raised_first()),
        };
        let first = is_raised_first.then_some(Write::Count);
        let now = self.nv.counter + u64::from(is_raised_first);
        let tell = nonce.filter(|_| nonce != count.nonce).map(Write::Nonce);
        // All raises but the last one come before the nonce.
        let mut then = vec![Write::Count; usize::try_from(next - now).unwrap()];
        let last = then.len().saturating_sub(1);
        then.splice(last..last, tell);
        Counting {
            stamp: Stamp { epoch: next, nonce },
            first,
            then,
        }
    }
}
