// SPDX-License-Identifier: Apache-2.0
//! What the search finds: nothing with the program as it is, and each property broken by the mistake that breaks it.

use std::collections::HashSet;

use super::boot::{Boot, NEWEST};
use super::*;

/// How far a search goes.
#[derive(Clone, Copy)]
struct Depth {
    moves: usize,
    left: Left,
    acts: &'static [Act],
    copies: Copies,
    /// Which of the disks may be a copy.
    attached: &'static [[bool; 2]],
    /// In which order headers are written.
    orders: &'static [[usize; 2]],
}

const EVERYBODY: &[Act] = &[
    Act::Keep(0),
    Act::Forge(0),
    Act::RemoveRecord,
    Act::RaiseCounter,
    Act::MakeCounterAgain,
    Act::Readmit,
];

/// A host that attaches copies and cuts boots off.
const COPIES: Depth = Depth {
    moves: 8,
    left: Left { cuts: 4, acts: 1 },
    acts: &[Act::Keep(0)],
    copies: Copies::Newest,
    attached: &[[false; 2], [true, false], [true; 2]],
    orders: &[[0, 1], [1, 0]],
};
/// Power cuts alone, one after the other.
const HONEST: Depth = Depth {
    moves: 7,
    left: Left { cuts: 6, acts: 0 },
    acts: &[],
    copies: Copies::None,
    attached: &[[false; 2]],
    orders: &[[0, 1], [1, 0]],
};
/// With another system on the TPM, and an operator's word.
const STRANGERS: Depth = Depth {
    moves: 6,
    left: Left { cuts: 2, acts: 2 },
    acts: EVERYBODY,
    copies: Copies::Older,
    attached: &[[false; 2], [true, false]],
    orders: &[[0, 1]],
};

/// A host that attaches copies and cuts boots off around an operator's words, on TPMs that it replaces.
const WORDS: Depth = Depth {
    moves: 9,
    left: Left { cuts: 2, acts: 3 },
    acts: &[Act::Keep(0), Act::ReplaceTpm, Act::Readmit],
    copies: Copies::Newest,
    attached: &[[false; 2], [true, false]],
    orders: &[[0, 1]],
};

impl World {
    /// All worlds one move away.
    fn moves(&self, depth: Depth, planted: Mistake) -> Vec<Self> {
        let mut all: Vec<_> = depth.acts.iter().filter_map(|act| self.act(*act)).collect();
        let boots = depth.attached.iter().flat_map(|&copies| {
            let orders = depth.orders.iter();
            orders.map(move |&order| Boot { copies, order })
        });
        for boot in boots {
            let mut worlds = match self.boot(boot, planted) {
                Ok(worlds) => worlds,
                Err(why) => {
                    let tells = ["attach", "readmit", "restore"];
                    assert!(tells.iter().any(|word| why.contains(word)), "{why}");
                    continue;
                }
            };
            // The last one is the whole boot, and the one before it that with its report held back.
            let whole = worlds.split_off(worlds.len() - 2);
            all.extend(whole);
            if let Some(cuts) = self.left.cuts.checked_sub(1) {
                for mut world in worlds {
                    world.left.cuts = cuts;
                    all.push(world);
                }
            }
        }
        all
    }

    /// Whether the newest disks open: by themselves or, where the TPM remembers nothing, for an operator's word.
    fn opens(&self, planted: Mistake) -> bool {
        let asked = Self {
            word: self
                .record
                .is_none_or(|record| record.ahead.contains(&None)),
            ..*self
        };
        asked
            .boot(NEWEST, planted)
            .is_ok_and(|worlds| worlds.iter().all(|world| world.broken.is_none()))
    }
}

/// The properties that a search finds broken, and how many worlds it has seen.
fn search(depth: Depth, planted: Mistake) -> (Vec<Broken>, usize) {
    let start = World::new(depth.left, depth.copies);
    let mut seen = HashSet::from([start]);
    let mut last = vec![start];
    let mut found = Vec::new();
    for _ in 0..depth.moves {
        let mut next = Vec::new();
        for mut world in last.iter().flat_map(|world| world.moves(depth, planted)) {
            if !seen.insert(world) {
                continue;
            }
            if !world.harmed && world.broken.is_none() && !world.opens(planted) {
                world.broken = Some(Broken::Lost);
            }
            match world.broken {
                Some(broken) if found.contains(&broken) => {}
                // One is enough of a mistake.
                Some(broken) if planted != Mistake::None => return (vec![broken], seen.len()),
                Some(broken) => found.push(broken),
                None => next.push(world),
            }
        }
        last = next;
    }
    (found, seen.len())
}

#[test]
fn nothing_opens_that_must_not_and_everything_that_must_whatever_is_done_between_boots() {
    for (depth, least) in [
        (HONEST, 5_000),
        (COPIES, 100_000),
        (STRANGERS, 50_000),
        (WORDS, 50_000),
    ] {
        let (found, worlds) = search(depth, Mistake::None);
        assert_eq!(found, [], "after {worlds} worlds");
        assert!(worlds > least, "only {worlds} worlds");
    }
}

#[test]
fn each_mistake_is_found() {
    for (planted, depth, broken) in [
        (Mistake::CountAlone, COPIES, Broken::Old),
        (Mistake::NonceFirst, HONEST, Broken::Lost),
        (Mistake::KeysNotCompared, STRANGERS, Broken::Forged),
        (Mistake::ReportNotCompared, STRANGERS, Broken::Old),
        (Mistake::ReportedNonceNotCompared, WORDS, Broken::Old),
        (Mistake::AnswersNotTold, WORDS, Broken::Lost),
    ] {
        let (found, worlds) = search(depth, planted);
        assert_eq!(found, [broken], "{planted:?}, {worlds} worlds");
    }
}
