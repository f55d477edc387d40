// SPDX-License-Identifier: Apache-2.0
//! Where the key service is a preference and no condition: a volume's other sources do without it, and when a host chooses
//! that they do.
//!
//! What each order comes to follows from `sources.rs` (which source a boot takes), `sources/enroll.rs` (when the service's
//! key takes the place of another) and `boot.rs` (what ends a boot before).

use crate::config::{ClusterFrom, Config, Level, Source, Volume};

/// What the service knows and a boot without it does not.
const KNOWN: &str = "what the service knows, such as a policy that changed or a node taken out";

/// What to do where the service is to be asked in each boot where images are signed: the TPM opens each of them, one that the
/// service does not admit included.
const ALONE_SIGNED: &str = "with tpm.signed that holds for each image that its key has signed, also one that the service does not \
                            admit; write sources = [\"service\"] where it is to be a condition of each boot, once the volume has its \
                            key";

/// What to do where the service is to be asked in each boot.
const ALONE: &str = "write sources = [\"service\"] where the service is to be a condition of each boot, once the volume has \
                     its key; another image then takes an operator's word";

/// A sentence for each source of the volume that does without the service, the one that opens it first.
///
/// None where the clusterID comes from the service: no boot goes on then without its answer, whatever opens the volumes.
pub(super) fn of_sources(config: &Config, volume: &Volume) -> Vec<String> {
    let place = |source| volume.sources.iter().position(|known| *known == source);
    let Some(service) = place(Source::Service) else {
        return Vec::new();
    };
    if config.measure.cluster == ClusterFrom::Service {
        return Vec::new();
    }
    let alone = match config.tpm.signed {
        None => ALONE,
        Some(_) => ALONE_SIGNED,
    };
    let tpm = place(Source::Tpm);
    let opens = tpm.map(|tpm| {
        if service < tpm {
            format!(
                "\"tpm\" opens the volume alone where \"service\" before it cannot be reached or denies: a host that \
                 blocks the network chooses that, and {KNOWN}, does not count in that boot; {alone}"
            )
        } else {
            format!(
                "\"tpm\" comes before \"service\", which is asked only where the TPM does not give the secret: {KNOWN}, \
                 does not count in a boot that the TPM opens; {alone}"
            )
        }
    });
    let makes = place(Source::Generate).map(|_| {
        let own = "a host that blocks the network at the first boot has the volume made with a secret of the node's own";
        match tpm {
            Some(tpm) if service < tpm => format!(
                "{own}, which the service does not know until the volume is enrolled; leave \"generate\" out where the \
                 service has to give the first secret"
            ),
            Some(_) => format!(
                "{own}, and no boot enrols it while \"tpm\" comes before \"service\"; put \"service\" first, or leave \
                 \"generate\" out where the service has to give the first secret"
            ),
            None => format!(
                "{own} that is kept nowhere, so that no later boot opens it; leave \"generate\" out, or add \"tpm\" \
                 to keep it"
            ),
        }
    });
    opens.into_iter().chain(makes).collect()
}

/// Whether a boot of another image takes an operator's word for the volume, although a key service remembers it; with the key that
/// it is about. See `anchor/stale.rs`.
pub(super) fn of_updates(config: &Config, volume: &Volume) -> Option<(&'static str, String)> {
    let has = |volume: &Volume, source| volume.sources.contains(&source);
    // What is sealed to the key that signs images is read in each of them.
    let asks = volume.level() != Level::Off && has(volume, Source::Service);
    if !asks || config.tpm.signed.is_some() {
        return None;
    }
    let word = "each boot of another image takes an operator's word at the key service, \"nightlatchctl nodes readmit UUID\"";
    if volume.level() == Level::Checkpoint {
        return Some((
            "anchor",
            format!(
                "with \"checkpoint\" {word}, since the last checkpoint cannot be read then; write \"epoch\" where updates have \
                 to go by themselves"
            ),
        ));
    }
    let is_sealed = |volume: &Volume| volume.level() != Level::Off && has(volume, Source::Tpm);
    let shows_nothing = !config.volumes().any(is_sealed);
    shows_nothing.then(|| {
        (
            "sources",
            format!(
                "no volume has \"tpm\" among its sources, so {word}: nothing shows that the TPM's record is this node's; add \
                 \"tpm\" behind \"service\" where updates have to go by themselves"
            ),
        )
    })
}

#[cfg(test)]
#[path = "tests/condition.rs"]
mod tests;
