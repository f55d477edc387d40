// SPDX-License-Identifier: Apache-2.0
//! The source `service`: a key service that gives a volume's secret to a machine that proves what it booted.
//!
//! One handshake a boot, for all volumes: the TPM shows that it is the one it says, a quote shows what was booted, and the
//! service encrypts the keys to a key pair that lives for this handshake. [`protocol`](crate::protocol) has the messages.
//!
//! What an address denies is final for it in this boot, and a denial never leads to another handshake with it. Trouble on
//! the way leads to the next address, and to all of them again after pauses that grow.

pub mod answer;
mod handshake;
mod http;
mod logs;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

pub use handshake::Cluster;
use http::Http;
pub use logs::Logs;
use tls::Trust;

use crate::config::{self, ServiceProtocol};
use crate::error::{Doing, Error, Result};
use crate::key::{Secret, fill_random};
use crate::logging;
use crate::protocol::{RECORD_PATH, VolumeClaim, VolumeRecord};
use crate::tpm::{AkKind, Identity, Tpm};

/// Why an address of the service gave nothing.
#[derive(Debug)]
pub enum Failure {
    /// It may get better by itself: the network, or a service that is busy.
    Later(String),
    /// This is not a service that this node can use: another key, another protocol.
    Final(String),
    /// The service has decided.
    Denied(String),
    /// Nothing the service has to do with.
    Ours(Error),
}

impl PartialEq for Failure {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Later(a), Self::Later(b))
            | (Self::Final(a), Self::Final(b))
            | (Self::Denied(a), Self::Denied(b)) => a == b,
            (Self::Later(_) | Self::Final(_) | Self::Denied(_) | Self::Ours(_), _) => false,
        }
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// A connection, with its TLS handshake.
    pub(crate) connect: Duration,
    /// One request and its answer.
    pub(crate) answer: Duration,
    /// The first pause after all addresses were in vain; it doubles each time.
    pub(crate) first_pause: Duration,
    /// The longest pause.
    pub(crate) longest_pause: Duration,
    /// Telling the service of a volume.
    pub(crate) report: Duration,
}

impl Pace {
    const USUAL: Self = Self {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(15),
        first_pause: Duration::from_millis(500),
        longest_pause: Duration::from_secs(20),
        report: Duration::from_secs(20),
    };
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The volumes whose secrets are asked for.
    pub volumes: Vec<VolumeClaim>,
    /// Whether the clusterID's secret is asked for.
    pub cluster: bool,
    /// What was measured.
    pub logs: Logs,
}

/// What the service said of a volume.
#[derive(Debug)]
pub struct GivenVolume {
    /// The volume's secret.
    pub key: Secret,
    /// What the service remembers of the volume; none where it remembers nothing at all, as Trustee does.
    pub record: Option<VolumeRecord>,
}

/// What the service gave.
#[derive(Debug)]
pub struct Given {
    /// The address that gave it.
    pub url: String,
    /// How long it took, all addresses and pauses included.
    pub took: Duration,
    /// What the clusterID is derived from, where it was asked for.
    pub cluster: Option<Cluster>,
    volumes: BTreeMap<String, std::result::Result<GivenVolume, String>>,
    http: Http,
    knows_records: bool,
    pace: Pace,
}

impl Given {
    /// What was said of the volume with this UUID. A denial is refused.
    pub fn volume(&self, uuid: &str) -> Result<&GivenVolume> {
        match self.volumes.get(uuid) {
            Some(Ok(given)) => Ok(given),
            Some(Err(said)) => Err(Error::refused(format_args!("{}: {said}", self.url))),
            None => Err(Error::failure("the service was not asked for this volume")),
        }
    }

    /// Tells the service which key a volume has and which epoch it is at, where it remembers such things.
    pub fn report(&mut self, uuid: &str, record: &VolumeRecord) -> Result<()> {
        if !self.knows_records {
            return Ok(());
        }
        let until = later(self.pace.report);
        self.http.prolong(until);
        let mut pauses = Pauses::of(self.pace);
        let path = format!("{RECORD_PATH}/{uuid}");
        loop {
            let Err(failure) = self.http.post(&path, record) else {
                return Ok(());
            };
            if !matches!(failure, Failure::Later(_)) || !pauses.wait(until)? {
                return Err(told(failure)).doing(format_args!("reporting to {}", self.url));
            }
        }
    }
}

/// One address of the service.
#[derive(Debug)]
struct Endpoint {
    url: String,
    /// What it said last; final for this boot.
    over: Option<String>,
}

/// The way to the key service in this boot.
#[derive(Debug)]
pub struct Client {
    endpoints: Vec<Endpoint>,
    trust: Trust,
    protocol: ServiceProtocol,
    deadline: Duration,
    ek_certificate: Option<Vec<u8>>,
    identity: Option<Identity>,
    pace: Pace,
}

impl Client {
    /// The service of the configuration, with certificates read below `top`.
    pub fn new(service: &config::Service, top: &Path) -> Result<Self> {
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
        let endpoints = service.urls.iter().map(|url| Endpoint {
            url: url.as_str().to_owned(),
            over: None,
        });
        Ok(Self {
            endpoints: endpoints.collect(),
            trust,
            protocol: service.protocol,
            deadline: service.deadline(),
            ek_certificate,
            identity: None,
            pace: Pace::USUAL,
        })
    }

    /// Asks the addresses in turn until one gives what is wanted or all have denied it, and no longer than the deadline.
    ///
    /// Refused: every address has denied it or is not the service. Temporary: the deadline has passed.
    pub fn ask(&mut self, tpm: &mut Tpm, wanted: &Wanted) -> Result<Given> {
        let start = Instant::now();
        let until = later(self.deadline);
        let mut pauses = Pauses::of(self.pace);
        loop {
            let mut last = None;
            for index in 0..self.endpoints.len() {
                match self.visit(index, tpm, wanted, until) {
                    Ok(Some(mut given)) => {
                        given.took = start.elapsed();
                        info!("{} gave what it was asked for", given.url);
                        return Ok(given);
                    }
                    Ok(None) => {}
                    Err(Failure::Ours(error)) => return Err(error),
                    Err(failure) => last = Some(self.note(index, failure)),
                }
            }
            if self
                .endpoints
                .iter()
                .all(|endpoint| endpoint.over.is_some())
            {
                return Err(Error::refused(self.all_that_is_over()));
            }
            let said = last.unwrap_or_default();
            logging::progress(&format!("waiting for the key service: {said}"));
            if !pauses.wait(until)? {
                return Err(Error::temporary(format_args!(
                    "no key service within {} s, the last said: {said}; see that it runs and that the network leads to it",
                    self.deadline.as_secs()
                )));
            }
        }
    }

    /// Asks one address; `None` if it has had its say.
    fn visit(
        &mut self,
        index: usize,
        tpm: &mut Tpm,
        wanted: &Wanted,
        until: Instant,
    ) -> std::result::Result<Option<Given>, Failure> {
        let Some(Endpoint { url, over: None }) = self.endpoints.get(index) else {
            return Ok(None);
        };
        let url = url.clone();
        logging::progress(&format!("asking {url} for keys"));
        let mut http = Http::new(&url, &self.trust, self.pace, until)?;
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
        let visit = handshake::Visit {
            tpm,
            kind,
            identity,
            extended,
        };
        let admitted = visit.run(&mut http, wanted)?;
        Ok(Some(Given {
            url,
            took: Duration::ZERO,
            cluster: admitted.cluster,
            volumes: admitted.volumes,
            http,
            knows_records: admitted.knows_records,
            pace: self.pace,
        }))
    }

    /// Remembers what cannot change any more. Returns what to tell.
    fn note(&mut self, index: usize, failure: Failure) -> String {
        let Some(endpoint) = self.endpoints.get_mut(index) else {
            return String::new();
        };
        let is_over = !matches!(failure, Failure::Later(_));
        let said = format!("{}: {}", endpoint.url, told(failure));
        warn!("key service {said}");
        if is_over {
            endpoint.over = Some(said.clone());
        }
        said
    }

    fn all_that_is_over(&self) -> String {
        let all: Vec<&str> = self
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.over.as_deref())
            .collect();
        all.join("; ")
    }
}

/// A failure in a sentence that says what to do.
fn told(failure: Failure) -> Error {
    match failure {
        Failure::Later(said) => Error::temporary(said),
        Failure::Final(said) => Error::refused(said),
        Failure::Denied(said) => Error::refused(format_args!(
            "it denied this machine: {said}; its audit log says why"
        )),
        Failure::Ours(error) => error,
    }
}

fn later(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now)
}

/// Pauses that grow, each cut by up to a half at random, so that a fleet does not come back in step.
#[derive(Debug)]
struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    fn of(pace: Pace) -> Self {
        Self {
            next: pace.first_pause,
            longest: pace.longest_pause,
        }
    }

    /// Waits; whether there was time for it before `until`.
    fn wait(&mut self, until: Instant) -> Result<bool> {
        let mut random = [0; 1];
        fill_random(&mut random)?;
        let share = f64::from(u8::from_be_bytes(random)) / 512.0;
        let pause = self.next.mul_f64(1.0 - share);
        self.next = self.next.saturating_mul(2).min(self.longest);
        if pause >= until.saturating_duration_since(Instant::now()) {
            return Ok(false);
        }
        thread::sleep(pause);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
