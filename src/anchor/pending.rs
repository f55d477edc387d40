// SPDX-License-Identifier: Apache-2.0
//! What an operator asked this boot to do, and what becomes of it.
//!
//! Nothing here fails a boot: requests that cannot be read are said, and wait for somebody to look.

use log::{info, warn};
use uuid::Uuid;

use super::Anchor;
use super::requests::{REQUESTS_LEN, Request, RequestKeys, Requests};
use crate::error::{Error, Result};
use crate::tpm::{FoundRequests, Tpm};

/// What is known of the index of requests.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Whether there is an index in its place.
    is_there: bool,
    /// Whether it was made for a record that is gone. Nobody can read it any more.
    is_orphaned: bool,
    /// What was asked for, and for each request, in its order, whether a header of this boot has it.
    asked: Option<(Requests, Vec<bool>)>,
}

impl Pending {
    pub(super) fn found(is_there: bool) -> Self {
        Self {
            is_there,
            ..Self::default()
        }
    }

    /// The record has an authorisation value that what is there does not follow from.
    pub(super) fn orphan(&mut self) {
        self.is_orphaned = self.is_there;
    }
}

impl Anchor {
    /// What the operator asked this boot to do.
    ///
    /// An index that does not answer to this node's record was made for one of before, by a boot that was cut off before it could
    /// remove it, or by another program. It would be in the way for ever.
    ///
    /// Commands: none where there is no such index, else `StartAuthSession`, `NV_ReadPublic`, `NV_Read`.
    pub fn requests(&mut self, tpm: &mut Tpm) -> Option<Requests> {
        if !self.pending.is_there || self.pending.is_orphaned || self.is_stale() {
            return None;
        }
        match self.read_requests(tpm) {
            Ok(requests) => requests,
            Err(error) => {
                warn!("{error}");
                None
            }
        }
    }

    /// Says what was asked for, and for each request, in its order, whether it is in the header that its volume is to have.
    pub fn keep_requests(&mut self, asked: Requests, made: Vec<bool>) {
        self.pending.asked = Some((asked, made));
    }

    /// Takes away what is fulfilled: what was asked of the volumes whose headers are `durable`. What was asked of one that left this
    /// boot on its way stays.
    pub fn settle_requests(&mut self, tpm: &mut Tpm, durable: &[Uuid]) {
        // As long as the record of before is there, a boot that can read it does what was asked for.
        if self.pending.is_orphaned && self.others.is_empty() {
            match tpm.remove_requests(self.places.requests, REQUESTS_LEN) {
                Ok(()) => {
                    info!("what was asked for in the record of before is gone with it: ask again");
                }
                Err(error) => warn!("{error}"),
            }
        }
        let Some((mut left, made)) = self.pending.asked.take() else {
            return;
        };
        let mut made = made.into_iter();
        let is_done = |request: &Request, is_made: bool| is_made && durable.contains(&request.uuid);
        if !left.retain(|request| !is_done(request, made.next().unwrap_or(false))) {
            return;
        }
        if let Err(error) = self.write_left(tpm, &left) {
            warn!("{error}; what was asked for is done, and the next boot finds it so");
        }
    }

    fn read_requests(&mut self, tpm: &mut Tpm) -> Result<Option<Requests>> {
        let keys = self.request_keys()?;
        match tpm.find_requests(self.places.requests, &keys.auth, REQUESTS_LEN)? {
            FoundRequests::Nothing => Ok(None),
            FoundRequests::Content(bytes) => Requests::parse(&bytes, &keys).map(Some),
            FoundRequests::OfAnotherRecord(why) => {
                self.pending.orphan();
                warn!("{why}");
                Ok(None)
            }
        }
    }

    fn write_left(&self, tpm: &mut Tpm, left: &Requests) -> Result<()> {
        let index = self.places.requests;
        let keys = self.request_keys()?;
        if left.is_empty() {
            let Err(error) = tpm.remove_requests(index, REQUESTS_LEN) else {
                return Ok(());
            };
            // The keys in it have done their work.
            warn!("{error}");
        }
        tpm.write_requests(index, &keys.auth, &left.encode(&keys)?)
    }

    fn request_keys(&self) -> Result<RequestKeys> {
        let loaded = self.loaded.as_ref();
        let loaded = loaded.ok_or_else(|| Error::failure("there is no record"))?;
        RequestKeys::of(&loaded.access.auth)
    }
}
