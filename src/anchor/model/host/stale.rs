// SPDX-License-Identifier: Apache-2.0
//! Boots of an image that cannot read what another one has left in the TPM: `super::super::super::stale` write for write.
//!
//! Images are numbered, and each has PCR values of its own: it reads the records that it made itself, and the key service admits all
//! of them. A record has a name, which is the place and the image, and another system's has one that is in no header.
//!
//! What such a boot opens is of the last count or the next one, and no older than what the service was told last. The nonce of the
//! record is not known, so it gives up this: a copy whose header was written by a boot that was cut off after the last report that
//! arrived. Where no boot was cut off with it a copy of the session before is refused, even where every report was held back. Nothing
//! is given up that is as old as the report. The same holds for the boots after one that was cut off, until one has come to its end:
//! it has stamped the copy with the next count, for which the image of before asks no nonce either.
//!
//! The newest disks open in the boot of every image, whatever the power cuts in whatever order of images, with one exception: an
//! update that was cut off between two headers leaves two records that are both named, and a third image is refused until one of
//! the two was booted.
//!
//! The name of a record keeps no content from being opened: [`Mistake::NameNotCompared`] breaks nothing but the rule that a TPM which
//! has no record of this node's takes an operator's word. Nor does it say that the record is the one of before: a boot of the same
//! image on blank disks makes another one of that name.

use super::boot::{Boot, Judged};
use super::*;
use crate::anchor::judge::stale as stale_judge;
use crate::anchor::stale::{self, Carried};
use crate::protocol::VolumeRecord;
use crate::tpm::Places;

/// The places, as handles. The counter has another one, which is not looked at.
const PLACES: Places = Places {
    records: [0, 1],
    counter: 2,
    requests: 3,
};

/// What the program could do wrong where the record cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mistake {
    KeysNotCompared,
    /// The service's epoch is not compared.
    ReportNotCompared,
    /// The service's nonce is not compared.
    NonceNotCompared,
    CounterNotCompared,
    /// A record that the header names need not be there.
    NameNotCompared,
    /// The record of before is removed before the headers are written.
    RemovedFirst,
    /// A header that is repaired keeps its seal.
    RepairKeepsSeal,
}

impl World {
    /// The record that this image reads.
    fn own(&self, image: u8) -> Option<usize> {
        let is_read = |record: &Option<Remembered>| record.is_some_and(|it| it.made_by == image);
        self.records.iter().position(is_read)
    }

    /// The same if it is believed: a provisional one is not. That breaks nothing here, where every image sees both places; one of
    /// before sees the first alone, and could go on beside it with the same count.
    pub(super) fn readable(&self, image: u8) -> Option<usize> {
        let is_believed = |place: &usize| self.records[*place].is_some_and(|it| !it.is_carried);
        self.own(image).filter(is_believed)
    }

    pub(super) fn has_none_of_ours(&self) -> bool {
        let mut records = self.records.iter().flatten();
        records.all(|record| record.made_by == OTHER_SYSTEM)
    }

    /// `Anchor::carry_over`.
    pub(super) fn carry_over(
        &self,
        volume: usize,
        sheet: &Sheet,
        mut known: VolumeRecord,
        planted: super::Mistake,
    ) -> Result<Carried, String> {
        let mut proof = sheet.proof(volume);
        let mut counter = self.counter.ok_or("there is no counter: restore")?;
        if planted.is(Mistake::KeysNotCompared) {
            proof.key_id = [number(volume); KEY_LEN];
        }
        if planted.is(Mistake::ReportNotCompared) {
            known.epoch = 0;
        }
        if planted.is(Mistake::NonceNotCompared) {
            known.nonce = None;
        }
        let is_planted = planted.is(Mistake::CounterNotCompared);
        if is_planted || planted == super::Mistake::Pushed(pushed::Mistake::CounterNotCompared) {
            counter = sheet.epoch;
        }
        // `Anchor::named_by`: an own record that is not believed is there all the same.
        let made_by = |place: &u32| self.records[index(*place)].map(|record| record.made_by);
        let mut places = PLACES.records.into_iter();
        let named = places.find(|place| made_by(place) == Some(sheet.sealed_under));
        let mut places = PLACES.records.into_iter();
        let any = places.find(|place| made_by(place).is_some());
        let named = named.or(any.filter(|_| planted.is(Mistake::NameNotCompared)));
        let named = named.ok_or_else(|| format!("gone: {}", stale_judge::readmit(&proof.uuid)))?;
        let known = (&known, counter);
        let vouched = (Some(named), self.word);
        Carried::new(its_name(volume), Level::Epoch, known, &proof, vouched)
            .map_err(|error| error.to_string())
    }

    /// `Anchor::renew_record`: the place of the record that this boot makes.
    pub(super) fn renew_record(
        &mut self,
        image: u8,
        judged: &Judged,
        all: &mut Vec<Self>,
    ) -> Result<usize, String> {
        let record = remembered(image, judged)?;
        // What was known of one that is away is lost with the record, and it takes an operator's word.
        self.gone |= judged.open.contains(&false);
        // One of its own is written over, in one command.
        let own = self.own(image);
        let place = own.map_or_else(|| self.place_of_new(judged), Ok)?;
        if own.is_none() && self.records[place].take().is_some() {
            all.push(*self);
        }
        self.records[place] = Some(record);
        all.push(*self);
        Ok(place)
    }

    fn place_of_new(&self, judged: &Judged) -> Result<usize, String> {
        let refusal = |error: crate::error::Error| error.to_string();
        let mut others = PLACES.records.to_vec();
        others.retain(|place| self.records[index(*place)].is_some());
        let named = stale::named(&judged.carried).map_err(refusal)?;
        let at = stale::place_beside(PLACES, &others, &named).map_err(refusal)?;
        Ok(index(at.record))
    }

    /// `Anchor::remove_others`.
    pub(super) fn remove_others(&mut self, judged: &Judged, place: usize, all: &mut Vec<Self>) {
        if self.records[1 - place].take().is_some() {
            // One that is away may name it.
            self.gone |= judged.open.contains(&false);
            all.push(*self);
        }
    }

    /// What the header that is about to be written is sealed under. Keyslots come before it.
    pub(super) fn seal_anew(
        &mut self,
        boot: Boot,
        judged: &Judged,
        volume: usize,
        planted: super::Mistake,
        all: &mut Vec<Self>,
    ) -> u8 {
        let sheet = judged.sheets[volume];
        if sheet.sealed_under == boot.image || !planted.is(Mistake::RepairKeepsSeal) {
            return boot.image;
        }
        if sheet.has_leftover && judged.carried.is_empty() {
            return sheet.sealed_under;
        }
        self.slot(boot, volume).has_leftover = true;
        all.push(*self);
        boot.image
    }
}

impl super::Mistake {
    pub(super) fn is(self, which: Mistake) -> bool {
        self == Self::Stale(which)
    }
}

/// The record that this boot makes.
fn remembered(image: u8, judged: &Judged) -> Result<Remembered, String> {
    let refusal = |error: crate::error::Error| error.to_string();
    let made = Carried::record(&judged.carried).map_err(refusal)?;
    Ok(Remembered {
        made_by: image,
        nonce: made.nonce.map_or(0, |nonce| nonce.bytes()[0]),
        ahead: [0, 1].map(|volume| made.get(&its_name(volume)).map(|entry| entry.ahead)),
        away: [None; 2],
        is_carried: !judged.carried.is_empty(),
    })
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap()
}

/// A record has no two entries of one name.
fn its_name(volume: usize) -> VolumeName {
    VolumeName::try_from(format!("volume{volume}")).unwrap()
}
