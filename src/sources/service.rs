// SPDX-License-Identifier: Apache-2.0
//! The key service in this boot: asked once, for all volumes, and told at the end how they are.

mod exchange;

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use log::{debug, warn};

use crate::anchor::failure::{Failure, FailurePlace};
use crate::anchor::record::Accepted;
use crate::anchor::{Allowed, judge};
use crate::client::{Client, Cluster, KeyRequest, Logs};
use crate::config::{ClusterFrom, Config, KeyService, ServiceProtocol, Source, Volume};
use crate::error::{Doing, Error, Exit, Result};
use crate::key::Secret;
use crate::protocol::{
    Acceptance, LastFailure, Remembered, VolumeClaim, VolumeRecord, VolumeReport,
};
use crate::sources::service::exchange::Exchange;
use crate::sources::tpm::{NodeTpm, lock};
use crate::status::Recorder;
use crate::volume::{Found, Keyed, Opened};

/// The key service. One thread at a time talks to it.
#[derive(Debug)]
pub(crate) struct ServiceSession(Option<Mutex<Exchange>>);

/// How the service is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asking {
    /// As long as its deadline says.
    Usually,
    /// Once more, also where it has denied, while somebody else may give a key too.
    Briefly,
    /// Not at all where it gave nothing before: an operator waits for what comes of a push.
    Not,
}

/// How long it is asked [`Asking::Briefly`].
const BRIEFLY: Duration = Duration::from_secs(10);

impl ServiceSession {
    /// Reads what is needed for it; nothing is asked yet. What the service denies stays denied as long as this lives, but for
    /// [`Asking::Briefly`], and for volumes that have to be there where others need not.
    pub(crate) fn open(top: &Path, config: &Config) -> Result<Self> {
        let Some(service) = config.service.as_ref() else {
            return Ok(Self(None));
        };
        let mut exchange = Exchange::new(Client::new(service, top)?);
        exchange.request.last_failure = last_failure(config, service);
        Ok(Self(Some(Mutex::new(exchange))))
    }

    /// From now on it is asked so.
    pub(crate) fn ask_so(&self, asking: Asking) -> Result<()> {
        if let Some(mut exchange) = self.exchange()? {
            exchange.asking = asking;
            if asking != Asking::Usually {
                exchange.client.hasten(BRIEFLY);
            }
            if asking == Asking::Briefly {
                exchange.client.forget_denials();
            }
        }
        Ok(())
    }

    /// Asks the service if a volume needs it for certain, or the clusterID does. Others may ask for the same later.
    pub(crate) fn ask_early(
        &self,
        top: &Path,
        config: &Config,
        node_tpm: &Mutex<NodeTpm>,
        found: &[(&Volume, Found)],
        record: &Recorder,
    ) -> Result<()> {
        let Some(mut exchange) = self.exchange()? else {
            return Ok(());
        };
        let request = KeyRequest {
            volumes: Vec::new(),
            cluster: config.measure.cluster == ClusterFrom::Service,
            logs: Logs::read(top, &config.tpm.tcti),
            last_failure: exchange.request.last_failure.clone(),
        };
        exchange.request(request, claims(node_tpm, found)?);
        if exchange.asking == Asking::Not && !exchange.request.cluster {
            if exchange.given().is_none() {
                let why = "the key service is not asked while an operator's push is tried";
                exchange.asked = Some(Err((Exit::Temporary, why.into())));
            }
            return Ok(());
        }
        exchange.asked = None;
        let first = |(volume, found): &(&Volume, Found)| match found {
            Found::New(_) => volume.sources.contains(&Source::Service),
            Found::Existing(_) => volume.sources.first() == Some(&Source::Service),
        };
        if exchange.request.cluster || found.iter().any(first) {
            // Each volume is told of a failure, and may have another source.
            if let Err(error) = record.step("asking the key service", None, || {
                exchange.ask(node_tpm).map(|response| {
                    record.service(&response.url, response.took);
                })
            }) {
                if exchange.request.cluster {
                    return Err(error);
                }
                warn!("{error}");
            }
        }
        Ok(())
    }

    /// The secret of the volume with this UUID.
    pub(crate) fn secret(
        &self,
        node_tpm: &Mutex<NodeTpm>,
        uuid: &str,
        record: &Recorder,
    ) -> Result<Secret> {
        let Some(mut exchange) = self.exchange()? else {
            return Err(Error::config(
                "there is no key service in the configuration",
            ));
        };
        let response = exchange
            .ask_for(node_tpm, uuid)
            .doing("asking the key service")?;
        record.service(&response.url, response.took);
        response.secret(uuid)
    }

    /// The secret of the volume with this UUID, if the service was asked in this boot and gave it.
    pub(crate) fn given(&self, uuid: &str) -> Result<Option<Secret>> {
        let exchange = self.exchange()?;
        let response = exchange.as_ref().and_then(|exchange| exchange.given());
        Ok(response.and_then(|response| response.secret(uuid).ok()))
    }

    /// What the service remembers of the volume with this UUID; none where there is no service, or one that remembers nothing.
    pub(crate) fn ask_about(
        &self,
        node_tpm: &Mutex<NodeTpm>,
        uuid: &str,
        record: &Recorder,
    ) -> Result<Option<Remembered>> {
        let Some(mut exchange) = self.exchange()? else {
            return Ok(None);
        };
        let response = exchange.ask_for(node_tpm, uuid)?;
        record.service(&response.url, response.took);
        Ok(exchange.remembered(uuid).cloned())
    }

    /// What the service said of the volume with this UUID, if it was asked in this boot.
    pub(crate) fn remembered(&self, uuid: &str) -> Result<Option<Remembered>> {
        let exchange = self.exchange()?;
        Ok(exchange.and_then(|exchange| exchange.remembered(uuid).cloned()))
    }

    /// Compares a volume whose key is known with what the service remembers of it, where it was asked. What the operator
    /// `accepted` on this node holds here as well; the service itself has to be told apart.
    pub(crate) fn verify(&self, keyed: &Keyed, accepted: Option<Accepted>) -> Result<()> {
        let Some(exchange) = self.exchange()? else {
            return Ok(());
        };
        match exchange.remembered(&keyed.uuid) {
            Some(remembered) => {
                judge::recorded(&remembered.record, &keyed.key_id, keyed.stamp, accepted)
            }
            None => Ok(()),
        }
    }

    /// What the clusterID is derived from, where it comes from the service.
    pub(crate) fn with_cluster<T>(&self, work: impl FnOnce(&Cluster) -> Result<T>) -> Result<T> {
        let exchange = self.exchange()?;
        let response = exchange.as_ref().and_then(|exchange| exchange.given());
        let cluster = response.and_then(|response| response.cluster.as_ref());
        work(cluster.ok_or_else(|| Error::failure("the key service was not asked"))?)
    }

    /// Takes down what the service is to be told of these volumes once they are open.
    pub(crate) fn queue_report(
        &self,
        node_tpm: &Mutex<NodeTpm>,
        opened: &[(&Volume, Opened)],
    ) -> Result<()> {
        let Some(mut exchange) = self.exchange()? else {
            return Ok(());
        };
        let node_tpm = lock(node_tpm)?;
        let reports = opened
            .iter()
            .map(|(volume, opened)| (volume, opened.keyed()))
            .filter(|(_, keyed)| exchange.remembered(&keyed.uuid).is_some())
            .map(|(volume, keyed)| {
                let record = VolumeRecord {
                    key_id: Some(hex::encode(keyed.key_id)),
                    epoch: keyed.epoch().unwrap_or(0),
                    nonce: keyed.stamp.and_then(|stamp| stamp.nonce),
                };
                let report = VolumeReport {
                    record,
                    own_secret: keyed.has_own_secret(),
                    accepted: node_tpm.accepted(volume).map(acceptance),
                };
                (keyed.uuid.clone(), report)
            })
            .collect();
        exchange.reports = reports;
        Ok(())
    }

    /// Tells the service. A new volume must be complete on its disk by now: it would be made again with another key.
    ///
    /// What does not arrive is no failure: the service then remembers an earlier boot, and accepts this one's volumes.
    pub(crate) fn send_report(&self) -> Result<()> {
        let Some(mut exchange) = self.exchange()? else {
            return Ok(());
        };
        let reports = std::mem::take(&mut exchange.reports);
        if let Some(Ok(response)) = &mut exchange.asked {
            for error in response.report(&reports) {
                warn!("{error}");
            }
        }
        Ok(())
    }

    fn exchange(&self) -> Result<Option<MutexGuard<'_, Exchange>>> {
        match &self.0 {
            Some(exchange) => exchange
                .lock()
                .map(Some)
                .map_err(|error| Error::failure(format_args!("key service: {error}"))),
            None => Ok(None),
        }
    }
}

/// What is claimed of the volumes that the service has a part in: of those that have to be there, and of the others. A disk on which
/// no volume may be made has none that the service would remember.
fn claims(node_tpm: &Mutex<NodeTpm>, found: &[(&Volume, Found)]) -> Result<[Vec<VolumeClaim>; 2]> {
    let mut claims = [const { Vec::new() }; 2];
    let [required, others] = &mut claims;
    let of_service = |(volume, _): &&(&Volume, Found)| volume.sources.contains(&Source::Service);
    for (volume, found) in found.iter().filter(of_service) {
        let is_one = match found {
            Found::New(new) => lock(node_tpm)?.may_be_made(volume, new.device_state()),
            Found::Existing(_) => true,
        };
        if is_one {
            let of_its_kind = if volume.required {
                &mut *required
            } else {
                &mut *others
            };
            of_its_kind.push(found.claim(volume)?);
        }
    }
    Ok(claims)
}

/// What the service is told of what was allowed for a volume.
fn acceptance(allowed: Allowed) -> Acceptance {
    match allowed {
        Allowed::Accepted(Accepted::Rollback) => Acceptance::Rollback,
        Allowed::Accepted(Accepted::New) => Acceptance::New,
        Allowed::Accepted(Accepted::Stale) | Allowed::Stale => Acceptance::Stale,
        Allowed::Readmitted => Acceptance::Readmitted,
    }
}

/// What a boot before this one failed by, for a service that takes such a hint. Command: `NV_Read`.
fn last_failure(config: &Config, service: &KeyService) -> Option<LastFailure> {
    let place = FailurePlace::of(config)?;
    if service.protocol == ServiceProtocol::Trustee {
        return None;
    }
    match place.read() {
        Ok(kept) => kept.map(Failure::told),
        Err(error) => {
            debug!("{error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_told_the_words_of_the_journal() {
        let on_node = [Accepted::Rollback, Accepted::New, Accepted::Stale].map(Allowed::Accepted);
        let all = [&on_node[..], &[Allowed::Readmitted, Allowed::Stale]].concat();
        let told: Vec<&str> = all.iter().map(|it| acceptance(*it).as_str()).collect();
        let said: Vec<&str> = all.iter().map(|it| it.as_str()).collect();
        assert_eq!(told, said);
    }
}
