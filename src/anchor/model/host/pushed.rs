// SPDX-License-Identifier: Apache-2.0
//! Boots whose keys an operator pushes: no service, another image's record, and nothing said but the keys.
//!
//! The header's own word takes the place of the service's record: it is authentic, since nobody else can have one that the key
//! opens. So a volume that another system has made stays closed, and the counter refuses what is older than the last boot. What is
//! given up is what the nonce of the record would have refused: each copy whose header was written by a boot that was cut off, however
//! old its content is, and what a boot by push that was cut off has made of it. A key service gives up less, as it compares with its last report.
//!
//! Not modelled: the words `readmit` and `rollback`, which give up the age altogether; and that a TPM is replaced between the copy and the
//! push, where a copy of another TPM's count passes that happens to be the count of this one, since how far the epochs are ahead
//! is in the record that cannot be read.

use super::*;
use crate::protocol::VolumeRecord;

/// What the program could do wrong with a push.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mistake {
    CounterNotCompared,
    /// The header is opened with what the TPM has sealed, and not with the key that was pushed.
    SealedSecretTaken,
}

/// What stands for the record of a volume whose key was pushed: `record_of` in `src/sources/recovery.rs`.
pub(super) fn known(
    sheet: &Sheet,
    proof: &VolumeProof,
    planted: super::Mistake,
) -> Result<VolumeRecord, String> {
    let takes_sealed = planted == super::Mistake::Pushed(Mistake::SealedSecretTaken);
    if sheet.key == FORGED && !takes_sealed {
        return Err("the secret does not open it: attach the right disk".into());
    }
    Ok(VolumeRecord {
        key_id: Some(hex::encode(proof.key_id)),
        epoch: proof.stamp.epoch,
        nonce: proof.stamp.nonce,
    })
}
