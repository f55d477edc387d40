// SPDX-License-Identifier: Apache-2.0
//! A boot of the node with two volumes, write for write.

use super::super::super::judge::{self, DeviceState, Readmission};
use super::super::super::readmission::Readmitted;
use super::*;
use crate::protocol::VolumeRecord;

/// Which disks are attached, and whose header is written first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Boot {
    pub(super) copies: [bool; 2],
    pub(super) order: [usize; 2],
}

/// The boot of both newest disks.
pub(super) const NEWEST: Boot = Boot {
    copies: [false; 2],
    order: [0, 1],
};

/// What the boot is about to do, judged before anything is written.
struct Judged {
    sheets: [Sheet; 2],
    readmitted: [Option<Readmitted>; 2],
}

impl World {
    /// The worlds after each write of this boot, or why it is refused.
    pub(super) fn boot(&self, boot: Boot, planted: Mistake) -> Result<Vec<Self>, String> {
        let judged = self.judge(boot, planted)?;
        let mut now = *self;
        let mut all = Vec::new();
        now.drawn += 1;
        now.answers += u8::from(judged.readmitted.iter().any(Option::is_some));
        now.harmed |= boot.copies.contains(&true);
        if now.record.is_none() {
            now.counter = Some(now.counter.unwrap_or(now.removed) + 1);
            now.record = Some(Remembered {
                nonce: now.drawn,
                ahead: [None; 2],
            });
            all.push(now);
        }
        now.write_headers(boot, &judged, planted, &mut all);
        now.open(boot, &judged);
        all.push(now);
        now.settle(&judged, &mut all);
        Ok(all)
    }

    fn judge(&self, boot: Boot, planted: Mistake) -> Result<Judged, String> {
        let refusal = |error: crate::error::Error| error.to_string();
        let sheets = [0, 1].map(|volume| self.attached(boot, volume));
        let mut readmitted = [None, None];
        for (volume, sheet) in sheets.iter().enumerate() {
            let mut proof = sheet.proof(volume);
            if planted == Mistake::KeysNotCompared {
                proof.key_id = [number(volume); KEY_LEN];
            }
            let entry = self.entry(volume);
            if entry.is_none() && self.word {
                let answer = Readmission {
                    record: self.record_of(volume, planted),
                    answered_s: if planted == Mistake::AnswersNotTold {
                        1
                    } else {
                        self.answers.into()
                    },
                };
                let taken = Readmitted::new(name(), Level::Epoch, &answer, &proof);
                readmitted[volume] = Some(taken.map_err(refusal)?);
                continue;
            }
            judge::permit(entry.as_ref(), DeviceState::Volume).map_err(refusal)?;
            let count = self.count().ok_or("there is no counter: restore")?;
            if planted == Mistake::CountAlone && count.last() == proof.stamp.epoch {
                proof.stamp.nonce = count.nonce;
            }
            judge::verify(&entry.unwrap(), count, Level::Epoch, &proof).map_err(refusal)?;
        }
        Ok(Judged { sheets, readmitted })
    }

    fn attached(&self, boot: Boot, volume: usize) -> Sheet {
        let from = if boot.copies[volume] {
            &self.copies
        } else {
            &self.newest
        };
        from[volume]
    }

    fn record_of(&self, volume: usize, planted: Mistake) -> VolumeRecord {
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

    /// `Anchor::begin_renewal`, the headers, and `Anchor::advance`.
    fn write_headers(
        &mut self,
        boot: Boot,
        judged: &Judged,
        planted: Mistake,
        all: &mut Vec<Self>,
    ) {
        let count = self.count().unwrap();
        let next = count.next().unwrap();
        let known = self.record.unwrap().nonce;
        let is_new = all.is_empty() && count.nonce_again().is_none();
        let nonce = if is_new { self.drawn } else { known };
        if count.is_raised_first() {
            self.raise(all);
        }
        if planted == Mistake::NonceFirst {
            self.tell(nonce, all);
        }
        for volume in boot.order {
            let readmitted = judged.readmitted[volume].as_ref();
            let ahead = readmitted.map(Readmitted::ahead);
            let ahead = ahead.or(self.record.unwrap().ahead[volume]).unwrap_or(0);
            let epoch = next.checked_add_signed(ahead).unwrap();
            let slot = if boot.copies[volume] {
                &mut self.copies[volume]
            } else {
                &mut self.newest[volume]
            };
            *slot = Sheet {
                epoch,
                nonce,
                ..judged.sheets[volume]
            };
            all.push(*self);
        }
        self.tell(nonce, all);
        while self.counter != Some(next) {
            self.raise(all);
        }
    }

    fn raise(&mut self, all: &mut Vec<Self>) {
        self.counter = self.counter.map(|counter| counter + 1);
        all.push(*self);
    }

    fn tell(&mut self, nonce: u8, all: &mut Vec<Self>) {
        let record = self.record.as_mut().unwrap();
        if record.nonce != nonce {
            record.nonce = nonce;
            all.push(*self);
        }
    }

    /// The file systems are mounted and written to.
    fn open(&mut self, boot: Boot, judged: &Judged) {
        for volume in 0..2 {
            if boot.copies[volume] {
                std::mem::swap(&mut self.newest[volume], &mut self.copies[volume]);
            }
            let sheet = &mut self.newest[volume];
            // The last session has ended with another content than it began with.
            let is_old = match judged.readmitted[volume] {
                Some(_) => sheet.content <= self.told[volume].content,
                None => sheet.content <= self.start[volume],
            };
            if sheet.key == FORGED {
                self.broken = Some(Broken::Forged);
            } else if is_old {
                self.broken = self.broken.or(Some(Broken::Old));
            }
            self.start[volume] = sheet.content;
            self.end[volume] += 1;
            sheet.content = self.end[volume];
        }
    }

    /// `Anchor::commit`, and the report.
    fn settle(&mut self, judged: &Judged, all: &mut Vec<Self>) {
        for (volume, readmitted) in judged.readmitted.iter().enumerate() {
            if let Some(readmitted) = readmitted {
                self.record.as_mut().unwrap().ahead[volume] = Some(readmitted.ahead());
            }
        }
        if judged.readmitted.iter().any(Option::is_some) {
            all.push(*self);
        }
        for volume in 0..2 {
            self.told[volume] = Told {
                epoch: self.newest[volume].epoch,
                nonce: self.newest[volume].nonce,
                content: self.start[volume],
            };
        }
        self.word = false;
        all.push(*self);
    }
}
