// SPDX-License-Identifier: Apache-2.0
//! A node with two volumes, and all that its host, another system on its TPM, an operator and the key service do between its
//! boots: a breadth-first search over every order of these moves, with the real decisions of `judge`, `count` and `readmission`.
//!
//! The other model has one volume with both header copies and a first boot; here the headers are whole, the volumes exist, and
//! what is asked is whether anything opens that must not, and whether everything opens that must. A move is a boot, whole or
//! cut off before any of its writes, its headers in either order, each disk the newest or the copy that the host keeps; or one
//! of [`Act`]. A mistake that is planted is found for each property.
//!
//! It follows `facts/anchor_model.rs`, which is the model of a design that is to come (two handles, stale seals, floors, volumes
//! that are away), as far as there is code for it. What both say of the sentences of the issue about seals:
//!
//! - "C and C+1 fit" and "headers are written, then the counter is raised" do not keep level `epoch` against a host that cuts
//!   boots off: [`Mistake::CountAlone`] is that rule (C8 there).
//! - "a value drawn per boot, written to the record between headers and raise" has to be written after the last header:
//!   [`Mistake::NonceFirst`] is the other order. And it need be drawn only after a boot that was cut off.
//! - What the service remembers stands in for a record that is gone only while key ids are compared:
//!   [`Mistake::KeysNotCompared`] (C6 there). And nonces: a copy of a boot that was cut off has the epoch that was reported
//!   ([`Mistake::ReportedNonceNotCompared`]).
//!
//! Boots of several images, whose records the others cannot read, are in [`stale`], and those without the second volume in
//! [`away`].

mod away;
mod boot;
mod proofs;
mod pushed;
mod search;
mod stale;

use uuid::Uuid;

use super::super::count::Count;
use super::super::judge::VolumeProof;
use super::super::record::{Entry, State};
use super::*;

/// The key of a volume that another system has made.
const FORGED: u8 = 9;

/// What made a record that another system has put there: a policy that no header has.
const OTHER_SYSTEM: u8 = 0;

/// A disk: its header, and how new what is behind it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Sheet {
    key: u8,
    epoch: u64,
    nonce: u8,
    content: u8,
    /// The image whose PCR values the secret is sealed to.
    sealed_under: u8,
    /// Whether the boot that wrote the header was cut off before it opened the volume.
    is_of_cut: bool,
    /// Whether that boot, or the one before it that was cut off as well, could not read the record.
    is_of_stale: bool,
    /// What the header was compared with before that boot wrote it.
    compared: Compared,
    /// Whether a change of the secret was cut off before the header was written.
    has_leftover: bool,
}

/// What stands beside the counter where a header is judged.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Compared {
    WithReport,
    /// The keys were pushed by an operator.
    WithNothing,
}

/// What the key service was told last of a volume.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Told {
    epoch: u64,
    nonce: u8,
    /// The content that was the newest when the boot it was told of began.
    content: u8,
}

/// What a record remembers: of each volume, if it does, how far its epochs are ahead.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Remembered {
    /// The image that made it.
    made_by: u8,
    nonce: u8,
    ahead: [Option<i64>; 2],
    /// The epoch and the nonce that a volume was last open with, while it is away.
    away: [Option<(u64, u8)>; 2],
    /// Whether it stands for one that could not be read, and no boot with it has come to its end.
    is_carried: bool,
}

/// The node, its host and its service.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct World {
    /// In each place.
    records: [Option<Remembered>; 2],
    counter: Option<u64>,
    /// The highest counter that was removed: TPM 2.0 part 1, section 37.2.4.
    removed: u64,
    newest: [Sheet; 2],
    copies: [Sheet; 2],
    told: [Told; 2],
    /// Whether the operator has readmitted both volumes.
    word: bool,
    /// The time at which the service answers for that next.
    answers: u8,
    /// The last answer after which a boot was reported that had it.
    void: u8,
    /// The content at the start of the last session, and at its end.
    start: [u8; 2],
    end: [u8; 2],
    /// The last nonce that was drawn.
    drawn: u8,
    left: Left,
    /// Whether the host or another system has done what may cost the newest disk.
    harmed: bool,
    /// Whether a record was removed, or the TPM, and it may take an operator's word.
    gone: bool,
    broken: Option<Broken>,
}

/// How many moves of a kind there still are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Left {
    cuts: u8,
    acts: u8,
}

/// What the model is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Broken {
    /// What another system has made was opened.
    Forged,
    /// A content was opened that the last session began with, or an older one; for an operator's word, one that the session
    /// began with that was reported last, or an older one; where the record cannot be read see [`stale`].
    Old,
    /// The newest disks do not open, and nobody gave them up.
    Lost,
    /// A TPM that has no record of this node's opened something without an operator's word.
    Unasked,
}

/// Which copies the host has at first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Copies {
    /// It never attaches one.
    None,
    Newest,
    Older,
}

/// What is done between boots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Act {
    /// The host keeps a copy of a disk, in the place of the one before.
    Keep(usize),
    /// Another system makes a volume with a header that fits what is public, in the place of the copy, sealed to an image's values.
    Forge(usize, u8),
    /// Another system removes the record in this place.
    RemoveRecord(usize),
    /// The same, and it puts one of its own there.
    PutRecord(usize),
    RaiseCounter,
    /// Another system removes the counter, makes it again, and raises it once.
    MakeCounterAgain,
    /// The node gets a new TPM.
    ReplaceTpm,
    /// An operator says that the node has lost its TPM.
    Readmit,
}

/// What the program could do wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mistake {
    None,
    /// The nonce is not compared.
    CountAlone,
    /// The nonce goes to the record before the headers are written.
    NonceFirst,
    KeysNotCompared,
    /// The service's epoch is not compared.
    ReportNotCompared,
    /// The service's nonce is not compared.
    ReportedNonceNotCompared,
    /// The epochs of one answer of the service begin where those of another do.
    AnswersNotTold,
    /// What an answer led to counts after a boot that went on without it.
    VoidNotCompared,
    /// Where the record cannot be read.
    Stale(stale::Mistake),
    /// Where an operator pushes the keys.
    Pushed(pushed::Mistake),
    /// Where a volume is away.
    Away(away::Mistake),
}

impl World {
    /// After two boots. The copies are of the end of the last one, or of the one before.
    fn new(left: Left, copies: Copies) -> Self {
        let sheets = |epoch, content| {
            [1, 2].map(|key| Sheet {
                key,
                epoch,
                nonce: 1,
                content,
                sealed_under: 1,
                is_of_cut: false,
                is_of_stale: false,
                compared: Compared::WithReport,
                has_leftover: false,
            })
        };
        let told = Told {
            epoch: 4,
            nonce: 1,
            content: 2,
        };
        Self {
            records: [
                Some(Remembered {
                    made_by: 1,
                    nonce: 1,
                    ahead: [Some(0); 2],
                    away: [None; 2],
                    is_carried: false,
                }),
                None,
            ],
            counter: Some(4),
            removed: 0,
            newest: sheets(4, 3),
            copies: match copies {
                Copies::None | Copies::Newest => sheets(4, 3),
                Copies::Older => sheets(2, 2),
            },
            told: [told; 2],
            word: false,
            answers: 1,
            void: 0,
            start: [2; 2],
            end: [3; 2],
            drawn: 1,
            left,
            harmed: false,
            gone: false,
            broken: None,
        }
    }

    /// With the nonce of the record in this place.
    fn count(&self, place: usize) -> Option<Count> {
        Some(Count {
            counter: self.counter?,
            nonce: self.records[place].and_then(|record| nonce(record.nonce)),
        })
    }

    fn entry(&self, place: usize, volume: usize) -> Option<Entry> {
        let record = self.records[place]?;
        let ahead = record.ahead[volume]?;
        let number = number(volume);
        let mut entry = entry(number, number, State::Ready, Level::Epoch);
        entry.ahead = ahead;
        entry.away = record.away[volume].map(stamp);
        Some(entry)
    }

    fn remove(&mut self, place: usize) {
        let old = self.records[place].take();
        self.gone |= old.is_some_and(|record| record.made_by != OTHER_SYSTEM);
    }

    /// The world after this act, or why there is nothing to do.
    fn act(&self, act: Act) -> Option<Self> {
        let mut now = *self;
        if act != Act::Readmit {
            now.left.acts = now.left.acts.checked_sub(1)?;
        }
        match act {
            Act::Keep(volume) => now.copies[volume] = now.newest[volume],
            Act::Forge(volume, image) => {
                now.copies[volume] = Sheet {
                    key: FORGED,
                    epoch: self.count(0)?.next()?,
                    content: 0,
                    sealed_under: image,
                    ..self.newest[volume]
                };
            }
            Act::RemoveRecord(place) => now.remove(place),
            Act::PutRecord(place) => {
                now.remove(place);
                now.records[place] = Some(Remembered {
                    made_by: OTHER_SYSTEM,
                    nonce: 0,
                    ahead: [None; 2],
                    away: [None; 2],
                    is_carried: false,
                });
            }
            Act::RaiseCounter => {
                now.counter = Some(now.counter?.checked_add(1)?);
                now.harmed = true;
            }
            Act::MakeCounterAgain => {
                now.removed = now.removed.max(now.counter?);
                now.counter = Some(now.removed + 1);
                now.harmed = true;
            }
            Act::ReplaceTpm => {
                now.records = [None; 2];
                now.gone = true;
                (now.counter, now.removed) = (None, 0);
            }
            Act::Readmit => now.word = true,
        }
        (now != *self).then_some(now)
    }
}

/// The number of a volume's UUID and key.
fn number(volume: usize) -> u8 {
    u8::try_from(volume + 1).unwrap()
}

fn nonce(number: u8) -> Option<BootNonce> {
    BootNonce::from_bytes([number; NONCE_LEN])
}

fn stamp((epoch, number): (u64, u8)) -> Stamp {
    let nonce = nonce(number);
    Stamp { epoch, nonce }
}

impl Sheet {
    fn proof(&self, volume: usize) -> VolumeProof {
        VolumeProof {
            uuid: Uuid::from_bytes([number(volume); 16]),
            key_id: [self.key; KEY_LEN],
            stamp: stamp((self.epoch, self.nonce)),
        }
    }
}
