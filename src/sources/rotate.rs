// SPDX-License-Identifier: Apache-2.0
//! A volume's secret drawn anew, or sealed anew, because an operator asked for it: `nightlatchctl rotate`.
//!
//! It is done as an enrolment is: the header is made in memory with the other pair of keyslots, what was sealed is unsealed and
//! each keyslot tried, and it is written with the one that counts the boot. What this boot measures still follows from the old
//! secret. A boot that is cut off after its headers and before the request is taken away does it once more, which is one more
//! change of the same kind: no boot can tell a secret that was drawn for a request from another one.

use crate::anchor::requests::Rotation;
use crate::config::{Source, Volume};
use crate::error::{Error, Result};
use crate::key::Secret;
use crate::sources::Sources;
use crate::sources::tpm::lock;
use crate::volume::{Keyed, Rekeyed};

impl Sources<'_> {
    /// Makes ready what was asked for, unless this boot has done so for another reason.
    pub(super) fn rotate(
        self,
        volume: &Volume,
        keyed: &mut Keyed,
        rotation: Rotation,
    ) -> Result<()> {
        let change = keyed.next_change();
        let is_done = match rotation {
            Rotation::Seal => change.is_some(),
            // Where it was enrolled since it was asked for, another secret would be one that the service does not know.
            Rotation::Secret => {
                matches!(change, Some(Rekeyed::Enrolled | Rekeyed::Rotated))
                    || !keyed.has_own_secret()
                    || keyed.source == Source::Service
            }
        };
        if is_done {
            return Ok(());
        }
        // Nobody else has it.
        if rotation == Rotation::Secret && !volume.sources.contains(&Source::Tpm) {
            return Err(Error::refused(
                "only the TPM would have another secret, and it is none of the volume's sources: \"nightlatchctl rotate cancel\" takes \
                 that back",
            ));
        }
        let (rekeyed, secret) = match rotation {
            Rotation::Secret => (Rekeyed::Rotated, Secret::random()?),
            Rotation::Seal => {
                let same = Secret::new(keyed.secret().expose().to_vec());
                (Rekeyed::Sealed, same)
            }
        };
        let policy = lock(self.node_tpm)?.policy;
        let seal = |secret: &Secret| self.seal(secret);
        keyed.rekey(volume, policy, (rekeyed, &secret), seal)
    }
}

/// What of a volume's secret this boot has made anew.
pub(crate) fn rotated(keyed: &Keyed) -> Option<Rotation> {
    match keyed.changed? {
        Rekeyed::Enrolled => None,
        Rekeyed::Rotated => Some(Rotation::Secret),
        Rekeyed::Sealed => Some(Rotation::Seal),
    }
}
