// SPDX-License-Identifier: Apache-2.0
//! Every order of the moves, breadth first, and what is broken on the way.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::boot::{Boot, Second};
use super::*;

/// How far a search goes.
#[derive(Clone, Copy)]
pub(super) struct Depth {
    pub(super) moves: usize,
    pub(super) left: Left,
    pub(super) acts: &'static [Act],
    pub(super) copies: Copies,
    /// Which of the disks may be a copy.
    pub(super) attached: &'static [[bool; 2]],
    /// In which order headers are written.
    pub(super) orders: &'static [[usize; 2]],
    /// What may be booted.
    pub(super) images: &'static [u8],
    /// Whether an operator may push the keys.
    pub(super) pushes: &'static [bool],
    /// What a boot may ask of the second volume.
    pub(super) seconds: &'static [Second],
}

impl World {
    /// All worlds one move away.
    fn moves(&self, depth: Depth, planted: Mistake) -> Vec<Self> {
        let mut all: Vec<_> = depth.acts.iter().filter_map(|act| self.act(*act)).collect();
        let boots = depth.images.iter().flat_map(|&image| {
            depth.attached.iter().flat_map(move |&copies| {
                depth.orders.iter().flat_map(move |&order| {
                    depth.pushes.iter().flat_map(move |&is_pushed| {
                        let seconds = depth.seconds.iter();
                        seconds.map(move |&second| Boot {
                            image,
                            copies,
                            order,
                            is_pushed,
                            second,
                        })
                    })
                })
            })
        });
        for boot in boots {
            let mut worlds = match self.boot(boot, planted) {
                Ok(worlds) => worlds,
                Err(why) => {
                    let tells = ["attach", "readmit", "restore", WAITS];
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

    /// Whether the newest disks open in the boot of every image: by themselves; for an operator's word where a record was removed, or
    /// where one of them is away and an image cannot read what the other has written of that; or, where an update was cut off between two headers, when one of the two images was booted once.
    fn opens(&self, images: &[u8], planted: Mistake) -> bool {
        let asked = Self {
            word: self.word || self.gone || images.len() > 1 && self.is_without(),
            ..*self
        };
        let ends: Vec<_> = images
            .iter()
            .map(|&image| asked.whole(image, planted))
            .collect();
        let waits = |end: &Result<Self, String>| end.as_ref().is_err_and(|why| why.contains(WAITS));
        let every = |world: &Self| images.iter().all(|&it| world.whole(it, planted).is_ok());
        // A word for a node whose record is there begins other epochs, which the image that made that does not know.
        let may_wait = |end: &Result<Self, String>| end.is_ok() || waits(end) || self.word;
        ends.iter().all(Result::is_ok)
            || ends.iter().all(may_wait) && ends.iter().flatten().any(every)
    }

    /// The world after a whole boot of the newest disks.
    fn whole(&self, image: u8, planted: Mistake) -> Result<Self, String> {
        let worlds = self.boot(Boot::newest(image), planted)?;
        match worlds.last() {
            Some(world) if world.broken.is_none() => Ok(*world),
            _ => Err("broken".into()),
        }
    }
}

/// What a third image says where two records are named.
const WAITS: &str = "boot the image of that update once";

/// What a search has found broken, with the worlds on the way there, and how many it has seen.
pub(super) struct Search {
    pub(super) found: Vec<(Broken, Vec<World>)>,
    pub(super) worlds: usize,
}

pub(super) fn search(depth: Depth, planted: Mistake) -> Search {
    let start = World::new(depth.left, depth.copies);
    let mut seen = HashSet::from([fingerprint(&start)]);
    // Each with the number of the one that it follows.
    let mut all = vec![(start, 0)];
    let mut last = 0..1;
    let mut found: Vec<(Broken, Vec<World>)> = Vec::new();
    for _ in 0..depth.moves {
        let begin = all.len();
        for from in last {
            for mut world in all[from].0.moves(depth, planted) {
                if !seen.insert(fingerprint(&world)) {
                    continue;
                }
                if !world.harmed && world.broken.is_none() && !world.opens(depth.images, planted) {
                    world.broken = Some(Broken::Lost);
                }
                match world.broken {
                    Some(broken) if found.iter().any(|(known, _)| *known == broken) => {}
                    Some(broken) => found.push((broken, way(&all, from, &world))),
                    None => all.push((world, from)),
                }
                // One is enough of a mistake.
                if planted != Mistake::None && !found.is_empty() {
                    let worlds = seen.len();
                    return Search { found, worlds };
                }
            }
        }
        last = begin..all.len();
    }
    let worlds = seen.len();
    Search { found, worlds }
}

/// Stands for a world that was seen: two of a million have the same by a chance of one in 10 million.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// The worlds on the way to this one.
fn way(all: &[(World, usize)], mut from: usize, end: &World) -> Vec<World> {
    let mut way = vec![*end, all[from].0];
    while from != 0 {
        from = all[from].1;
        way.push(all[from].0);
    }
    way.reverse();
    way
}
