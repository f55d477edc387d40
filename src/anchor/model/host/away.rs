// SPDX-License-Identifier: Apache-2.0
//! Boots that are without the second volume: it is not there, or it is refused and the first one goes on.
//!
//! The newest disk of a volume that comes back opens, after however many boots without it, cut off wherever; a copy that is older than
//! its last opening does not; and the first volume never notices. What is found if the program were otherwise is said at each
//! [`Mistake`]; C1, C2 and C4 of `facts/anchor-model.md` are among them. That the entry has to be written before the nonce and the last
//! count is one order; written before or after the headers of the others is the same to it.
//!
//! Where a record is made anew in a boot without the volume, or by another image in the boot after one without it, it takes an
//! operator's word: the header does not say that it is the newest, and the record that does cannot be read ([`super::stale`]).

use super::boot::{Judged, Second};
use super::proofs::{COPIES, HONEST, shows_nothing};
use super::search::{Depth, Search, search};
use super::*;

/// What the program could do wrong where a volume is away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mistake {
    /// Nothing is written: as before there was such an entry.
    NotNoted,
    /// What the volume was last open with is written when the boot without it is counted.
    NotedAfterRaise,
    /// It goes up with the boots that follow.
    MovesWithCount,
    /// It is compared as what the header has, and not as the least that it has.
    NoLowerBound,
    /// The nonce that is with it is not compared.
    NonceNotCompared,
    /// It is taken away before the volume has a header of the boot that has it again.
    BackBeforeHeaders,
    /// It is taken away when the volume can be written to.
    BackAfterMapping,
}

impl super::Mistake {
    pub(super) fn is_away(self, which: Mistake) -> bool {
        self == Self::Away(which)
    }
}

/// Compares as the program would that makes this mistake.
pub(super) fn plant(
    planted: super::Mistake,
    entry: &mut Entry,
    proof: &mut VolumeProof,
) -> Result<(), String> {
    let Some(away) = entry.away else {
        return Ok(());
    };
    if planted.is_away(Mistake::NoLowerBound) && proof.stamp != away {
        return Err("attach the current disk".into());
    }
    if planted.is_away(Mistake::NonceNotCompared) && proof.stamp.epoch == away.epoch {
        proof.stamp.nonce = away.nonce;
    }
    Ok(())
}

impl World {
    /// Whether a volume is away.
    pub(super) fn is_without(&self) -> bool {
        let mut records = self.records.iter().flatten();
        records.any(|record| record.away != [None; 2])
    }

    /// `Anchor::note_away`.
    pub(super) fn note_away(
        &mut self,
        judged: &Judged,
        place: usize,
        planted: super::Mistake,
        all: &mut Vec<Self>,
    ) {
        let last_open = self.count(place).unwrap().last_open();
        if planted.is_away(Mistake::NotNoted) {
            return;
        }
        if planted.is_away(Mistake::MovesWithCount) {
            let away = &mut self.records[place].as_mut().unwrap().away;
            away.iter_mut().flatten().for_each(|(epoch, _)| *epoch += 2);
        }
        self.note_away_with(last_open, judged, place, all);
    }

    pub(super) fn note_away_with(
        &mut self,
        last_open: Stamp,
        judged: &Judged,
        place: usize,
        all: &mut Vec<Self>,
    ) {
        let before = *self;
        let record = self.records[place].as_mut().unwrap();
        for volume in [0, 1].into_iter().filter(|it| !judged.open[*it]) {
            let Some(ahead) = record.ahead[volume] else {
                continue;
            };
            let epoch = last_open.epoch.checked_add_signed(ahead).unwrap();
            let nonce = last_open.nonce.map_or(0, |nonce| nonce.bytes()[0]);
            record.away[volume].get_or_insert((epoch, nonce));
        }
        if *self != before {
            all.push(*self);
        }
    }

    /// `Anchor::note_back`.
    pub(super) fn note_back(&mut self, judged: &Judged, place: usize, all: &mut Vec<Self>) {
        let before = *self;
        let record = self.records[place].as_mut().unwrap();
        for volume in [0, 1].into_iter().filter(|it| judged.open[*it]) {
            record.away[volume] = None;
        }
        if *self != before {
            all.push(*self);
        }
    }
}

const SECONDS: &[Second] = &[Second::Required, Second::Away];

/// Power cuts alone, and boots without the volume.
const HONEST_AWAY: Depth = Depth {
    moves: 6,
    left: Left { cuts: 4, acts: 0 },
    orders: &[[0, 1]],
    seconds: SECONDS,
    ..HONEST
};
/// A host that keeps a copy of the volume, and boots with it, without it, and with the volume.
const COPIES_AWAY: Depth = Depth {
    moves: 6,
    left: Left { cuts: 3, acts: 1 },
    acts: &[Act::Keep(1)],
    attached: &[[false; 2], [false, true]],
    orders: &[[0, 1]],
    seconds: &[Second::Optional, Second::Away],
    ..COPIES
};
/// The same with the copy of the session before.
const OLDER_COPIES_AWAY: Depth = Depth {
    left: Left { cuts: 2, acts: 0 },
    copies: Copies::Older,
    ..COPIES_AWAY
};
/// Boots without the volume around those of an image that cannot read the record of the other.
const UPDATES_AWAY: Depth = Depth {
    moves: 4,
    left: Left { cuts: 2, acts: 0 },
    images: &[1, 2],
    ..HONEST_AWAY
};

#[test]
fn a_volume_that_was_away_opens_as_it_was_last_open_and_no_older() {
    for (depth, least) in [
        (HONEST_AWAY, 1_000),
        (COPIES_AWAY, 5_000),
        (OLDER_COPIES_AWAY, 1_000),
        (UPDATES_AWAY, 1_000),
    ] {
        shows_nothing(depth, least);
    }
}

#[test]
fn each_mistake_about_a_volume_that_is_away_is_found() {
    for (planted, depth, broken) in [
        (Mistake::NotNoted, HONEST_AWAY, Broken::Lost),
        (Mistake::NotedAfterRaise, HONEST_AWAY, Broken::Lost),
        (Mistake::MovesWithCount, HONEST_AWAY, Broken::Lost),
        (Mistake::NoLowerBound, HONEST_AWAY, Broken::Lost),
        (Mistake::BackBeforeHeaders, HONEST_AWAY, Broken::Lost),
        (Mistake::NonceNotCompared, COPIES_AWAY, Broken::Old),
        (Mistake::BackAfterMapping, COPIES_AWAY, Broken::Old),
    ] {
        let planted = super::Mistake::Away(planted);
        let Search { found, worlds } = search(depth, planted);
        let found: Vec<_> = found.iter().map(|(broken, _)| *broken).collect();
        assert_eq!(found, [broken], "{planted:?}, {worlds} worlds");
    }
}
