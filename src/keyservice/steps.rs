// SPDX-License-Identifier: Apache-2.0
//! A request's way to its step of the protocol, and what happens around each: it is counted, timed and written down.

pub(crate) mod attest;
pub(crate) mod auth;
pub(crate) mod release;

use std::time::Instant;

use crate::keyservice::reply::{Refused, Reply};
use crate::keyservice::state::{Ask, Request, Service, Trail};

/// The longest body before a machine has shown its TPM, and of a report, in bytes: a certificate is the most there is in it.
const SHORT_BODY_LEN_MAX: usize = 16 << 10;

impl Service {
    /// What has to hold before the body of a request is read, which is that the session is one for it. Returns the longest
    /// body in bytes.
    pub fn before_body(&self, request: &Request, trail: &mut Trail) -> Result<usize, Refused> {
        let session = request.session.as_deref();
        let short = SHORT_BODY_LEN_MAX.min(self.body_len_max);
        match &request.ask {
            Ask::Auth => Ok(short),
            Ask::Attest => attest::challenged(self, session).map(|_| self.body_len_max),
            Ask::Report(_) => release::admitted(self, session, trail).map(|_| short),
            // They have none.
            Ask::Resource(..) | Ask::Record(_) => Ok(0),
        }
    }

    /// Answers a request. Blocks: belongs on a thread that may.
    pub fn answer(&self, request: &Request) -> Result<Reply, Refused> {
        let start = Instant::now();
        let mut trail = Trail::default();
        let answered = self.step(request, &mut trail).and_then(|reply| {
            if let Some(event) = request.ask.event() {
                self.write_down(request, &trail, event, None)?;
            }
            Ok(reply)
        });
        match &answered {
            Ok(_) => {
                let step = request.ask.step();
                self.metrics.request(step, "ok", "", start.elapsed());
            }
            Err(refused) => self.refused(request, &trail, refused, start.elapsed()),
        }
        answered
    }

    fn step(&self, request: &Request, trail: &mut Trail) -> Result<Reply, Refused> {
        let session = request.session.as_deref();
        match &request.ask {
            Ask::Auth => auth::answer(self, &request.body, trail),
            Ask::Attest => attest::answer(self, session, request, trail),
            Ask::Resource(repository, kind, tag) => {
                release::resource(self, session, [repository, kind, tag], trail)
            }
            Ask::Record(uuid) => release::record(self, session, uuid, trail),
            Ask::Report(uuid) => release::report(self, session, uuid, &request.body, trail),
        }
    }
}
