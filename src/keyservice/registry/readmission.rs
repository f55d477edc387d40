// SPDX-License-Identifier: Apache-2.0
//! An operator's word that a volume's node has lost its TPM: once, another endorsement key may have the volume.
//!
//! It stands in the volume's record. The next machine that is admitted with the volume takes it: the volume belongs to that
//! machine's endorsement key from then on, and to no other. The node is told of it at every boot until it reports that one
//! has succeeded, so that it may lose its power in between; the report uses the word up, and so does time.

use crate::error::Result;
use crate::keyservice::registry;
use crate::keyservice::store::Store;
use crate::keyservice::volume_id::VolumeId;
use crate::protocol::admin::Readmission;

/// How long the word of an operator holds, in seconds: whoever held back the report of a boot would have it for ever.
pub const VALID_S: u64 = 24 * 60 * 60;

/// Writes the word down, or takes it back: `word` replaces what there is. None where no such volume is registered.
pub fn set(store: &Store, id: &VolumeId, grant: Option<&Readmission>) -> Result<Option<()>> {
    registry::change(store, id, |entry| entry.readmission = grant.cloned())
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
