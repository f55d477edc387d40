// SPDX-License-Identifier: Apache-2.0
//! What is counted of a KMS: how often it was asked, what came of it, how long it took, and how old the last unwrap is.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Metrics, histogram};
use crate::keyservice::kms::Class;

/// How a call ended: `ok`, or the class of its failure.
#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Called {
    outcome: &'static str,
}

/// The counters, which a service without a KMS does not show.
#[derive(Debug)]
pub(super) struct KmsMetrics {
    calls: Family<Called, Counter>,
    seconds: Histogram,
    age: Gauge<f64, AtomicU64>,
}

impl KmsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (calls, seconds, age) = (Family::default(), histogram(), Gauge::default());
        registry.register(
            "kms_calls",
            "Times the KMS was asked to unwrap the master secret again, by outcome (ok, or the class of the failure)",
            Family::clone(&calls),
        );
        registry.register(
            "kms_call_seconds",
            "Time from a question to the KMS to its answer",
            Histogram::clone(&seconds),
        );
        registry.register(
            "kms_unwrap_age_seconds",
            "Time since the KMS last unwrapped the master secret",
            Gauge::clone(&age),
        );
        let metrics = Self {
            calls,
            seconds,
            age,
        };
        // From the start: an alert on growth does not see the first of a series that was not there.
        let outcomes = Class::ALL.iter().map(|class| class.as_str());
        for outcome in outcomes.chain(["ok"]) {
            drop(metrics.calls.get_or_create(&Called { outcome }));
        }
        metrics
    }
}

impl Metrics {
    /// The same, with what a KMS is asked.
    #[must_use]
    pub fn with_kms(mut self) -> Self {
        self.kms = Some(KmsMetrics::register(&mut self.registry));
        self
    }

    /// Counts a question to the KMS.
    pub fn kms_call(&self, outcome: &'static str, took: Duration) {
        if let Some(kms) = &self.kms {
            kms.calls.get_or_create(&Called { outcome }).inc();
            kms.seconds.observe(took.as_secs_f64());
        }
    }

    /// Tells how long ago the last unwrap was.
    pub fn kms_age(&self, age: Duration) {
        if let Some(kms) = &self.kms {
            kms.age.set(age.as_secs_f64());
        }
    }
}
