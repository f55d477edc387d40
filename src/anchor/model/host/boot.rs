// SPDX-License-Identifier: Apache-2.0
//! A boot of the node with two volumes, write for write.

use super::super::super::judge::{self, DeviceState, Readmission};
use super::super::super::readmission::Readmitted;
use super::super::super::stale::Carried;
use super::*;
use crate::protocol::VolumeRecord;

/// What is booted, which disks are attached, and whose header is written first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Boot {
    pub(super) image: u8,
    pub(super) copies: [bool; 2],
    pub(super) order: [usize; 2],
    /// Whether the service is lost, and an operator pushes both keys and no word.
    pub(super) is_pushed: bool,
    pub(super) second: Second,
}

/// What this boot asks of the second volume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Second {
    /// That it opens.
    Required,
    /// Nothing: where it is refused the first one goes on without it.
    Optional,
    /// It is not there, or the image does not have it.
    Away,
}

impl Boot {
    /// The boot of both newest disks.
    pub(super) fn newest(image: u8) -> Self {
        Self {
            image,
            copies: [false; 2],
            order: [0, 1],
            is_pushed: false,
            second: Second::Required,
        }
    }
}

/// What the boot is about to do, judged before anything is written.
pub(super) struct Judged {
    pub(super) sheets: [Sheet; 2],
    /// Which of them go on.
    pub(super) open: [bool; 2],
    readmitted: [Option<Readmitted>; 2],
    /// The volumes for which the key service stands in, as the record cannot be read.
    pub(super) carried: Vec<Carried>,
}

impl World {
    /// The worlds after each write of this boot, or why it is refused.
    pub(super) fn boot(&self, boot: Boot, planted: Mistake) -> Result<Vec<Self>, String> {
        let judged = self.judge(boot, planted)?;
        let mut now = *self;
        let mut all = Vec::new();
        now.drawn += 1;
        now.answers += u8::from(self.word);
        now.harmed |= [0, 1].iter().any(|&it| boot.copies[it] && judged.open[it]);
        let place = match self.readable(boot.image) {
            Some(place) => place,
            None if self.records == [None; 2] => now.define(boot.image, &mut all),
            None => now.renew_record(boot.image, &judged, &mut all)?,
        };
        now.write_headers(boot, &judged, place, planted, &mut all);
        now.open(boot, &judged, place);
        if !judged.carried.is_empty() && self.has_none_of_ours() && !self.word {
            now.broken = now.broken.or(Some(Broken::Unasked));
        }
        all.push(now);
        if boot.is_pushed {
            // Nobody is told.
            all.push(now);
        } else {
            now.settle(&judged, place, &mut all);
        }
        Ok(all)
    }

    /// Both indices, in the first place.
    fn define(&mut self, image: u8, all: &mut Vec<Self>) -> usize {
        self.counter = Some(self.counter.unwrap_or(self.removed) + 1);
        self.records[0] = Some(Remembered {
            made_by: image,
            nonce: self.drawn,
            ahead: [None; 2],
            away: [None; 2],
            is_carried: false,
        });
        all.push(*self);
        0
    }

    fn judge(&self, boot: Boot, planted: Mistake) -> Result<Judged, String> {
        let mut judged = Judged {
            sheets: [0, 1].map(|volume| self.attached(boot, volume)),
            open: [false; 2],
            readmitted: [None, None],
            carried: Vec::new(),
        };
        for volume in 0..2 {
            if volume == 1 && boot.second == Second::Away {
                continue;
            }
            match self.judge_one(boot, volume, &mut judged, planted) {
                Ok(()) => judged.open[volume] = true,
                Err(_) if volume == 1 && boot.second == Second::Optional => {}
                Err(why) => return Err(why),
            }
        }
        Ok(judged)
    }

    fn judge_one(
        &self,
        boot: Boot,
        volume: usize,
        judged: &mut Judged,
        planted: Mistake,
    ) -> Result<(), String> {
        let refusal = |error: crate::error::Error| error.to_string();
        let place = self.readable(boot.image);
        let sheet = judged.sheets[volume];
        let mut proof = sheet.proof(volume);
        if planted == Mistake::KeysNotCompared {
            proof.key_id = [number(volume); KEY_LEN];
        }
        if place.is_none() && self.records != [None; 2] {
            let known = if boot.is_pushed {
                pushed::known(&sheet, &proof, planted)?
            } else {
                self.record_of(volume, Mistake::None)
            };
            match self.carry_over(volume, &sheet, known, planted) {
                Ok(taken) => judged.carried.push(taken),
                Err(_) if self.word => {
                    judged.readmitted[volume] = Some(self.readmit(volume, &proof, planted)?);
                }
                Err(why) => return Err(why),
            }
            return Ok(());
        }
        let entry = place.and_then(|place| self.entry(place, volume));
        if entry.is_none() && self.word {
            judged.readmitted[volume] = Some(self.readmit(volume, &proof, planted)?);
            return Ok(());
        }
        judge::permit(entry.as_ref(), DeviceState::Volume).map_err(refusal)?;
        let (place, mut entry) = (place.unwrap(), entry.unwrap());
        let count = self.count(place).ok_or("there is no counter: restore")?;
        if planted == Mistake::CountAlone && count.last() == proof.stamp.epoch {
            proof.stamp.nonce = count.nonce;
        }
        away::plant(planted, &mut entry, &mut proof)?;
        judge::verify(&entry, count, Level::Epoch, &proof).map_err(refusal)?;
        if sheet.sealed_under != boot.image && !boot.is_pushed {
            // The TPM does not open it, so the service was asked.
            let known = self.record_of(volume, planted);
            judge::recorded(&known, &proof.key_id, Some(proof.stamp), None).map_err(refusal)?;
        }
        Ok(())
    }

    /// By an operator's word, with the service's answer for it.
    fn readmit(
        &self,
        volume: usize,
        proof: &VolumeProof,
        planted: Mistake,
    ) -> Result<Readmitted, String> {
        let answered_s = if planted == Mistake::AnswersNotTold {
            1
        } else {
            self.answers.into()
        };
        let answer = Readmission {
            record: self.record_of(volume, planted),
            answered_s,
            void_s: if planted == Mistake::VoidNotCompared {
                0
            } else {
                self.void.into()
            },
        };
        Readmitted::new(name(), Level::Epoch, &answer, proof).map_err(|error| error.to_string())
    }

    fn attached(&self, boot: Boot, volume: usize) -> Sheet {
        let from = if boot.copies[volume] {
            &self.copies
        } else {
            &self.newest
        };
        from[volume]
    }

    pub(super) fn record_of(&self, volume: usize, planted: Mistake) -> VolumeRecord {
        let told = self.told[volume];
        VolumeRecord {
            key_id: Some(hex::encode([number(volume); KEY_LEN])),
            epoch: if planted == Mistake::ReportNotCompared {
                0
            } else {
                told.epoch
            },
            nonce: if planted == Mistake::ReportedNonceNotCompared {
                None
            } else {
                nonce(told.nonce)
            },
        }
    }

    /// `Anchor::begin_renewal`, the headers, `Anchor::remove_others`, `Anchor::note_away`, `Anchor::advance`, and
    /// `Anchor::note_back`.
    fn write_headers(
        &mut self,
        boot: Boot,
        judged: &Judged,
        place: usize,
        planted: Mistake,
        all: &mut Vec<Self>,
    ) {
        let count = self.count(place).unwrap();
        let next = count.next().unwrap();
        let known = self.records[place].unwrap().nonce;
        // One that was made for an operator's word has the nonce of this boot.
        let has_one = known == self.drawn || count.nonce_again().is_some();
        let nonce = if has_one { known } else { self.drawn };
        if count.is_raised_first() {
            self.raise(all);
        }
        if planted == Mistake::NonceFirst {
            self.tell(nonce, place, all);
        }
        if planted.is(stale::Mistake::RemovedFirst) {
            self.remove_others(judged, place, all);
        }
        if planted.is_away(away::Mistake::BackBeforeHeaders) {
            self.note_back(judged, place, all);
        }
        for volume in boot.order.into_iter().filter(|it| judged.open[*it]) {
            let readmitted = judged.readmitted[volume].as_ref();
            let ahead = readmitted.map(Readmitted::ahead);
            let ahead = ahead.or(self.records[place].unwrap().ahead[volume]);
            let epoch = next.checked_add_signed(ahead.unwrap_or(0)).unwrap();
            let sealed_under = self.seal_anew(boot, judged, volume, planted, all);
            *self.slot(boot, volume) = Sheet {
                epoch,
                nonce,
                sealed_under,
                is_of_cut: true,
                is_of_stale: self.records[place].unwrap().is_carried
                    || judged.sheets[volume].is_of_stale,
                compared: if boot.is_pushed {
                    Compared::WithNothing
                } else {
                    judged.sheets[volume].compared
                },
                has_leftover: false,
                ..judged.sheets[volume]
            };
            all.push(*self);
        }
        self.remove_others(judged, place, all);
        let noted_late = planted.is_away(away::Mistake::NotedAfterRaise);
        if !noted_late {
            self.note_away(judged, place, planted, all);
        }
        self.tell(nonce, place, all);
        while self.counter != Some(next) {
            self.raise(all);
        }
        if noted_late {
            self.note_away_with(count.last_open(), judged, place, all);
        }
        if !planted.is_away(away::Mistake::BackAfterMapping) {
            self.note_back(judged, place, all);
        }
    }

    pub(super) fn slot(&mut self, boot: Boot, volume: usize) -> &mut Sheet {
        if boot.copies[volume] {
            &mut self.copies[volume]
        } else {
            &mut self.newest[volume]
        }
    }

    fn raise(&mut self, all: &mut Vec<Self>) {
        self.counter = self.counter.map(|counter| counter + 1);
        all.push(*self);
    }

    fn tell(&mut self, nonce: u8, place: usize, all: &mut Vec<Self>) {
        let record = self.records[place].as_mut().unwrap();
        if record.nonce != nonce {
            record.nonce = nonce;
            all.push(*self);
        }
    }

    /// The file systems are mounted and written to.
    fn open(&mut self, boot: Boot, judged: &Judged, place: usize) {
        let record = self.records[place].as_mut().unwrap();
        let is_carried = std::mem::take(&mut record.is_carried);
        for volume in [0, 1].into_iter().filter(|it| judged.open[*it]) {
            if boot.copies[volume] {
                std::mem::swap(&mut self.newest[volume], &mut self.copies[volume]);
            }
            let sheet = &mut self.newest[volume];
            // A session has ended with another content than it began with.
            let (start, told) = (self.start[volume], self.told[volume].content);
            let was = judged.sheets[volume];
            let is_given_up = was.is_of_cut && (is_carried || was.is_of_stale);
            let is_by_push =
                was.is_of_cut && (boot.is_pushed || was.compared == Compared::WithNothing);
            let is_old = match judged.readmitted[volume] {
                None if is_by_push && is_carried => false,
                None if was.compared == Compared::WithNothing => false,
                None if is_given_up => sheet.content <= told,
                Some(_) => sheet.content <= told,
                None => sheet.content <= start,
            };
            if sheet.key == FORGED {
                self.broken = Some(Broken::Forged);
            } else if is_old {
                self.broken = self.broken.or(Some(Broken::Old));
            }
            self.start[volume] = sheet.content;
            self.end[volume] += 1;
            sheet.content = self.end[volume];
            (sheet.is_of_cut, sheet.is_of_stale) = (false, false);
            sheet.compared = Compared::WithReport;
        }
    }

    /// `Anchor::commit`, and the report.
    fn settle(&mut self, judged: &Judged, place: usize, all: &mut Vec<Self>) {
        // Where it was not done before.
        self.note_back(judged, place, all);
        for (volume, readmitted) in judged.readmitted.iter().enumerate() {
            if let Some(readmitted) = readmitted {
                let record = self.records[place].as_mut().unwrap();
                record.ahead[volume] = Some(readmitted.ahead());
            }
        }
        if judged.readmitted.iter().any(Option::is_some) {
            all.push(*self);
        }
        for volume in [0, 1].into_iter().filter(|it| judged.open[*it]) {
            self.told[volume] = Told {
                epoch: self.newest[volume].epoch,
                nonce: self.newest[volume].nonce,
                content: self.start[volume],
            };
        }
        if self.word {
            self.void = self.answers - 1;
        }
        self.word = false;
        all.push(*self);
    }
}
