// SPDX-License-Identifier: Apache-2.0
//! An operator's word that an older state of a volume is gone on with: its disk came back from a backup, or lost its last writes.
//!
//! It stands in the volume's record and is for the node that has the volume when it is said: one that is readmitted with the volume
//! afterwards has it for that word alone. The first session in which the node shows a disk takes it, and from then on it is for the
//! epoch of that disk and no other. What is shown is what a header says that nobody has proven, so the node is told the epoch, and
//! compares it with the header that opens. A node that lost its power in between shows the same disk again. The report of the boot
//! that took it last uses it up, and so does time: a host that holds that report back has the same disk taken again for as long as
//! the word holds, and no other.
//!
//! What the service remembers of the volume is not put back: the boot that goes on counts from what its TPM counted. Where that was
//! put back as well the report says less than is remembered, which contradicts it, and uses the word up all the same.

use super::VolumeEntry;
use crate::error::Result;
use crate::keyservice::registry;
use crate::keyservice::session::Admitted;
use crate::keyservice::store::Store;
use crate::keyservice::volume_id::VolumeId;
use crate::protocol::admin::Rollback;
use crate::protocol::{EphemeralKey, VolumeRecord};

impl VolumeEntry {
    /// Whether a disk of `epoch` is gone on with, however old it is, by the node with endorsement key `ek`.
    #[must_use]
    pub fn may_roll_back(&self, ek: &str, epoch: u64, now_s: u64) -> bool {
        let word = self.rollback.as_ref();
        let word = word
            .filter(|word| word.holds(now_s) && word.ek.as_deref().is_none_or(|said| said == ek));
        word.is_some_and(|word| word.epoch.is_none_or(|said| said == epoch))
    }

    /// What `session` is told of the volume, and for which epoch there is an operator's word, if there is one.
    #[must_use]
    pub fn told_to(&self, session: &Admitted, now_s: u64) -> (VolumeRecord, Option<u64>) {
        let record = self.record.clone();
        let is_its = self.rollback_by.as_ref() == Some(&session.tee_pubkey);
        let word = self.rollback.as_ref();
        let word = word.filter(|word| is_its && word.holds(now_s));
        match word.and_then(|word| word.epoch) {
            None => (record, None),
            said @ Some(epoch) if epoch > record.epoch => (record, said),
            said @ Some(epoch) => {
                let nonce = None;
                (
                    VolumeRecord {
                        epoch,
                        nonce,
                        ..record
                    },
                    said,
                )
            }
        }
    }
}

/// Writes the word down for whoever has the volume: for a disk of `epoch`, or for the first that is shown. None where no such volume
/// is registered.
pub fn set(
    store: &Store,
    id: &VolumeId,
    epoch: Option<u64>,
    until_s: u64,
    now_s: u64,
) -> Result<Option<()>> {
    registry::change(store, id, |entry| {
        let ek = (!entry.is_free(now_s)).then(|| entry.ek.clone());
        entry.rollback = Some(Rollback { until_s, epoch, ek });
        entry.rollback_by = None;
    })
}

/// Takes it back.
pub fn cancel(store: &Store, id: &VolumeId) -> Result<Option<()>> {
    registry::change(store, id, |entry| {
        entry.rollback = None;
        entry.rollback_by = None;
    })
}

/// Takes the word for the session whose node, with endorsement key `ek`, drew `key`, and a disk of `epoch`. `false` where there
/// is none for that.
pub fn take(
    store: &Store,
    id: &VolumeId,
    (ek, key): (&str, &EphemeralKey),
    epoch: u64,
    now_s: u64,
) -> Result<bool> {
    let is_taken = registry::change(store, id, |entry| {
        let is_for_it = entry.ek == ek && entry.may_roll_back(ek, epoch, now_s);
        if let Some(word) = entry.rollback.as_mut().filter(|_| is_for_it) {
            word.epoch = Some(epoch);
            entry.rollback_by = Some(key.clone());
        }
        is_for_it
    })?;
    Ok(is_taken == Some(true))
}
