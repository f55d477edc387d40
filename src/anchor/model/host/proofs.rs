// SPDX-License-Identifier: Apache-2.0
//! What the search finds: nothing with the program as it is, and each property broken by the mistake that breaks it.

use super::boot::Second;
use super::search::{Depth, Search, search};
use super::stale::Mistake::*;
use super::*;

/// Nobody pushes a key.
const NEVER: &[bool] = &[false];

const EVERYBODY: &[Act] = &[
    Act::Keep(0),
    Act::Forge(0, 1),
    Act::RemoveRecord(0),
    Act::RaiseCounter,
    Act::MakeCounterAgain,
    Act::Readmit,
];

/// A host that attaches copies and cuts boots off.
pub(super) const COPIES: Depth = Depth {
    moves: 8,
    left: Left { cuts: 4, acts: 1 },
    acts: &[Act::Keep(0)],
    copies: Copies::Newest,
    attached: &[[false; 2], [true, false], [true; 2]],
    orders: &[[0, 1], [1, 0]],
    images: &[1],
    pushes: NEVER,
    seconds: &[Second::Required],
};
/// Power cuts alone, one after the other.
pub(super) const HONEST: Depth = Depth {
    moves: 7,
    left: Left { cuts: 6, acts: 0 },
    acts: &[],
    copies: Copies::None,
    attached: &[[false; 2]],
    orders: &[[0, 1], [1, 0]],
    images: &[1],
    pushes: NEVER,
    seconds: &[Second::Required],
};
/// With another system on the TPM, and an operator's word.
const STRANGERS: Depth = Depth {
    moves: 6,
    left: Left { cuts: 2, acts: 2 },
    acts: EVERYBODY,
    copies: Copies::Older,
    attached: &[[false; 2], [true, false]],
    orders: &[[0, 1]],
    images: &[1],
    pushes: NEVER,
    seconds: &[Second::Required],
};

/// A host that attaches copies and cuts boots off around an operator's words, on TPMs that it replaces.
const WORDS: Depth = Depth {
    moves: 9,
    left: Left { cuts: 2, acts: 3 },
    acts: &[Act::Keep(0), Act::ReplaceTpm, Act::Readmit],
    copies: Copies::Newest,
    attached: &[[false; 2], [true, false]],
    orders: &[[0, 1]],
    images: &[1],
    pushes: NEVER,
    seconds: &[Second::Required],
};

/// Power cuts alone, in whatever order of two images.
const UPDATES: Depth = Depth {
    moves: 6,
    left: Left { cuts: 5, acts: 0 },
    acts: &[],
    copies: Copies::None,
    attached: &[[false; 2]],
    orders: &[[0, 1], [1, 0]],
    images: &[1, 2],
    pushes: NEVER,
    seconds: &[Second::Required],
};
/// The same with three.
const THREE_IMAGES: Depth = Depth {
    moves: 5,
    left: Left { cuts: 4, acts: 0 },
    acts: &[],
    copies: Copies::None,
    attached: &[[false; 2]],
    orders: &[[0, 1]],
    images: &[1, 2, 3],
    pushes: NEVER,
    seconds: &[Second::Required],
};
/// A host that attaches copies and cuts boots off around an update.
const COPIES_AND_UPDATES: Depth = Depth {
    moves: 5,
    left: Left { cuts: 3, acts: 1 },
    acts: &[Act::Keep(0)],
    copies: Copies::Newest,
    attached: &[[false; 2], [true, false], [true; 2]],
    orders: &[[0, 1]],
    images: &[1, 2],
    pushes: NEVER,
    seconds: &[Second::Required],
};
/// The same with copies of the session before, and no cut.
const OLDER_COPIES: Depth = Depth {
    moves: 6,
    left: Left { cuts: 0, acts: 2 },
    acts: &[Act::Keep(0), Act::RaiseCounter],
    copies: Copies::Older,
    attached: &[[false; 2], [true, false]],
    orders: &[[0, 1]],
    images: &[1, 2],
    pushes: NEVER,
    seconds: &[Second::Required],
};
/// With another system on the TPM, and an operator's word.
const STRANGERS_AND_UPDATES: Depth = Depth {
    moves: 4,
    left: Left { cuts: 2, acts: 2 },
    acts: &[
        Act::Keep(0),
        Act::Forge(0, 1),
        Act::Forge(0, 2),
        Act::RemoveRecord(0),
        Act::PutRecord(0),
        Act::PutRecord(1),
        Act::RaiseCounter,
        Act::MakeCounterAgain,
        Act::Readmit,
    ],
    copies: Copies::Older,
    attached: &[[false; 2], [true, false]],
    orders: &[[0, 1]],
    images: &[1, 2],
    pushes: NEVER,
    seconds: &[Second::Required],
};

/// A host that attaches copies and cuts boots off around updates and an operator's words.
const WORDS_AND_UPDATES: Depth = Depth {
    moves: 6,
    left: Left { cuts: 2, acts: 1 },
    acts: &[Act::Keep(0), Act::Readmit],
    copies: Copies::Newest,
    attached: &[[false; 2], [true, false]],
    orders: &[[0, 1]],
    images: &[1, 2],
    pushes: NEVER,
    seconds: &[Second::Required],
};

/// Power cuts alone around an update, with the service lost in any boot and an operator in its place.
const PUSHES: Depth = Depth {
    moves: 4,
    left: Left { cuts: 4, acts: 0 },
    pushes: &[false, true],
    ..UPDATES
};
/// The same with a host that attaches copies.
const COPIES_AND_PUSHES: Depth = Depth {
    moves: 4,
    pushes: &[false, true],
    ..COPIES_AND_UPDATES
};
/// The same with copies of the session before, and no cut.
const OLDER_COPIES_AND_PUSHES: Depth = Depth {
    moves: 5,
    pushes: &[false, true],
    ..OLDER_COPIES
};
/// With another system on the TPM, whose disks no operator's key opens.
const STRANGERS_AND_PUSHES: Depth = Depth {
    moves: 3,
    pushes: &[false, true],
    ..STRANGERS_AND_UPDATES
};

#[test]
fn nothing_opens_that_must_not_and_everything_that_must_whatever_is_done_between_boots() {
    for (depth, least) in [
        (HONEST, 5_000),
        (COPIES, 100_000),
        (STRANGERS, 50_000),
        (WORDS, 50_000),
    ] {
        shows_nothing(depth, least);
    }
}

#[test]
fn the_same_with_images_that_cannot_read_each_others_record() {
    for (depth, least) in [
        (UPDATES, 50_000),
        (THREE_IMAGES, 30_000),
        (COPIES_AND_UPDATES, 30_000),
        (OLDER_COPIES, 1_000),
        (STRANGERS_AND_UPDATES, 20_000),
        (WORDS_AND_UPDATES, 20_000),
    ] {
        shows_nothing(depth, least);
    }
}

#[test]
fn the_same_with_keys_that_an_operator_pushes() {
    for (depth, least) in [
        (PUSHES, 1_000),
        (COPIES_AND_PUSHES, 10_000),
        (OLDER_COPIES_AND_PUSHES, 500),
        (STRANGERS_AND_PUSHES, 1_000),
    ] {
        shows_nothing(depth, least);
    }
}

pub(super) fn shows_nothing(depth: Depth, least: usize) {
    let Search { found, worlds } = search(depth, Mistake::None);
    if let Some((broken, way)) = found.first() {
        panic!("{broken:?} after {worlds} worlds: {way:#?}");
    }
    assert!(worlds > least, "only {worlds} worlds");
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
        (Mistake::VoidNotCompared, WORDS_AND_UPDATES, Broken::Old),
        (
            Mistake::Stale(KeysNotCompared),
            STRANGERS_AND_UPDATES,
            Broken::Forged,
        ),
        (
            Mistake::Stale(ReportNotCompared),
            COPIES_AND_UPDATES,
            Broken::Old,
        ),
        (
            Mistake::Stale(NonceNotCompared),
            COPIES_AND_UPDATES,
            Broken::Old,
        ),
        (
            Mistake::Stale(CounterNotCompared),
            OLDER_COPIES,
            Broken::Old,
        ),
        (
            Mistake::Stale(NameNotCompared),
            STRANGERS_AND_UPDATES,
            Broken::Unasked,
        ),
        (Mistake::Stale(RemovedFirst), UPDATES, Broken::Lost),
        (Mistake::Stale(RepairKeepsSeal), THREE_IMAGES, Broken::Lost),
        (
            Mistake::Pushed(pushed::Mistake::CounterNotCompared),
            OLDER_COPIES_AND_PUSHES,
            Broken::Old,
        ),
        (
            Mistake::Pushed(pushed::Mistake::SealedSecretTaken),
            STRANGERS_AND_PUSHES,
            Broken::Forged,
        ),
    ] {
        let Search { found, worlds } = search(depth, planted);
        let found: Vec<_> = found.iter().map(|(broken, _)| *broken).collect();
        assert_eq!(found, [broken], "{planted:?}, {worlds} worlds");
    }
}
