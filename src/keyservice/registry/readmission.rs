// SPDX-License-Identifier: Apache-2.0
//! An operator's word that a volume's node has lost its TPM: once, another endorsement key may have the volume.
//!
//! It stands in the volume's record. The next machine that is admitted with the volume takes it: the volume belongs to that
//! machine's endorsement key from then on, and to no other. The node is told of it at every boot until it reports that the one
//! that was told last has succeeded, so that it may lose its power in between; that report uses the word up, and so does time.

use crate::error::Result;
use crate::keyservice::registry;
use crate::keyservice::session::Admitted;
use crate::keyservice::store::Store;
use crate::keyservice::volume_id::VolumeId;
use crate::protocol::admin::Readmission;
use crate::protocol::{EPOCHS_OF_AN_ANSWER, Remembered};

/// How long the word of an operator holds, in seconds: whoever held back the report of a boot would have it for ever.
pub const VALID_S: u64 = 24 * 60 * 60;

/// Writes the word down, or takes it back: `word` replaces what there is. None where no such volume is registered.
pub fn set(store: &Store, id: &VolumeId, grant: Option<&Readmission>) -> Result<Option<()>> {
    registry::change(store, id, |entry| {
        entry.readmission = grant.cloned();
        // What an answer for another word led to ends nothing of this one.
        entry.answered_to = None;
    })
}

/// Gives the volume to the node with endorsement key `ek` if the word for it is still free, or is this node's already.
/// `false` if another one has the volume.
pub fn take(store: &Store, id: &VolumeId, ek: &str, now_s: u64) -> Result<bool> {
    let is_ours = registry::change(store, id, |entry| {
        if entry.is_free(now_s) {
            ek.clone_into(&mut entry.ek);
            if let Some(grant) = &mut entry.readmission {
                grant.ek = Some(ek.to_owned());
            }
        }
        entry.ek == ek
    })?;
    Ok(is_ours == Some(true))
}

/// What the node of `session` is told of its volume. Where it has the volume for the word of an operator, the time
/// in that answer is later than that of every answer before and than what was reported, whatever this replica's clock says. None
/// where the volume is not this node's any more.
pub fn answer(
    store: &Store,
    id: &VolumeId,
    session: &Admitted,
    now_s: u64,
) -> Result<Option<Remembered>> {
    let remembered = registry::change(store, id, |entry| {
        if entry.ek != session.ek {
            return None;
        }
        let readmitted_s = entry.is_readmitted(&session.ek, now_s).then(|| {
            let told_s = entry.record.epoch / EPOCHS_OF_AN_ANSWER;
            let before_s = entry.answered_s.unwrap_or_default().max(told_s);
            now_s.max(before_s.saturating_add(1))
        });
        if readmitted_s.is_some() {
            entry.answered_s = readmitted_s;
            entry.answered_to = Some(session.tee_pubkey.clone());
        }
        let (record, rollback) = entry.told_to(session, now_s);
        Some(Remembered {
            record,
            readmitted_s,
            void_s: entry.void_s.filter(|_| readmitted_s.is_some()),
            rollback,
        })
    })?;
    Ok(remembered.flatten())
}
