// SPDX-License-Identifier: Apache-2.0
//! The source `service`: a key service that gives a volume's secret to a machine that proves what it booted.
//!
//! One handshake a boot, for all volumes: the TPM shows that it is the one it says, a quote shows what was booted, and the
//! service encrypts the keys to a key pair that lives for this handshake. [`protocol`](crate::protocol) has the messages.
//!
//! What an address denies is final for it in this boot, and a denial leads to another handshake with it only where the boot asks
//! for something else, or somebody may have admitted it meanwhile: [`Client::forget_denials`]. Trouble on the way leads to the next
//! address, and to all of them again after pauses that grow. So does a server that is not the one the configuration describes: it
//! may be somebody on the way, and he does not make a node give up before the deadline. If nobody else answered until then it is
//! refused, since it looks like a wrong `ca` or `pin`; silence is tried again.
//!
//! **Never:** a redirect, a proxy, the system's list of authorities, or the name of an address as proof of who it is.

pub mod answer;
mod backoff;
mod certificate;
mod date;
mod endpoint;
mod failure;
mod handshake;
mod http;
mod image_time;
mod logs;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use log::{info, warn};
use rustls::pki_types::UnixTime;

use crate::client::backoff::Backoff;
use crate::client::endpoint::Endpoint;
pub use crate::client::failure::Failure;
use crate::client::failure::into_error;
pub use crate::client::handshake::Cluster;
use crate::client::http::Http;
pub use crate::client::logs::Logs;
use crate::https::tls::{TlsConnector, Trust};

use crate::config::{self, ServiceProtocol};
use crate::error::{Doing, Error, Result};
use crate::key::Secret;
use crate::logging;
use crate::protocol::{LastFailure, RECORD_PATH, Remembered, VolumeClaim, VolumeReport};
use crate::tpm::{AkKind, Tpm, TpmIdentity};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// A connection, with its TLS handshake.
    pub(crate) connect: Duration,
    /// One request and its answer.
    pub(crate) answer: Duration,
    /// The first pause after all addresses were in vain; it doubles each time.
    pub(crate) first_pause: Duration,
    /// The longest pause.
    pub(crate) longest_pause: Duration,
    /// Telling the service of all volumes.
    pub(crate) report: Duration,
}

impl Timeouts {
    const USUAL: Self = Self {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(15),
        first_pause: Duration::from_millis(500),
        longest_pause: Duration::from_secs(20),
        report: Duration::from_secs(20),
    };
}

/// How often the other addresses are tried again after one has denied the node. With the usual pauses that is within half a
/// minute: addresses of one service seldom think differently, and one that is down may only be starting.
const TRIES_AFTER_DENIAL: u32 = 4;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct KeyRequest {
    /// The volumes whose secrets are asked for.
    pub volumes: Vec<VolumeClaim>,
    /// Whether the clusterID's secret is asked for.
    pub cluster: bool,
    /// What was measured.
    pub logs: Logs,
    /// What a boot before this one failed by.
    pub last_failure: Option<LastFailure>,
}

/// What the service said of a volume.
#[derive(Debug)]
pub struct VolumeKey {
    /// The volume's secret.
    pub key: Secret,
    /// What the service remembers of the volume; none where it remembers nothing at all, as Trustee does.
    pub remembered: Option<Remembered>,
}

/// What the service gave.
#[derive(Debug)]
pub struct KeyResponse {
    /// The address that gave it.
    pub url: String,
    /// How long it took, all addresses and pauses included.
    pub took: Duration,
    /// What the clusterID is derived from, where it was asked for.
    pub cluster: Option<Cluster>,
    volumes: BTreeMap<String, std::result::Result<VolumeKey, String>>,
    http: Http,
    knows_records: bool,
    timeouts: Timeouts,
}

impl KeyResponse {
    /// What was said of the volume with this UUID. A denial is refused.
    pub fn volume(&self, uuid: &str) -> Result<&VolumeKey> {
        match self.volumes.get(uuid) {
            Some(Ok(given)) => Ok(given),
            Some(Err(said)) => Err(Error::refused(format_args!("{}: {said}", self.url))),
            None => Err(Error::failure("the service was not asked for this volume")),
        }
    }

    /// A copy of the secret that was given for the volume with this UUID. A denial is refused.
    pub fn secret(&self, uuid: &str) -> Result<Secret> {
        let given = self.volume(uuid)?;
        Ok(Secret::new(given.key.expose().to_vec()))
    }

    /// Tells the service of each of these volumes which key it has, which epoch it is at, whether its secret is the node's
    /// own, and what was accepted of it, where it remembers such things. Returns what went wrong.
    ///
    /// There is one time for all of them, and after a report that ran out of it none is begun: a boot does not wait once
    /// for each volume where nobody answers.
    pub fn report(&mut self, news: &[(String, VolumeReport)]) -> Vec<Error> {
        let mut failed = Vec::new();
        if !self.knows_records {
            return failed;
        }
        let until = later(self.timeouts.report);
        self.http.prolong(until);
        for (uuid, told) in news {
            let said = self.tell(uuid, told, until);
            let is_over = matches!(&said, Err(failure) if failure.wait().is_some());
            let said = said.map_err(into_error);
            let said = said.doing(format_args!("reporting volume {uuid} to {}", self.url));
            failed.extend(said.err());
            if is_over {
                break;
            }
        }
        failed
    }

    /// Tells of one volume. A failure that may pass did not before `until`.
    fn tell(
        &mut self,
        uuid: &str,
        told: &VolumeReport,
        until: Instant,
    ) -> std::result::Result<(), Failure> {
        let mut backoff = Backoff::of(self.timeouts);
        let path = format!("{RECORD_PATH}/{uuid}");
        loop {
            let Err(failure) = self.http.post(&path, told) else {
                return Ok(());
            };
            match failure.wait() {
                Some(wait) if backoff.wait(wait, until)? => {}
                Some(_) | None => return Err(failure),
            }
        }
    }
}

/// The way to the key service in this boot.
#[derive(Debug)]
pub struct Client {
    endpoints: Vec<Endpoint>,
    trust: Trust,
    /// When the image was made, where its builder says so.
    image_time: Option<UnixTime>,
    protocol: ServiceProtocol,
    deadline: Duration,
    ek_certificate: Option<Vec<u8>>,
    identity: Option<TpmIdentity>,
    timeouts: Timeouts,
}

impl Client {
    /// The service of the configuration, with certificates read below `top`.
    pub fn new(service: &config::KeyService, top: &Path) -> Result<Self> {
        let trust = match (&service.ca, &service.pin) {
            (Some(ca), None) => Trust::Ca(ca.read(top).doing("service.ca")?),
            (None, Some(pin)) => Trust::Pin(*pin.digest()),
            (Some(_), Some(_)) | (None, None) => {
                return Err(Error::config("service: expected either ca or pin"));
            }
        };
        let ek_certificate = service.ek_certificate.as_ref();
        let ek_certificate = ek_certificate
            .map(|path| path.read(top).doing("service.ek-certificate"))
            .transpose()?;
        let endpoints = service.urls.iter().map(|url| Endpoint::new(url.as_str()));
        Ok(Self {
            endpoints: endpoints.collect(),
            trust,
            protocol: service.protocol,
            deadline: service.deadline(),
            image_time: image_time::read(top),
            ek_certificate,
            identity: None,
            timeouts: Timeouts::USUAL,
        })
    }

    /// From now on all of it takes no longer than this.
    pub(crate) fn hasten(&mut self, deadline: Duration) {
        self.deadline = self.deadline.min(deadline);
    }

    /// Those that denied this node are worth a try again. `false` if there are none.
    pub(crate) fn forget_denials(&mut self) -> bool {
        let had_denied = self.endpoints.iter().any(Endpoint::has_denied);
        self.endpoints.iter_mut().for_each(Endpoint::forget_denial);
        had_denied
    }

    /// Asks the addresses in turn until one gives what is wanted or all have had their say, and no longer than the deadline.
    ///
    /// Refused: every address has denied it or is not the service, or one has denied it and the others did not answer in
    /// four further tries or until the deadline, or nobody but strangers answered until the deadline. Temporary: the deadline has
    /// passed.
    pub fn ask(&mut self, tpm: &mut Tpm, wanted: &KeyRequest) -> Result<KeyResponse> {
        let start = Instant::now();
        let until = later(self.deadline);
        let mut backoff = Backoff::of(self.timeouts);
        let mut tries_after_denial = 0;
        let mut last = String::new();
        loop {
            for index in 0..self.endpoints.len() {
                match self.visit(index, tpm, wanted, until) {
                    Ok(Some(mut given)) => {
                        given.took = start.elapsed();
                        info!("{} gave what it was asked for", given.url);
                        return Ok(given);
                    }
                    Ok(None) => {}
                    Err(Failure::Local(error)) => return Err(error),
                    Err(failure) => last = self.note(index, failure, until),
                }
            }
            let is_over = self.endpoints.iter().all(Endpoint::is_over);
            if is_over || tries_after_denial >= TRIES_AFTER_DENIAL {
                return Err(Error::refused(self.all_that_was_said()));
            }
            if self.endpoints.iter().any(Endpoint::has_denied) {
                tries_after_denial = tries_after_denial.saturating_add(1);
            }
            logging::progress(&format!("waiting for the key service: {last}"));
            let waits = self.endpoints.iter().filter_map(Endpoint::wait);
            let wait = waits.min().unwrap_or_default();
            if !backoff.wait(wait, until)? {
                return Err(self.too_late(&last));
            }
        }
    }

    /// The deadline has passed. Where nobody but strangers answered this is refused, since waiting longer is no remedy.
    fn too_late(&self, last: &str) -> Error {
        if self.endpoints.iter().any(Endpoint::has_denied) {
            return Error::refused(self.all_that_was_said());
        }
        let said = format!(
            "no key service within {} s, the last said: {last}; see that it runs and that the network leads to it",
            self.deadline.as_secs()
        );
        let mut left = self.endpoints.iter().filter(|endpoint| !endpoint.is_over());
        if left.all(Endpoint::is_strange) {
            Error::refused(said)
        } else {
            Error::temporary(said)
        }
    }

    /// Asks one address; `None` if it has had its say, or said that it has nothing to say yet.
    fn visit(
        &mut self,
        index: usize,
        tpm: &mut Tpm,
        wanted: &KeyRequest,
        until: Instant,
    ) -> std::result::Result<Option<KeyResponse>, Failure> {
        let due = |endpoint: &&Endpoint| endpoint.wait() == Some(Duration::ZERO);
        let Some(endpoint) = self.endpoints.get(index).filter(due) else {
            return Ok(None);
        };
        let url = endpoint.url.clone();
        logging::progress(&format!("asking {url} for keys"));
        let tls = TlsConnector::new(&self.trust, self.image_time)?;
        let mut http = Http::new(&url, tls, self.timeouts, until);
        let kind = match self.protocol {
            ServiceProtocol::Nightlatch => AkKind::Ecdsa,
            ServiceProtocol::Trustee => AkKind::Rsassa,
        };
        let identity = match self.identity.take() {
            Some(identity) => identity,
            None => tpm.identity(kind, self.ek_certificate.as_deref())?,
        };
        let identity = self.identity.insert(identity);
        let extended = self.protocol == ServiceProtocol::Nightlatch;
        let handshake = handshake::Handshake {
            tpm,
            kind,
            identity,
            extended,
        };
        let collected = handshake.run(&mut http, wanted)?;
        Ok(Some(KeyResponse {
            url,
            took: Duration::ZERO,
            cluster: collected.cluster,
            volumes: collected.volumes,
            http,
            knows_records: collected.knows_records,
            timeouts: self.timeouts,
        }))
    }

    /// Remembers what an address said. Returns what to tell.
    fn note(&mut self, index: usize, failure: Failure, until: Instant) -> String {
        let Some(endpoint) = self.endpoints.get_mut(index) else {
            return String::new();
        };
        let said = endpoint.note(failure, until);
        warn!("key service {said}");
        said
    }

    fn all_that_was_said(&self) -> String {
        let all: Vec<&str> = self.endpoints.iter().map(Endpoint::last_said).collect();
        all.join("; ")
    }
}

fn later(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now)
}

#[cfg(test)]
mod tests;
