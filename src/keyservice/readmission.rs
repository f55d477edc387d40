// SPDX-License-Identifier: Apache-2.0
//! An operator's word that a volume's node has lost its TPM: once, another endorsement key may have the volume.
//!
//! It stands in the volume's record. The next machine that is admitted with the volume takes it: the volume belongs to that
//! machine's endorsement key from then on, and to no other. The node is told of it at every boot until it reports that one
//! has succeeded, so that it may lose its power in between; the report uses the word up, and so does time.

use super::records::{VOLUMES, VolumeEntry, parse, text};
use super::store::Store;
use super::volume_id::VolumeId;
use crate::error::{Error, Result};
use crate::protocol::admin::Readmission;

/// How long the word of an operator holds, in seconds: whoever held back the report of a boot would have it for ever.
pub const VALID_S: u64 = 24 * 60 * 60;

/// How often a change is tried again because somebody else changed the same.
const TRIES_MAX: usize = 16;

/// Whether the next machine may have the volume for the word of an operator: nobody has taken it yet.
#[must_use]
pub fn is_free(entry: &VolumeEntry, now_s: u64) -> bool {
    let open = entry.readmission.as_ref().filter(|it| now_s < it.until_s);
    open.is_some_and(|it| it.ek.is_none())
}

/// Whether the node with endorsement key `ek` has the volume for the word of an operator, which is not used up.
#[must_use]
pub fn is_of(entry: &VolumeEntry, ek: &str, now_s: u64) -> bool {
    let open = entry.readmission.as_ref().filter(|it| now_s < it.until_s);
    entry.ek == ek && open.is_some_and(|it| it.ek.as_deref() == Some(ek))
}

/// Writes the word down, or takes it back: `word` replaces what there is. None where no such volume is registered.
pub fn set(
    store: &Store,
    id: &VolumeId,
    word: Option<&Readmission>,
) -> Result<Option<VolumeEntry>> {
    change(store, id, |entry| {
        entry.readmission = word.cloned();
        true
    })
}

/// Gives the volume to the node with endorsement key `ek` if the word for it is still free, or is this node's already.
/// `false` if another one has the volume.
pub fn take(store: &Store, id: &VolumeId, ek: &str, now_s: u64) -> Result<bool> {
    let changed = change(store, id, |entry| {
        let is_free = is_free(entry, now_s);
        if is_free {
            ek.clone_into(&mut entry.ek);
            if let Some(word) = &mut entry.readmission {
                word.ek = Some(ek.to_owned());
            }
        }
        is_free
    })?;
    Ok(changed.is_some_and(|entry| entry.ek == ek))
}

/// Changes the volume's entry unless `work` says that there is nothing to change. Returns it as it is then.
fn change(
    store: &Store,
    id: &VolumeId,
    work: impl Fn(&mut VolumeEntry) -> bool,
) -> Result<Option<VolumeEntry>> {
    for _ in 0..TRIES_MAX {
        let Some(old) = store.get(&format!("{VOLUMES}{id}"))? else {
            return Ok(None);
        };
        let mut entry: VolumeEntry = parse(&old)?;
        if !work(&mut entry) {
            return Ok(Some(entry));
        }
        if store.swap(&[(old, text(&entry)?)])? == [true] {
            return Ok(Some(entry));
        }
    }
    Err(Error::temporary(format_args!(
        "volume {id}: its record changes all the time"
    )))
}
