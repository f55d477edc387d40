// SPDX-License-Identifier: Apache-2.0
//! What a boot of the modelled node writes, in its order, whole or cut off, and what its running system does then.

use super::*;

impl Node {
    /// What one boot does, or why it does nothing.
    pub(super) fn boot(&self, level: Level) -> Result<Boot, String> {
        let entry_now = self.nv.entry();
        let seen = self.seen()?;
        if let (None, DeviceState::Volume, Some(told)) = (&entry_now, seen, self.readmission) {
            return self.readmit(level, told);
        }
        judge::permit(entry_now.as_ref(), seen).map_err(|error| error.to_string())?;
        let writes = match seen {
            DeviceState::Volume => self.unlock(entry_now.as_ref().unwrap(), level)?,
            DeviceState::Blank | DeviceState::Interrupted(_) => {
                self.make(entry_now.as_ref(), level)
            }
        };
        Ok(Boot {
            writes,
            exception: entry_now
                .and_then(|entry| entry.acceptance)
                .map(Allowed::Accepted),
        })
    }

    /// A boot of a volume that is readmitted: see `super::readmission`.
    pub(super) fn readmit(
        &self,
        level: Level,
        (key, epoch, nonce): (u8, u64, Option<BootNonce>),
    ) -> Result<Boot, String> {
        let proven = self.proven()?;
        let readmission = Readmission {
            record: VolumeRecord {
                key_id: Some(hex::encode([key; KEY_LEN])),
                epoch,
                nonce,
            },
            answered_s: self.fresh.into(),
            void_s: 0,
        };
        let refusal = |error: crate::error::Error| error.to_string();
        let readmitted = Readmitted::new(name(), level, &readmission, &proven).map_err(refusal)?;
        let counts = level >= Level::Epoch;
        let is_lost = self.nv.record.is_none();
        let define = is_lost.then(|| Write::Define(self.first_nonce(level)));
        let counting = match &define {
            None => self.counting(level),
            Some(define) => self.counting_after(define, level),
        };
        let mut entry = readmitted.entry();
        entry.checkpoint = (level == Level::Checkpoint).then_some(checkpoint(self.disk.generation));
        let epoch = counting.stamp.epoch.checked_add_signed(readmitted.ahead());
        let stamp = Stamp {
            epoch: epoch.unwrap(),
            ..counting.stamp
        };
        let renew = self.renew(&proven, stamp);
        let renew = renew.into_iter().filter(|_| counts);
        let settle = [Write::Nv(entry), Write::Report];
        Ok(Boot {
            writes: define
                .into_iter()
                .chain(counting.first)
                .chain(renew)
                .chain(counting.then)
                .chain(settle)
                .collect(),
            exception: Some(Allowed::Readmitted),
        })
    }

    /// Never first the only copy that is good: `Candidate::steps` in src/header/copies.rs has the same order.
    pub(super) fn renew(&self, proven: &VolumeProof, stamp: Stamp) -> [Write; 2] {
        let (uuid, key) = (proven.uuid.as_bytes()[0], proven.key_id[0]);
        let slot = slot(uuid, key, stamp);
        let mut renew = [Write::Secondary(slot), Write::Primary(slot)];
        if !Self::is_proven(self.disk.primary, proven) {
            renew.reverse();
        }
        renew
    }

    pub(super) fn unlock(&self, old: &Entry, level: Level) -> Result<Vec<Write>, String> {
        let proven = self.proven()?;
        let refusal = |error: crate::error::Error| error.to_string();
        judge::verify(old, self.nv.count(), level, &proven).map_err(refusal)?;
        let seen = checkpoint(self.disk.generation);
        // As in `boot::anchor::verify_freshness`: before anything is written.
        if level == Level::Checkpoint && old.acceptance != Some(Accepted::Rollback) {
            judge::freshness(old.checkpoint.as_ref(), &seen).map_err(refusal)?;
        }
        let (uuid, key) = (proven.uuid.as_bytes()[0], proven.key_id[0]);
        let counting = self.counting(level);
        let epoch = counting.stamp.epoch.checked_add_signed(old.ahead).unwrap();
        let stamp = Stamp {
            epoch,
            ..counting.stamp
        };
        let renew = self.renew(&proven, stamp);
        let mut new = entry(uuid, key, State::Ready, level);
        new.ahead = old.ahead;
        new.checkpoint = (level == Level::Checkpoint).then_some(seen);
        let settle = (new != *old).then_some(Write::Nv(new));
        let renew = renew.into_iter().filter(|_| level >= Level::Epoch);
        let report = self.readmission.map(|_| Write::Report);
        let begun = counting.first.into_iter().chain(renew);
        Ok(begun
            .chain(counting.then)
            .chain(settle)
            .chain(report)
            .collect())
    }

    pub(super) fn make(&self, old: Option<&Entry>, level: Level) -> Vec<Write> {
        let key = self.fresh;
        let uuid = self.disk.marker.unwrap_or(self.fresh);
        let mut provisioning = entry(uuid, key, State::Provisioning, level);
        provisioning.acceptance = old.and_then(|old| old.acceptance);
        let (remember, counting) = if self.nv.record.is_some() {
            (Write::Nv(provisioning), self.counting_new(self, level))
        } else {
            let first = Write::First(provisioning, self.first_nonce(level));
            let mut defined = self.clone();
            defined.apply(&first);
            let counting = self.counting_new(&defined, level);
            (first, counting)
        };
        let slot = slot(uuid, key, counting.stamp);
        let make = [
            remember,
            Write::Marker(Some(uuid)),
            Write::Content(key),
            Write::Primary(slot),
            Write::Secondary(slot),
            Write::Marker(None),
        ];
        let mut ready = entry(uuid, key, State::Ready, level);
        ready.checkpoint = (level == Level::Checkpoint).then_some(checkpoint(1));
        make.into_iter()
            .chain(counting.first)
            .chain(counting.then)
            .chain([Write::Nv(ready)])
            .collect()
    }

    /// The running system writes, and tells the TPM what is durable where it is to.
    pub(super) fn work(&mut self, level: Level) {
        self.apply(&Write::Commit);
        if level == Level::Checkpoint {
            let mut entry = self.nv.entry().unwrap();
            entry.checkpoint = Some(checkpoint(self.disk.generation));
            self.apply(&Write::Nv(entry));
        }
    }

    /// As `nightlatchctl anchor accept` does.
    pub(super) fn accept(&mut self, kind: Accepted) {
        let mut entry = self.nv.entry().unwrap();
        entry.acceptance = Some(kind);
        self.apply(&Write::Nv(entry));
    }

    /// Boots and stops before write number `cut`; `torn` cuts it in the middle instead. `None` if the boot has fewer.
    pub(super) fn boot_until(
        &self,
        level: Level,
        cut: usize,
        torn: bool,
    ) -> Result<Option<Self>, String> {
        let Boot { writes, .. } = self.boot(level)?;
        let Some(next) = writes.get(cut) else {
            return Ok(None);
        };
        let mut node = self.clone();
        node.fresh += 1;
        writes.iter().take(cut).for_each(|write| node.apply(write));
        if torn {
            node.tear(next);
        }
        Ok(Some(node))
    }

    pub(super) fn booted(&self, level: Level) -> Result<Self, String> {
        let mut node = self.clone();
        node.fresh += 1;
        let Boot { writes, .. } = self.boot(level)?;
        for write in &writes {
            node.apply(write);
        }
        Ok(node)
    }
}
