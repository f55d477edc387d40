// SPDX-License-Identifier: Apache-2.0
//! A TPM that was cleared has forgotten its node's volumes, and still is the TPM whose volumes a key service remembers.
//!
//! `TPM2_Clear` removes the indices and everything that was sealed, and leaves the endorsement key. The service gives a
//! volume's key to that key's holder alone, and knows the volume's key id and the epoch it was told of last. A new counter
//! starts above every one this TPM ever had (TPM 2.0 part 1, "NV counters"), so what is written from now on is newer.

use super::judge::Proven;
use super::record::{Accepted, Entry, Record, State};
use super::{Anchor, Exception};
use crate::config::{Level, Volume};
use crate::error::{Error, Result};
use crate::tpm::Tpm;

impl Anchor {
    /// Whether this is a volume without an entry.
    #[must_use]
    pub fn is_unknown(&self, volume: &Volume) -> bool {
        self.entry(volume).is_none()
    }

    /// Remembers a volume that the service's record has shown to be this node's, see [`super::judge::recollected`].
    ///
    /// Its epoch counts from the end of the first boot that succeeds; until then every boot measures the exception.
    pub fn recollect(
        &mut self,
        tpm: &mut Tpm,
        volume: &Volume,
        proven: &Proven,
    ) -> Result<Exception> {
        if self.held.is_none() {
            // Empty, because a volume may have an entry only once the counter is known to be above its epoch.
            self.define(tpm, Record::default())?;
        }
        if volume.level() >= Level::Epoch && self.next_epoch()? <= proven.epoch {
            return Err(Error::refused(format_args!(
                "rule G26: the header is of epoch {}, and the TPM counts only {}: it is not the TPM this volume was counted \
                 with; restore the data into a new volume",
                proven.epoch, self.counter
            )));
        }
        let entry = Entry {
            name: volume.name.clone(),
            uuid: proven.uuid,
            key_id: proven.key_id,
            state: State::Ready,
            level: Level::Identity,
            acceptance: Some(Accepted::ServiceRecord),
            checkpoint: None,
            enroll: false,
        };
        if let Some(held) = &mut self.held {
            held.record.set(entry)?;
        }
        self.write(tpm)?;
        Ok(super::exception(volume, Accepted::ServiceRecord))
    }
}
