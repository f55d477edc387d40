// SPDX-License-Identifier: Apache-2.0
//! What `/metrics` tells: how much was asked for, what came of it and how long it took.
//!
//! **Never:** a node's, a volume's or an operator's name: labels are words of this program.

#[cfg(feature = "kms")]
mod kms;

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::{Error, Result};
use crate::keyservice::reply::Step;
use crate::protocol::Acceptance;

/// Upper ends of the buckets of latencies, in seconds: around the budget of 100 ms.
const BUCKETS_S: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// How a request ended.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    step: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct In {
    step: &'static str,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Of {
    what: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Accepted {
    what: &'static str,
}

/// All counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Ended, Counter>,
    seconds: Family<In, Histogram, fn() -> Histogram>,
    reloads: Family<Of, Counter>,
    acceptances: Family<Accepted, Counter>,
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that were refused because their peer opened too many.
    pub refused_connections: Counter,
    #[cfg(feature = "kms")]
    kms: Option<kms::KmsMetrics>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("nightlatchd");
        let requests = Family::default();
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let reloads = Family::default();
        let acceptances = Family::default();
        let connections = Gauge::default();
        let refused_connections = Counter::default();
        registry.register(
            "requests",
            "Requests, by step, outcome (ok, denied, failed) and reason",
            Family::clone(&requests),
        );
        registry.register(
            "request_seconds",
            "Time from the last byte of a request to its answer",
            Family::clone(&seconds),
        );
        registry.register(
            "reloads",
            "Times the policy or the certificate was read again",
            Family::clone(&reloads),
        );
        registry.register(
            "acceptances",
            "Reports of volumes of which something was accepted, by what it was",
            Family::clone(&acceptances),
        );
        registry.register(
            "connections",
            "Connections that are open",
            Gauge::clone(&connections),
        );
        registry.register(
            "refused_connections",
            "Connections refused because their peer opened too many",
            Counter::clone(&refused_connections),
        );
        let metrics = Self {
            registry,
            requests,
            seconds,
            reloads,
            acceptances,
            connections,
            refused_connections,
            #[cfg(feature = "kms")]
            kms: None,
        };
        // From the start: an alert on growth does not see the first of a series that was not there.
        for what in Acceptance::ALL {
            let what = what.as_str();
            drop(metrics.acceptances.get_or_create(&Accepted { what }));
        }
        metrics
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS_S)
}

impl Metrics {
    /// Counts a request. The reason is empty where it went well.
    pub fn request(&self, step: Step, outcome: &'static str, reason: &'static str, took: Duration) {
        let step = step.as_str();
        let ended = Ended {
            step,
            outcome,
            reason,
        };
        self.requests.get_or_create(&ended).inc();
        self.seconds
            .get_or_create(&In { step })
            .observe(took.as_secs_f64());
    }

    /// Counts a reload.
    pub fn reload(&self, what: &'static str, outcome: &'static str) {
        self.reloads.get_or_create(&Of { what, outcome }).inc();
    }

    /// Counts a report of a volume of which this was accepted.
    pub fn acceptance(&self, what: Acceptance) {
        let what = what.as_str();
        self.acceptances.get_or_create(&Accepted { what }).inc();
    }

    /// The text of all counters, in the format of `OpenMetrics` 1.0.
    pub fn text(&self) -> Result<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(Error::failure)?;
        Ok(text)
    }
}
