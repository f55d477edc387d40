// SPDX-License-Identifier: Apache-2.0
//! What a key service's record says to a volume whose own record in the TPM was made under other PCR values. Pure as well.

use uuid::Uuid;

use super::super::count::{Count, Fit};
use super::{VolumeProof, recorded};
use crate::config::Level;
use crate::error::{Error, Result};
use crate::header::{BootNonce, Stamp};
use crate::protocol::{EPOCHS_OF_AN_ANSWER, VolumeRecord};

/// What of a volume goes on in a record that is made anew, because the one before cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Continued {
    /// How far its epochs are ahead of the counter.
    pub ahead: i64,
    /// The nonce that the record of before had, where the header tells it: it is of the last boot that came to its end.
    pub nonce: Option<BootNonce>,
}

/// Whether a volume is the one whose record at the key service is `record`, where the TPM's own record was made under other PCR
/// values and cannot be read. The counter can: `counter` is its value.
///
/// The nonce of the TPM's record is not known, so what a boot has left that was cut off fits as well, as long as it is no older
/// than the last report to the service.
pub fn verify(
    record: &VolumeRecord,
    counter: u64,
    level: Level,
    proven: &VolumeProof,
) -> Result<Continued> {
    let VolumeProof { uuid, stamp, .. } = proven;
    if record.key_id.is_none() {
        return Err(Error::refused(format_args!(
            "rule D15: the key service was never told which key volume {uuid} has, so nothing shows that this is its disk; boot \
             what made the TPM's record, until that boot was reported"
        )));
    }
    recorded(record, &proven.key_id, Some(*stamp), None)?;
    let (answer_s, told_s) = [stamp.epoch, record.epoch]
        .map(|epoch| epoch / EPOCHS_OF_AN_ANSWER)
        .into();
    if answer_s != told_s {
        return Err(Error::refused(format_args!(
            "rule G26: the header's epoch {} follows from an operator's word, and no boot was reported since: {}",
            stamp.epoch,
            readmit(uuid)
        )));
    }
    let count = stamp.epoch % EPOCHS_OF_AN_ANSWER;
    let found = Stamp {
        epoch: count,
        nonce: stamp.nonce,
    };
    // With the header's own nonce, as the record's is not known.
    let known = Count {
        counter,
        nonce: stamp.nonce,
    };
    if level >= Level::Epoch && known.fits(found) != Fit::Newest {
        return Err(Error::refused(format_args!(
            "rule G26: the header is of epoch {}, and the TPM's counter is at {counter}: the disk was put back to an earlier \
             state, or lost its last writes; or another program has raised the counter, or the volume was last open at a level \
             that does not count. Attach the current disk. If it is: {}",
            stamp.epoch,
            readmit(uuid)
        )));
    }
    let ahead = i64::try_from(stamp.epoch.saturating_sub(count)).map_err(Error::refused)?;
    // The headers of a volume whose epochs are not counted are of whichever boot wrote them.
    let is_last = count == known.last() && level >= Level::Epoch;
    Ok(Continued {
        ahead,
        nonce: stamp.nonce.filter(|_| is_last),
    })
}

/// What an operator can do about a volume that nothing but their word lets go on.
#[must_use]
pub fn readmit(uuid: &Uuid) -> String {
    format!("\"nightlatchctl nodes readmit {uuid}\" at the key service lets the next boot open it")
}

/// The nonce that the headers of the last boot have in common, where any of them is of that boot. There can be one alone.
pub fn common_nonce(all: impl IntoIterator<Item = BootNonce>) -> Result<Option<BootNonce>> {
    let mut common = None;
    for nonce in all {
        if common.is_some_and(|other| other != nonce) {
            return Err(Error::refused(
                "rule G26: the volumes have headers of one epoch that two boots have written, so one of the disks is a copy that \
                 a boot was cut off with; attach the current disks",
            ));
        }
        common = Some(nonce);
    }
    Ok(common)
}
