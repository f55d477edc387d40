// SPDX-License-Identifier: Apache-2.0
//! Whether the service can answer.

use std::sync::atomic::Ordering;

use log::{error, info};

use crate::keyservice::state::Service;

impl Service {
    /// Why the service could not answer a moment ago, if so.
    #[must_use]
    pub fn why_not_ready(&self) -> Option<&'static str> {
        if !self.is_ready.load(Ordering::Acquire) {
            return Some("the store does not answer\n");
        }
        self.keys
            .is_stopped()
            .then_some("releases are stopped: the KMS does not unwrap the master secret\n")
    }

    /// Finds out whether the service can answer: whether its store can be read. Nobody who asks causes that.
    pub fn probe(&self) {
        let read = self.store.get("ready");
        let was_ready = self.is_ready.swap(read.is_ok(), Ordering::AcqRel);
        match read {
            Err(error) if was_ready => error!("not ready: {error}"),
            Ok(_) if !was_ready => info!("ready again"),
            Ok(_) | Err(_) => {}
        }
    }
}
