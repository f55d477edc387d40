// SPDX-License-Identifier: Apache-2.0
//! The anchor before it is read. What can be told without reading it is told while the disks are read, and the rest while
//! the processor works on a keyslot.

use super::record::{RECORD_LEN, Record};
use super::{Anchor, Loaded};
use crate::config::{Config, Level, Volume};
use crate::error::{Error, Result};
use crate::tpm::{Handles, NvAccess, Policy, Tpm};

/// Where the anchor is. It was looked for and is not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Located {
    at: Handles,
    policy: Policy,
    counts: bool,
    /// Whether there is a record.
    is_made: bool,
}

impl Located {
    /// Looks for the anchor, and refuses one that another boot chain or another program made; `None` where no volume wants
    /// one.
    pub fn find(config: &Config, tpm: &mut Tpm) -> Result<Option<Self>> {
        let levels = config.volumes().map(Volume::level);
        let Some(highest) = levels.max().filter(|level| *level != Level::Off) else {
            return Ok(None);
        };
        let at = Handles {
            record: config.anchor.index.handle(),
            counter: config.anchor.counter.handle(),
        };
        let policy = Policy::from(&config.tpm);
        Ok(Some(Self {
            at,
            policy,
            counts: highest >= Level::Epoch,
            is_made: tpm.find_anchor(at, policy, RECORD_LEN)?,
        }))
    }

    /// Reads the anchor, all but its counter.
    pub fn read(self, tpm: &mut Tpm) -> Result<Anchor> {
        Ok(Anchor {
            at: self.at,
            policy: self.policy,
            loaded: self.loaded(tpm)?,
            counter: None,
            nonce: None,
            counts: self.counts,
            enrolled: Vec::new(),
            readmitted: Vec::new(),
        })
    }

    fn loaded(self, tpm: &mut Tpm) -> Result<Option<Loaded>> {
        if !self.is_made {
            return Ok(None);
        }
        let bytes = tpm.read_anchor(self.at, self.policy, RECORD_LEN)?;
        // It was there, and nobody but this program writes in this boot.
        let bytes = bytes.ok_or_else(|| Error::refused("the anchor was removed just now"))?;
        let (record, auth) = Record::parse(&bytes)?;
        let pcr_policy = tpm.anchor_policy(self.policy)?;
        let access = NvAccess { auth, pcr_policy };
        Ok(Some(Loaded { record, access }))
    }
}
