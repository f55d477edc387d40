// SPDX-License-Identifier: Apache-2.0
//! A host that keeps a copy of a disk and boots it, cut off after its headers, for each boot of the newest disk that it lets
//! through: the copy gets the newest count and keeps its old content.
//!
//! All that it can do in a number of moves is played through: boots of the newest disk and of the copy, whole and cut before
//! each write, and the copy made anew. With the program of before, whose headers have a count and nothing else, it gets an old
//! content opened; with the one of now it does not.

use std::collections::HashSet;

use super::*;

/// A node, the copy that its host keeps, and how old the content may be that is opened.
#[derive(Clone, Eq, Hash, PartialEq)]
struct Kept {
    node: Node,
    copy: Disk,
    /// The content at the start of the last session.
    oldest: u64,
    /// The newest content that any disk has had.
    newest: u64,
    cuts: u8,
    /// A content from before the last session was opened.
    broken: bool,
}

/// What the host does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Move {
    Keep,
    Boot(Which),
    /// Cut off before the write of this number.
    Cut(Which, usize),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Which {
    Newest,
    Copy,
}

const MOVES: usize = 6;
const CUTS: u8 = 3;

impl Kept {
    fn new(program: Program) -> Self {
        let mut node = Node {
            program,
            ..Node::new()
        };
        node = node.booted(Level::Epoch).unwrap();
        Self {
            copy: node.disk,
            node,
            oldest: 1,
            newest: 1,
            cuts: CUTS,
            broken: false,
        }
    }

    /// With the other disk attached.
    fn with(&self, which: Which) -> Self {
        let mut with = self.clone();
        if which == Which::Copy {
            std::mem::swap(&mut with.node.disk, &mut with.copy);
        }
        with
    }

    /// A whole boot, and what the running system writes; `None` where it is refused.
    fn boots(&self, which: Which) -> Option<Self> {
        let mut after = self.with(which);
        after.node = after.node.booted(Level::Epoch).ok()?;
        let content = &mut after.node.disk.generation;
        after.broken = *content < after.oldest;
        after.oldest = *content;
        after.newest += 1;
        *content = after.newest;
        Some(after)
    }

    fn cut(&self, which: Which, at: usize) -> Option<Self> {
        let mut after = self.with(which);
        after.cuts = after.cuts.checked_sub(1)?;
        after.node = after
            .node
            .boot_until(Level::Epoch, at, false)
            .ok()
            .flatten()?;
        // The other disk stays the newest one.
        Some(after.with(which))
    }

    fn moves(&self) -> Vec<(Move, Self)> {
        let mut all = Vec::new();
        let mut kept = self.clone();
        kept.copy = kept.node.disk;
        all.push((Move::Keep, kept));
        for which in [Which::Newest, Which::Copy] {
            all.extend(self.boots(which).map(|it| (Move::Boot(which), it)));
            let cuts = (0..).map_while(|at| Some((Move::Cut(which, at), self.cut(which, at)?)));
            all.extend(cuts);
        }
        all
    }
}

/// The shortest way to an old content that is opened, and how many states were looked at.
fn shortest(program: Program) -> (Option<Vec<Move>>, usize) {
    let start = Kept::new(program);
    let mut seen = HashSet::from([start.clone()]);
    let mut last = vec![(start, Vec::new())];
    for _ in 0..MOVES {
        let mut next = Vec::new();
        for (state, way) in &last {
            for (step, after) in state.moves() {
                let way: Vec<_> = way.iter().copied().chain([step]).collect();
                if after.broken {
                    return (Some(way), seen.len());
                }
                if seen.insert(after.clone()) {
                    next.push((after, way));
                }
            }
        }
        last = next;
    }
    (None, seen.len())
}

#[test]
fn a_copy_that_is_kept_at_the_newest_count_by_boots_that_are_cut_off_is_refused() {
    let (way, states) = shortest(Program::Now);
    assert_eq!(way, None);
    assert!(states > 1_000, "only {states} states were reached");
}

/// The control: the same moves find it where the headers have a count and nothing else.
#[test]
fn a_count_alone_does_not_refuse_it() {
    let (way, _) = shortest(Program::Before);
    let way = way.expect("expected a way");
    let copied = |step: &&Move| matches!(step, Move::Cut(Which::Copy, _));
    assert!(way.iter().any(|step| copied(&step)), "{way:?}");
}

/// What the program of before has left, interrupted or not, goes on opening, and has a nonce from the first whole boot on.
#[test]
fn a_node_of_before_gets_a_nonce_at_its_next_boot_whatever_the_power_cuts() {
    for level in [Level::Epoch, Level::Checkpoint] {
        let mut states = 0;
        for counted in 1..3 {
            let mut node = Kept::new(Program::Before).node;
            for _ in 0..counted {
                node = node.booted(level).unwrap();
            }
            for before in proofs::crashed(&node, level, 2) {
                let now = Node {
                    program: Program::Now,
                    ..before
                };
                assert_eq!(now.nv.count().nonce, None);
                for cut in proofs::crashed(&now, level, 3) {
                    states += 1;
                    let up = cut.booted(level).unwrap();
                    assert!(up.nv.count().is_raised_first(), "{cut:?}");
                    assert_eq!(up.disk.content, node.disk.content);
                    // The disk as the program of before has left it is an old one now.
                    proofs::with_disk(&up, now.disk).boot(level).unwrap_err();
                    // And so is what the boot that was cut off has left.
                    proofs::with_disk(&up, cut.disk).boot(level).unwrap_err();
                    up.boot(level).unwrap();
                }
            }
        }
        assert!(states > 100, "only {states} states were reached");
    }
}
