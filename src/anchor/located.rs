// SPDX-License-Identifier: Apache-2.0
//! The anchor before it is read. What can be told without reading it is told while the disks are read, and the rest while
//! the processor works on a keyslot.

use super::pending::Pending;
use super::record::{Accepted, RECORD_LEN, Record};
use super::{Anchor, Loaded};
use crate::config::{Config, Level, NvIndex, Volume};
use crate::error::{Error, Result};
use crate::key::Secret;
use crate::tpm::{FoundRecords, Handles, NvAccess, Places, Policy, Tpm};

/// Where the anchor is. It was looked for and is not read yet.
#[derive(Clone, Debug)]
pub struct Located {
    places: Places,
    policy: Policy,
    counts: bool,
    found: FoundRecords,
}

impl Located {
    /// Looks for the anchor, whose record is sealed to `policy`, and refuses one that another program made; `None` where no
    /// volume wants one.
    pub fn find(config: &Config, policy: Policy, tpm: &mut Tpm) -> Result<Option<Self>> {
        let levels = config.volumes().map(Volume::level);
        let Some(highest) = levels.max().filter(|level| *level != Level::Off) else {
            return Ok(None);
        };
        let anchor = &config.anchor;
        let places = Places {
            records: [anchor.index, anchor.index.spare()].map(NvIndex::handle),
            counter: anchor.counter.handle(),
            requests: anchor.index.requests(anchor.counter).handle(),
        };
        Ok(Some(Self {
            places,
            policy,
            counts: highest >= Level::Epoch,
            found: tpm.find_records(places, policy, RECORD_LEN)?,
        }))
    }

    /// Reads the anchor, all but its counter.
    pub fn read(&self, tpm: &mut Tpm) -> Result<Anchor> {
        let FoundRecords {
            readable,
            others,
            unwritten,
            has_counter,
            has_requests,
        } = self.found.clone();
        let loaded = readable.map(|at| load(tpm, at, self.policy)).transpose()?;
        let [first, _] = self.places.records;
        let counter = self.places.counter;
        Ok(Anchor {
            places: self.places,
            at: readable.unwrap_or(Handles {
                record: first,
                counter,
            }),
            others,
            unwritten,
            is_provisional: loaded.as_ref().is_some_and(Loaded::is_provisional),
            has_counter,
            pending: Pending::found(has_requests),
            policy: self.policy,
            loaded,
            counter: None,
            nonce: None,
            counts: self.counts,
            enrolled: Vec::new(),
            readmitted: Vec::new(),
            carried: Vec::new(),
            rolled_back: Vec::new(),
        })
    }
}

impl Loaded {
    /// A record that is in the TPM, with its authorisation value. To be asked for before the fence.
    pub(super) fn new(tpm: &mut Tpm, policy: Policy, record: Record, auth: Secret) -> Result<Self> {
        let pcr_policy = tpm.anchor_policy(policy)?;
        let access = NvAccess { auth, pcr_policy };
        Ok(Self { record, access })
    }

    fn is_provisional(&self) -> bool {
        let mut entries = self.record.entries();
        entries.any(|entry| entry.acceptance == Some(Accepted::Stale))
    }
}

fn load(tpm: &mut Tpm, at: Handles, policy: Policy) -> Result<Loaded> {
    let bytes = tpm.read_anchor(at, policy, RECORD_LEN)?;
    // It was there, and nobody but this program writes in this boot.
    let bytes = bytes.ok_or_else(|| Error::refused("the anchor was removed just now"))?;
    let (record, auth) = Record::parse(&bytes)?;
    Loaded::new(tpm, policy, record, auth)
}
