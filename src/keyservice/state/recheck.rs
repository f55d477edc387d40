// SPDX-License-Identifier: Apache-2.0
//! What a running service does about its KMS: it asks again, counts and writes down what it hears, and stops or takes up
//! releases.

use std::time::Instant;

use log::{error, info, warn};

use crate::keyservice::audit::{self, Line};
use crate::keyservice::kms::Failure;
use crate::keyservice::kms::watch::Verdict;
use crate::keyservice::state::Service;

/// What the audit log has as the step of these lines.
const STEP: &str = "kms";

impl Service {
    /// Asks the KMS again where that is due. Blocks; one at a time.
    pub fn recheck(&self, now: Instant) {
        let Some(heard) = self.keys.recheck(now) else {
            return;
        };
        let class = heard.failure.as_ref().map(|failure| failure.class);
        self.metrics
            .kms_call(class.map_or("ok", |class| class.as_str()), heard.took);
        self.tell(heard.verdict, heard.failure.as_ref());
    }

    /// Looks after the rechecks: tells how old the last unwrap is, and ends releases where a question has no end. Never
    /// waits for the KMS.
    pub fn watch_rechecks(&self, now: Instant) {
        if let Some(at) = self.keys.last_unwrap() {
            self.metrics.kms_age(now.saturating_duration_since(at));
        }
        if let Some(failure) = self.keys.end_overdue(now) {
            self.tell(Verdict::Stop(failure.class), Some(&failure));
        }
    }

    fn tell(&self, verdict: Verdict, failure: Option<&Failure>) {
        let class = failure.map(|failure| failure.class);
        let why = failure.map(ToString::to_string);
        let why = why.as_deref();
        let told = why.unwrap_or("the master secret was unwrapped");
        let event = match verdict {
            Verdict::Going | Verdict::Stopped(_) => return,
            Verdict::Doubtful(_) => {
                warn!("{told}; releases go on for now");
                "kms-failure"
            }
            Verdict::Stop(_) => {
                error!("releases stop, and the master secret is wiped: {told}");
                "kms-stop"
            }
            Verdict::Resume => {
                info!("releases begin again: {told}");
                "kms-resume"
            }
        };
        let line = Line {
            time: audit::time(audit::now_s()),
            event,
            step: STEP,
            peer: self.keys.kms().unwrap_or_default(),
            check: class.map(crate::keyservice::kms::Class::check),
            why,
            ..Line::default()
        };
        if let Err(error) = self.audit.add(&line) {
            error!("{event}: {error}");
        }
    }
}
