// SPDX-License-Identifier: Apache-2.0
//! A volume with a secret that the key service does not know is given the one that it does: the first boot could not reach
//! the service and made one itself, or the operator wants it.
//!
//! It is done here because it cannot be done later: the service gives keys only to a machine whose boot is not measured yet.
//! The header with the new secret is made and tried before anything is measured, and written with the one that counts the
//! boot. What this boot measures still follows from the old secret.

use log::warn;

use crate::config::{Config, Enroll, Source, Volume};
use crate::error::{Error, Result};
use crate::key::Secret;
use crate::sources::Sources;
use crate::sources::tpm::{NodeTpm, lock};
use crate::tpm::Sealed;
use crate::volume::{Keyed, Opened, Rekeyed};

impl Sources<'_> {
    /// Makes ready to give the volume the service's key, where that is due and the service gave one.
    ///
    /// That it cannot be made ready is no failure: the volume is open, and nothing of it has changed.
    pub(crate) fn enroll(self, volume: &Volume, keyed: &mut Keyed) -> Result<()> {
        let Some(consent) = consent(self.config, volume, keyed) else {
            return Ok(());
        };
        let asked = match lock(self.node_tpm)?.anchor()? {
            (_, Some(anchor)) => anchor.is_enrolment_asked(volume),
            (_, None) => false,
        };
        if consent == Enroll::Asked && !asked {
            return Ok(());
        }
        let Some(secret) = self.service.given(&keyed.uuid)? else {
            return Ok(());
        };
        let seal = |secret: &Secret| self.seal(secret);
        let policy = lock(self.node_tpm)?.policy;
        if let Err(error) = keyed.rekey(volume, policy, (Rekeyed::Enrolled, &secret), seal) {
            warn!(volume = volume.name.as_str(); "not enrolled, its secret stays what it is: {error}");
        }
        Ok(())
    }

    /// Seals a secret, and makes sure that it comes out again.
    pub(crate) fn seal(self, secret: &Secret) -> Result<Sealed> {
        let mut node_tpm = lock(self.node_tpm)?;
        let NodeTpm { tpm, policy, .. } = &mut *node_tpm;
        let policy = *policy;
        let sealed = tpm.seal(secret, policy)?;
        if tpm.unseal(&sealed, policy)?.expose() == secret.expose() {
            Ok(sealed)
        } else {
            Err(Error::failure("the TPM gives back another secret"))
        }
    }
}

/// On whose word the volume is given the service's key when the service gives one. None where it has just got it or was
/// opened with it, and where the configuration does not put the service first.
///
/// A secret that the node did not make is the service's of an earlier day: that it gives another one now may be a mistake,
/// so it takes the operator.
pub(crate) fn consent(config: &Config, volume: &Volume, keyed: &Keyed) -> Option<Enroll> {
    let service = config.service.as_ref()?;
    let place = |source| volume.sources.iter().position(|known| *known == source);
    let (first, used) = (place(Source::Service)?, place(keyed.source)?);
    let consent = if keyed.has_own_secret() {
        service.enroll
    } else {
        Enroll::Asked
    };
    (first < used && !has_been_enrolled(keyed)).then_some(consent)
}

/// Whether the volume's secret is the key service's now.
pub(crate) fn is_enrolled(opened: &Opened) -> bool {
    let keyed = opened.keyed();
    has_been_enrolled(keyed) || keyed.source == Source::Service
}

/// Whether this boot has given it the key service's key.
pub(crate) fn has_been_enrolled(keyed: &Keyed) -> bool {
    keyed.changed == Some(Rekeyed::Enrolled)
}
