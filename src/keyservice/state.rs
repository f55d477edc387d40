// SPDX-License-Identifier: Apache-2.0
//! What the steps of the protocol share, and how a request is counted and written down.
//!
//! [`Service`] is what there is one of; a [`Request`] and its [`AuditTrail`] are one for each that is answered.
//!
//! **Never:** anything that another replica has to know: that is in the store, or in a session.

mod readiness;
#[cfg(feature = "kms")]
mod recheck;

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use log::{error, warn};
use serde::de::DeserializeOwned;

use crate::error::{Doing, Error, Result};
use crate::evidence::Policy;
use crate::keyservice::audit::{self, Audit, Line};
#[cfg(feature = "kms")]
use crate::keyservice::config::secret::MasterSource;
use crate::keyservice::config::{self, Config};
use crate::keyservice::limits::audit_quota::AuditQuota;
use crate::keyservice::limits::{RateLimiter, peer_prefix};
use crate::keyservice::metrics::Metrics;
use crate::keyservice::registry;
use crate::keyservice::registry::sightings::Sightings;
use crate::keyservice::reply::{Fault, Rejection, Step};
use crate::keyservice::secrets::Keys;
use crate::keyservice::session::{self, PresentedSession};
use crate::keyservice::store::Store;
use crate::pcr::Bank;
use crate::protocol::Acceptance;
use crate::protocol::admin::Denial;

/// The longest reason that is written down, in characters: it may quote what a machine sent.
const WHY_LEN_MAX: usize = 2000;

/// The running service.
#[derive(Debug)]
pub struct Service {
    /// What keys are derived from, as long as releases go on.
    pub keys: Keys,
    /// What is remembered.
    pub store: Store,
    /// What is counted.
    pub metrics: Metrics,
    /// What is written down.
    pub audit: Audit,
    /// What is about to be written about nodes.
    pub sightings: Sightings,
    /// How long sessions last.
    pub lifetimes: config::Lifetimes,
    policy: RwLock<Arc<Policy>>,
    by_peer: RateLimiter<IpAddr>,
    by_ek: RateLimiter<String>,
    /// Requests of machines that have shown their endorsement key.
    by_proven_ek: RateLimiter<String>,
    audit_quota: AuditQuota,
    pub(crate) body_len_max: usize,
    is_ready: AtomicBool,
}

/// What is asked for.
#[derive(Debug)]
pub enum Operation {
    /// A nonce.
    Auth,
    /// An admission.
    Attest,
    /// `REPOSITORY/TYPE/TAG`.
    Resource(String, String, String),
    /// What is remembered of the volume with this UUID.
    Record(String),
    /// To remember something of it.
    Report(String),
}

impl Operation {
    /// The step it belongs to.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::Auth => Step::Auth,
            Self::Attest => Step::Attest,
            Self::Resource(..) => Step::Resource,
            Self::Record(_) => Step::Record,
            Self::Report(_) => Step::Report,
        }
    }

    /// What the audit log calls it where it is granted.
    pub(crate) fn event(&self) -> Option<&'static str> {
        match self {
            Self::Auth | Self::Record(_) => None,
            Self::Attest => Some("admission"),
            Self::Resource(..) => Some("release"),
            Self::Report(_) => Some("report"),
        }
    }
}

/// A request, whole.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub from: IpAddr,
    /// For what.
    pub operation: Operation,
    /// The session that was handed over earlier, opened.
    pub session: PresentedSession,
    /// JSON, where the step takes any.
    pub body: Vec<u8>,
}

/// What becomes known about a request while it is looked at.
#[derive(Debug, Default)]
pub struct AuditTrail {
    /// The id of the endorsement key.
    pub ek: Option<String>,
    /// Whether the machine has shown that its TPM has that key.
    pub is_proven: bool,
    /// The volumes it is about.
    pub volumes: Vec<String>,
    /// What is asked for, beside a volume's key.
    pub resource: Option<String>,
    /// The image.
    pub image: Option<String>,
    /// What a report says was accepted.
    pub accepted: Option<Acceptance>,
}

impl Service {
    /// Opens everything the configuration names.
    pub fn open(config: &Config) -> Result<Self> {
        let limits = config.limits;
        let policy = load_policy(config.policy.as_path())?;
        let keys = Keys::load(config)?;
        let store = Store::open(&config.store)?;
        let master = keys.master();
        let master = master.map_err(|rejection| Error::failure(rejection.why))?;
        registry::master::compare(&store, &master, &config.secret)?;
        let metrics = Metrics::default();
        #[cfg(feature = "kms")]
        let metrics = match config.secret.master {
            MasterSource::Wrapped(_) => metrics.with_kms(),
            MasterSource::Plain(_) => metrics,
        };
        Ok(Self {
            keys,
            policy: RwLock::new(Arc::new(policy)),
            store,
            metrics,
            audit: Audit::open(config.audit.as_path())?,
            sightings: Sightings::default(),
            lifetimes: config.session,
            by_peer: RateLimiter::new(limits.peer_requests_per_s, Duration::from_secs(1)),
            by_ek: RateLimiter::new(limits.ek_attestations_per_min, Duration::from_secs(60)),
            by_proven_ek: RateLimiter::new(limits.peer_requests_per_s, Duration::from_secs(1)),
            audit_quota: AuditQuota::default(),
            body_len_max: usize::try_from(limits.body_bytes.get()).unwrap_or(usize::MAX),
            is_ready: AtomicBool::new(true),
        })
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another policy in force.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Counts a request or a connection of a peer.
    pub fn count_peer(&self, from: IpAddr) -> std::result::Result<(), Rejection> {
        self.by_peer
            .check(peer_prefix(from), Instant::now())
            .map_err(|wait| too_often("peer-rate", wait))
    }

    /// Counts a request: of the endorsement key once it is proven, so that nobody else at a machine's address takes its
    /// share, and of the address before.
    pub fn count_request(
        &self,
        from: IpAddr,
        proven_ek: Option<&str>,
    ) -> std::result::Result<(), Rejection> {
        let Some(ek) = proven_ek else {
            return self.count_peer(from);
        };
        self.by_proven_ek
            .check(ek.to_owned(), Instant::now())
            .map_err(|wait| too_often("ek-rate", wait))
    }

    /// Counts an attestation of an endorsement key, after it was proven: nobody else can use up a node's share.
    pub fn count_ek(&self, ek: &str) -> std::result::Result<(), Rejection> {
        self.by_ek
            .check(ek.to_owned(), Instant::now())
            .map_err(|wait| too_often("ek-rate", wait))
    }

    /// Opens the session whose text came with a request, which is done once.
    #[must_use]
    pub fn open_session(&self, text: Option<&str>) -> PresentedSession {
        let Some(text) = text else {
            return PresentedSession::Nothing;
        };
        let Ok(master) = self.keys.master() else {
            // Nobody is told so: such a request ends before its session is looked at.
            return PresentedSession::Foreign;
        };
        match session::open(master.session_key(), text) {
            None => PresentedSession::Foreign,
            Some(session) => PresentedSession::Session(session),
        }
    }

    /// Counts a refusal and writes it down.
    pub fn refused(
        &self,
        request: &Request,
        trail: &AuditTrail,
        rejection: &Rejection,
        took: Duration,
    ) {
        let (outcome, event) = rejection.fault.words();
        let step = request.operation.step();
        self.metrics.request(step, outcome, rejection.check, took);
        // Lines for these would let anybody fill the disk.
        if matches!(rejection.fault, Fault::TooOften | Fault::Busy) {
            return;
        }
        if !trail.is_proven
            && !self
                .audit_quota
                .may(peer_prefix(request.from), Instant::now())
        {
            return;
        }
        if rejection.fault == Fault::Local {
            error!("{}: {}", step.as_str(), rejection.why);
        }
        if let Err(error) = self.record_audit(request, trail, event, Some(rejection)) {
            error!(
                "{}: denied by {}: {}",
                step.as_str(),
                rejection.check,
                error
            );
        }
        if let (Some(ek), true, Fault::Denied) = (&trail.ek, trail.is_proven, rejection.fault) {
            let denial = Denial {
                at_s: audit::now_s(),
                check: rejection.check.to_owned(),
                why: cut(&rejection.why),
            };
            self.sightings.denied(ek, denial);
        }
    }

    /// Writes down of whom how many lines were left out in periods that are over at `now`.
    pub fn write_left_out(&self, now: Instant) {
        for (peer, more) in self.audit_quota.left_out(now) {
            let why = format!("{more} more requests within a minute");
            let line = Line {
                time: audit::time(audit::now_s()),
                event: "denial",
                step: Step::Unknown.as_str(),
                peer: peer.map_or_else(|| "others".to_owned(), |peer| peer.to_string()),
                check: Some("line-rate"),
                why: Some(&why),
                ..Line::default()
            };
            if let Err(error) = self.audit.add(&line) {
                error!("denied {why}: {error}");
            }
        }
    }

    pub(crate) fn record_audit(
        &self,
        request: &Request,
        trail: &AuditTrail,
        event: &'static str,
        rejection: Option<&Rejection>,
    ) -> Result<()> {
        let why = rejection.map(|rejection| cut(&rejection.why));
        self.audit.add(&Line {
            time: audit::time(audit::now_s()),
            event,
            step: request.operation.step().as_str(),
            peer: request.from.to_canonical().to_string(),
            ek: trail.ek.as_deref(),
            volumes: &trail.volumes,
            resource: trail.resource.as_deref(),
            image: trail.image.as_deref(),
            check: rejection.map(|rejection| rejection.check),
            why: why.as_deref(),
            accepted: trail.accepted.map(Acceptance::as_str),
            operator: None,
        })
    }
}

/// Reads a policy that this service can apply, and says in the log what it leaves open.
pub fn load_policy(path: &Path) -> Result<Policy> {
    let policy = Policy::load(path)?;
    if policy.bank() != Bank::Sha256 {
        return Err(Error::config(
            "bank: the protocol quotes sha256, so values of another bank never match",
        ))
        .doing(path.display());
    }
    for warning in policy.warnings() {
        warn!("{}: {warning}", path.display());
    }
    Ok(policy)
}

/// Reads a body.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> std::result::Result<T, Rejection> {
    serde_json::from_slice(body).map_err(|error| Rejection::new(Fault::Malformed, "body", error))
}

/// An answer's body.
pub(crate) fn text(value: &impl serde::Serialize) -> std::result::Result<Vec<u8>, Rejection> {
    serde_json::to_vec(value).map_err(|error| Error::failure(error).into())
}

fn too_often(check: &'static str, wait: Duration) -> Rejection {
    Rejection {
        retry_after_s: Some(wait.as_secs().saturating_add(1)),
        ..Rejection::new(Fault::TooOften, check, "too many requests")
    }
}

fn cut(why: &str) -> String {
    why.chars().take(WHY_LEN_MAX).collect()
}
