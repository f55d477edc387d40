// SPDX-License-Identifier: Apache-2.0
//! An operator's word that a volume's node has lost its TPM: once, another endorsement key may have the volume.
//!
//! It stands in the volume's record. The next machine that is admitted with the volume takes it: the volume belongs to that
//! machine's endorsement key from then on, and to no other. The node is told of it at every boot until it reports that one
//! has succeeded, so that it may lose its power in between; the report uses the word up, and so does time.

use super::records::{self, VolumeEntry};
use super::store::Store;
use super::volume_id::VolumeId;
use crate::error::Result;
use crate::protocol::admin::Readmission;

/// How long the word of an operator holds, in seconds: whoever held back the report of a boot would have it for ever.
pub const VALID_S: u64 = 24 * 60 * 60;

/// Whether the next machine may have the volume for the word of an operator: nobody has taken it yet.
#[must_use]
pub fn is_free(entry: &VolumeEntry, now_s: u64) -> bool {
    open(entry, now_s).is_some_and(|word| word.ek.is_none())
}

/// Whether the node with endorsement key `ek` has the volume for the word of an operator, which is not used up.
#[must_use]
pub fn is_of(entry: &VolumeEntry, ek: &str, now_s: u64) -> bool {
    entry.ek == ek && open(entry, now_s).is_some_and(|word| word.ek.as_deref() == Some(ek))
}

/// The word, while it holds.
fn open(entry: &VolumeEntry, now_s: u64) -> Option<&Readmission> {
    let word = entry.readmission.as_ref();
    word.filter(|word| word.holds(now_s))
}

/// Writes the word down, or takes it back: `word` replaces what there is. None where no such volume is registered.
pub fn set(store: &Store, id: &VolumeId, word: Option<&Readmission>) -> Result<Option<()>> {
    records::change(store, id, |entry| entry.readmission = word.cloned())
}

/// Gives the volume to the node with endorsement key `ek` if the word for it is still free, or is this node's already.
/// `false` if another one has the volume.
pub fn take(store: &Store, id: &VolumeId, ek: &str, now_s: u64) -> Result<bool> {
    let is_ours = records::change(store, id, |entry| {
        if is_free(entry, now_s) {
            ek.clone_into(&mut entry.ek);
            if let Some(word) = &mut entry.readmission {
                word.ek = Some(ek.to_owned());
            }
        }
        entry.ek == ek
    })?;
    Ok(is_ours == Some(true))
}
