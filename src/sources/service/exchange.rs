// SPDX-License-Identifier: Apache-2.0
//! What is asked of the key service in one try of a boot, and what came of it.
//!
//! The service admits a machine with all volumes that it claims, or denies it for one of them: one whose header is older than it
//! remembers, or has another volume's UUID. What is claimed is what unproven headers say, and the disk of a volume that need not be
//! there is not to cost the others their keys. So where the service denies, it is asked once more, without those volumes.

use std::sync::Mutex;

use log::warn;

use crate::client::{Client, KeyRequest, KeyResponse};
use crate::error::{Error, Exit, Result};
use crate::protocol::{Remembered, VolumeClaim, VolumeReport};
use crate::sources::service::Asking;
use crate::sources::tpm::{NodeTpm, lock};
use crate::tpm::Tpm;

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) client: Client,
    pub(super) request: KeyRequest,
    /// How many of the volumes in it, from the first, have to be there.
    required: usize,
    /// Why the others are not in it any more.
    denied: Option<String>,
    /// What came of asking; a failure as its verdict and sentence, since each volume is told.
    pub(super) asked: Option<std::result::Result<KeyResponse, (Exit, String)>>,
    /// How it is asked from now on.
    pub(super) asking: Asking,
    /// What the service is to remember of the volumes it spoke of.
    pub(super) reports: Vec<(String, VolumeReport)>,
}

impl Exchange {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            request: KeyRequest::default(),
            required: 0,
            denied: None,
            asked: None,
            asking: Asking::Usually,
            reports: Vec::new(),
        }
    }

    /// What this try asks for, if it asks: the volumes that have to be there, and the others.
    pub(super) fn request(
        &mut self,
        request: KeyRequest,
        [required, others]: [Vec<VolumeClaim>; 2],
    ) {
        self.required = required.len();
        self.denied = None;
        self.request = KeyRequest {
            volumes: [required, others].concat(),
            ..request
        };
    }

    pub(super) fn ask(&mut self, node_tpm: &Mutex<NodeTpm>) -> Result<&KeyResponse> {
        if self.asked.is_none() {
            self.ask_by(&mut lock(node_tpm)?.tpm);
        }
        self.response()
    }

    /// The same for who wants something of this volume.
    pub(super) fn ask_for(
        &mut self,
        node_tpm: &Mutex<NodeTpm>,
        uuid: &str,
    ) -> Result<&KeyResponse> {
        if self.asked.is_none() {
            self.ask_by(&mut lock(node_tpm)?.tpm);
        }
        self.response_for(uuid)
    }

    fn ask_by(&mut self, tpm: &mut Tpm) {
        let mut asked = self.client.ask(tpm, &self.request);
        if let Err(denial) = &asked
            && self.leaves_out_others()
        {
            warn!(
                "asking the key service again, without the volumes that need not be there: {denial}"
            );
            self.denied = Some(denial.to_string());
            self.request.volumes.truncate(self.required);
            asked = self.client.ask(tpm, &self.request);
        }
        self.asked = Some(asked.map_err(|error| (error.exit(), error.to_string())));
    }

    /// Whether the service has denied this machine, and there is something else to ask it for.
    fn leaves_out_others(&mut self) -> bool {
        let has_others = self.request.volumes.len() > self.required;
        let is_needed = self.required > 0 || self.request.cluster;
        has_others && is_needed && self.client.forget_denials()
    }

    fn response(&self) -> Result<&KeyResponse> {
        match &self.asked {
            Some(Ok(response)) => Ok(response),
            Some(Err((exit, said))) => Err(Error::new(*exit, said)),
            None => Err(Error::failure("the key service was not asked")),
        }
    }

    fn response_for(&self, uuid: &str) -> Result<&KeyResponse> {
        let is_claimed = self.request.volumes.iter().any(|claim| claim.uuid == uuid);
        match &self.denied {
            Some(said) if !is_claimed => Err(Error::refused(said)),
            _ => self.response(),
        }
    }

    pub(super) fn given(&self) -> Option<&KeyResponse> {
        self.asked.as_ref().and_then(|asked| asked.as_ref().ok())
    }

    pub(super) fn remembered(&self, uuid: &str) -> Option<&Remembered> {
        self.given()?.volume(uuid).ok()?.remembered.as_ref()
    }
}

#[cfg(test)]
mod tests;
