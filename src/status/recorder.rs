// SPDX-License-Identifier: Apache-2.0
//! Fills in a boot's record while the boot goes on, from as many threads as it has.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{
    AwayStatus, PcrValues, Pcrs, SCHEMA, ServiceStatus, StartStatus, Status, Step, VolumeStatus,
};
use crate::anchor::failure::FailurePlace;
use crate::clock::boottime_us;
use crate::config::Volume;
use crate::error::{Doing, Error, Result};
use crate::logging;
use crate::mounted::Mounted;
use crate::pcr::{Digests, Pcr};

/// A record in the making.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    status: Mutex<Status>,
}

impl Recorder {
    /// Starts the clock.
    #[must_use]
    pub fn start() -> Self {
        let status = Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            started_us: boottime_us(),
            result: String::new(),
            exit: 0,
            error: None,
            start: None,
            volumes: Vec::new(),
            away: Vec::new(),
            mounts: Vec::new(),
            pcrs: Pcrs::default(),
            cluster_id: None,
            service: None,
            epoch: None,
            fence_pcr: None,
            failures: None,
            steps: Vec::new(),
        };
        Self {
            started: Instant::now(),
            status: Mutex::new(status),
        }
    }

    /// Does one step: tells systemd of it, takes its time, and puts its name in front of its error.
    pub fn step<T>(
        &self,
        name: &str,
        volume: Option<&Volume>,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match volume {
            Some(volume) => logging::progress(&format!("volume {}: {name}", volume.name)),
            None => logging::progress(name),
        }
        let start_us = self.elapsed_us();
        let done = work();
        let step = Step {
            name: name.into(),
            volume: volume.map(|volume| volume.name.to_string()),
            start_us,
            end_us: self.elapsed_us(),
            failed: done.is_err(),
        };
        self.lock().steps.push(step);
        done.doing(name)
    }

    /// Notes how the machine was started.
    pub fn start_of_machine(&self, start: StartStatus) {
        self.lock().start = Some(start);
    }

    /// Adds a volume that was opened.
    pub fn volume(&self, volume: VolumeStatus) {
        self.lock().volumes.push(volume);
    }

    /// Adds a volume that need not be there, and that the boot went on without.
    pub fn away(&self, volume: &Volume, error: &Error) {
        let away = AwayStatus {
            name: volume.name.to_string(),
            role: volume.role,
            device: volume.device.to_string(),
            result: error.exit().as_str().into(),
            exit: error.exit().code(),
            error: error.to_string(),
        };
        let mut status = self.lock();
        // One that could not be mounted was open before.
        status.volumes.retain(|other| other.name != away.name);
        status.away.push(away);
    }

    /// Notes what was found mounted.
    pub fn mounts(&self, mounts: Vec<Mounted>) {
        self.lock().mounts = mounts;
    }

    /// Notes what a PCR held before anything was measured.
    pub fn pcr_before(&self, pcr: Pcr, digests: &Digests) {
        note(&mut self.lock().pcrs.before, pcr, digests);
    }

    /// Notes what a PCR holds after everything was measured.
    pub fn pcr_after(&self, pcr: Pcr, digests: &Digests) {
        note(&mut self.lock().pcrs.after, pcr, digests);
    }

    /// Notes the clusterID.
    pub fn cluster_id(&self, id: &[u8]) {
        self.lock().cluster_id = Some(hex::encode(id));
    }

    /// Notes which address of the key service gave keys, and how long that took.
    pub fn service(&self, url: &str, took: Duration) {
        self.lock().service = Some(ServiceStatus {
            url: url.to_owned(),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
    }

    /// Notes the anchor's counter.
    pub fn epoch(&self, counter: u64) {
        self.lock().epoch = Some(counter);
    }

    /// Notes that the fence is up.
    pub fn fence(&self, pcr: Pcr) {
        self.lock().fence_pcr = Some(pcr);
    }

    /// Notes where a boot that fails leaves its sentence.
    pub fn keeps_failures(&self, place: Option<FailurePlace>) {
        self.lock().failures = place;
    }

    /// The finished record of a boot that ended in `result`.
    #[must_use]
    pub fn finish(self, result: &Result<()>) -> Status {
        let mut status = self
            .status
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        // Outer steps end after inner ones; people read in the order things began.
        status
            .steps
            .sort_by_key(|step| (step.start_us, u64::MAX.saturating_sub(step.end_us)));
        match result {
            Ok(()) => "done".clone_into(&mut status.result),
            Err(error) => {
                error.exit().as_str().clone_into(&mut status.result);
                status.exit = error.exit().code();
                status.error = Some(error.to_string());
            }
        }
        status
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A thread that panicked while it held the lock left a record that is still worth having.
    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(values: &mut PcrValues, pcr: Pcr, digests: &Digests) {
    for (bank, digest) in digests {
        values
            .entry(*bank)
            .or_default()
            .insert(pcr, hex::encode(digest));
    }
}
