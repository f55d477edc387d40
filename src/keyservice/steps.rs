// SPDX-License-Identifier: Apache-2.0
//! A request's way to its step of the protocol, and what happens around each: it is counted, timed and written down.
//!
//! **Never:** a header, a cookie or a path: that is what `http` is for.

pub(crate) mod attest;
pub(crate) mod auth;
mod ownership;
pub(crate) mod release;

use std::time::Instant;

use crate::keyservice::reply::{Rejection, Reply};
use crate::keyservice::state::{AuditTrail, Operation, Request, Service};

/// The longest body before a machine has shown its TPM, and of a report, in bytes: a certificate is the most there is in it.
const SHORT_BODY_LEN_MAX: usize = 16 << 10;

impl Service {
    /// What has to hold before the body of a request is read, which is that the session is one for it. Returns the longest
    /// body in bytes.
    pub fn before_body(
        &self,
        request: &Request,
        trail: &mut AuditTrail,
    ) -> Result<usize, Rejection> {
        // Who is told that there is no such session would begin anew, and that it is denied, would not come back. A KMS that
        // denies denies the service and not the node, and may take it back, so that is told like an outage.
        self.keys.master().map(drop)?;
        let session = &request.session;
        let short = SHORT_BODY_LEN_MAX.min(self.body_len_max);
        match &request.operation {
            Operation::Auth => Ok(short),
            Operation::Attest => attest::challenged(session).map(|_| self.body_len_max),
            Operation::Report(_) => release::admitted(session, trail).map(|_| short),
            // They have none.
            Operation::Resource(..) | Operation::Record(_) => Ok(0),
        }
    }

    /// Answers a request. Blocks: belongs on a thread that may.
    pub fn answer(&self, request: &Request) -> Result<Reply, Rejection> {
        let start = Instant::now();
        let mut trail = AuditTrail::default();
        let answered = self.step(request, &mut trail).and_then(|reply| {
            if let Some(event) = request.operation.event() {
                self.record_audit(request, &trail, event, None)?;
            }
            Ok(reply)
        });
        match &answered {
            Ok(_) => {
                let step = request.operation.step();
                self.metrics.request(step, "ok", "", start.elapsed());
            }
            Err(rejection) => self.refused(request, &trail, rejection, start.elapsed()),
        }
        answered
    }

    fn step(&self, request: &Request, trail: &mut AuditTrail) -> Result<Reply, Rejection> {
        let session = &request.session;
        match &request.operation {
            Operation::Auth => auth::answer(self, &request.body, trail),
            Operation::Attest => attest::answer(self, request, trail),
            Operation::Resource(repository, kind, tag) => {
                release::resource(self, session, [repository, kind, tag], trail)
            }
            Operation::Record(uuid) => release::record(self, session, uuid, trail),
            Operation::Report(uuid) => release::report(self, session, uuid, &request.body, trail),
        }
    }
}
