// SPDX-License-Identifier: Apache-2.0
//! A mapping made of a volume whose key is known, and compared with what was meant.
//!
//! **Never:** a mapping left that is not what was meant.

use log::warn;

use super::{Journal, Keyed, Luks, table};
use crate::error::{Doing, Result};
use crate::header::superblock;

/// What a mapping is meant to be.
pub(super) struct Meant<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The volume.
    pub(super) keyed: &'a Keyed,
    /// `major:minor` of what is below it, which is as long as the volume's disk.
    pub(super) below: String,
    /// Whether dm-integrity journals.
    pub(super) journal: Journal,
}

impl<'a> Meant<'a> {
    /// On the volume's disk itself.
    pub(super) fn on_disk(name: &'a str, keyed: &'a Keyed, journal: Journal) -> Self {
        Self {
            name,
            keyed,
            below: keyed.device.number(),
            journal,
        }
    }

    /// Makes it with `luks`, which was loaded for what is below it.
    pub(super) fn activate(&self, luks: &mut Luks) -> Result<()> {
        let (name, keyed) = (self.name, self.keyed);
        luks.activate(name, &keyed.volume_key, self.journal)
            .doing("activating")?;
        let expected = table::Expected {
            name,
            uuid: &keyed.uuid,
            disk: &self.below,
            len_sectors: superblock::data_len(keyed.device.len_bytes()) / table::SECTOR_LEN,
            mode: match self.journal {
                Journal::On => "J",
                Journal::Off => "D",
            },
        };
        let verified = table::verify(&expected).doing("comparing the live tables");
        if verified.is_err()
            && let Err(error) = luks.deactivate(name)
        {
            warn!(volume = name; "{error}");
        }
        verified
    }
}
