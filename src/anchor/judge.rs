// SPDX-License-Identifier: Apache-2.0
//! What the anchor's entry says to what was found on the disk. Pure, so that every crash and every attack can be played
//! through: see the model in `model.rs`.

pub mod stale;

use log::info;
use uuid::Uuid;

use super::count::{Count, Fit};
use super::record::{Accepted, Checkpoint, Entry, KeyId, State};
use crate::config::{Level, VolumeName};
use crate::error::{Error, Result};
use crate::header::Stamp;
use crate::key::KEY_LEN;
use crate::protocol::{EPOCHS_OF_AN_ANSWER, Remembered, VolumeRecord};

/// What a volume's device holds, as far as can be told without its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceState {
    /// Nothing, proven.
    Blank,
    /// A first boot that was interrupted while it made the volume of this UUID.
    Interrupted(Uuid),
    /// A volume.
    Volume,
}

/// What is known of a volume once its key is: all of it is authenticated with that key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VolumeProof {
    /// Its UUID.
    pub uuid: Uuid,
    /// The id of its volume key.
    pub key_id: [u8; KEY_LEN],
    /// The boot that wrote its header.
    pub stamp: Stamp,
}

impl VolumeProof {
    /// What is remembered of it from here on, at `level` and with epochs so far `ahead` of the counter.
    pub(super) fn entry(&self, name: VolumeName, level: Level, ahead: i64) -> Entry {
        Entry {
            name,
            uuid: self.uuid,
            key_id: KeyId::of(&self.key_id),
            state: State::Ready,
            level,
            acceptance: None,
            checkpoint: None,
            ahead,
            enroll: false,
            away: None,
        }
    }
}

/// A key service's answer for the word of an operator that a volume's node has lost its TPM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Readmission {
    /// What the service remembers of the volume.
    pub record: VolumeRecord,
    /// When it answered, in seconds since 1970 by its clock.
    pub answered_s: u64,
    /// The last answer before it after which a boot was reported that had it; 0 where there is none.
    pub void_s: u64,
}

impl Readmission {
    /// The one in an answer, if it is one.
    #[must_use]
    pub fn of(remembered: &Remembered) -> Option<Self> {
        Some(Self {
            record: remembered.record.clone(),
            answered_s: remembered.readmitted_s?,
            void_s: remembered.void_s.unwrap_or(0),
        })
    }

    /// How far the epochs of this answer are ahead of the TPM's counter.
    pub(super) fn ahead(&self) -> Result<i64> {
        let ahead = self.answered_s.checked_mul(EPOCHS_OF_AN_ANSWER);
        ahead
            .and_then(|ahead| i64::try_from(ahead).ok())
            .ok_or_else(|| {
                Error::refused(format_args!(
                    "the key service answers at {} s since 1970: set its clock",
                    self.answered_s
                ))
            })
    }
}

/// Whether what was found may be gone on with. `entry` is the volume's in a record that exists.
pub fn permit(entry: Option<&Entry>, seen: DeviceState) -> Result<()> {
    match (seen, entry.map(|entry| (entry, entry.state))) {
        (DeviceState::Blank, None | Some((_, State::Provisioning)))
        | (DeviceState::Volume, Some((_, State::Provisioning | State::Ready))) => Ok(()),
        (DeviceState::Interrupted(uuid), Some((entry, State::Provisioning)))
            if uuid == entry.uuid =>
        {
            Ok(())
        }
        (DeviceState::Blank, Some((entry, State::Ready | State::Lost)))
            if entry.acceptance == Some(Accepted::New) =>
        {
            Ok(())
        }
        (DeviceState::Blank, Some((entry, State::Ready))) => Err(Error::refused(format_args!(
            "rule F23: the device is blank, and the TPM remembers volume {}: attach its disk; to start anew with \
             this one, run \"nightlatchctl anchor accept new {}\" while the node still runs, or give the VM a new TPM",
            entry.uuid, entry.name
        ))),
        (DeviceState::Blank, Some((entry, State::Lost))) => Err(Error::refused(format_args!(
            "rule F23: the device is blank, and whether there was a volume {name} cannot be told: the TPM's record was made anew \
             without it: attach its disk; to start anew with this one, run \"nightlatchctl anchor accept new {name}\" while the node \
             still runs",
            name = entry.name
        ))),
        (DeviceState::Interrupted(uuid), Some((entry, State::Provisioning | State::Ready))) => {
            Err(Error::refused(format_args!(
                "rule F23: an interrupted first boot of volume {uuid}, and the TPM remembers volume {}: attach its disk",
                entry.uuid
            )))
        }
        (DeviceState::Interrupted(uuid), None | Some((_, State::Lost))) => {
            Err(Error::refused(format_args!(
                "rule F23: an interrupted first boot of volume {uuid} that the TPM does not remember: \
                 the disk is of another machine, or the TPM was cleared; if nobody needs the disk, blank it"
            )))
        }
        (DeviceState::Volume, None | Some((_, State::Lost))) => Err(Error::refused(
            "the TPM does not remember this volume: the disk is of another machine, or the TPM's memory was cleared since; \
             attach the right disk, or restore the data into a new volume. If this node lost its TPM and a key service \
             remembers the volume, \"nightlatchctl nodes readmit UUID\" there lets the next boot open it",
        )),
    }
}

/// Whether an image asks enough of a volume: one that asks less than another did would have a later boot of that take an older
/// disk.
///
/// Images can read one record where what differs between them is not sealed to.
pub fn asks_enough(entry: Option<&Entry>, level: Level) -> Result<()> {
    let known = entry.filter(|entry| entry.level > level && entry.acceptance.is_none());
    match known {
        None => Ok(()),
        Some(entry) => Err(Error::refused(format_args!(
            "the TPM remembers volume {name} at level {}, and the configuration of this image has anchor = \"{}\", which would take \
             older disks from now on: boot an image that asks as much, or run \"nightlatchctl anchor accept rollback {name}\" in it \
             before this one is booted",
            entry.level.as_str(),
            level.as_str(),
            name = entry.name,
        ))),
    }
}

/// Compares a volume with its entry at `level`; `count` is what the TPM says of the boots it counted.
pub fn verify(entry: &Entry, count: Count, level: Level, proven: &VolumeProof) -> Result<()> {
    if proven.uuid != entry.uuid || !entry.key_id.is_of(&proven.key_id) {
        return Err(Error::refused(format_args!(
            "rule D15: this is volume {} with key {}, and the TPM remembers {} with key {}: \
             it was put in the other's place; attach the right disk",
            proven.uuid,
            short(&KeyId::of(&proven.key_id)),
            entry.uuid,
            short(&entry.key_id)
        )));
    }
    // A volume that was last open at a lower level was not counted then.
    if level < Level::Epoch || entry.level < Level::Epoch {
        return Ok(());
    }
    if entry.acceptance == Some(Accepted::Rollback) {
        return Ok(());
    }
    let epoch = proven.stamp.epoch;
    let why = match (fit(entry, count, proven.stamp), entry.away) {
        (Fit::Newest, _) => return Ok(()),
        (Fit::OtherBoot, _) => format!(
            "rule G26: the header is of epoch {epoch}, as the TPM counts, and not of the boot that it counted: another one \
             wrote it, and was cut off"
        ),
        (Fit::OtherCount, None) => format!(
            "rule G26: the header is of epoch {epoch}, and the TPM counts {}: the disk was put back to an earlier state, \
             or lost its last writes, or an image without this volume was booted with an older version of nightlatch",
            i128::from(count.last()).saturating_add(i128::from(entry.ahead))
        ),
        (Fit::OtherCount, Some(away)) => format!(
            "rule G26: the header is of epoch {epoch}, and the volume was away since it was open at {}: the disk was put back to \
             an earlier state, or lost its last writes",
            away.epoch
        ),
    };
    Err(Error::refused(format_args!(
        "{why}; attach the current disk. To go back on purpose, run \
         \"nightlatchctl anchor accept rollback {}\" before the node is shut down, or \"nightlatchctl nodes accept rollback {}\" at the key \
         service",
        entry.name, entry.uuid
    )))
}

/// How a header compares with the counter or, where the volume was away in boots that were counted, with its entry.
fn fit(entry: &Entry, count: Count, header: Stamp) -> Fit {
    // An epoch that is further from the count than numbers reach fits nothing.
    let counted = |stamp: Stamp| -> Option<Stamp> {
        let epoch = i128::from(stamp.epoch).checked_sub(i128::from(entry.ahead))?;
        let epoch = u64::try_from(epoch).ok()?;
        Some(Stamp { epoch, ..stamp })
    };
    match (counted(header), entry.away) {
        (Some(found), None) => count.fits(found),
        (Some(found), Some(away)) => counted(away).map_or(Fit::OtherCount, |last_open| {
            count.fits_away(last_open, found)
        }),
        (None, _) => Fit::OtherCount,
    }
}

/// Compares a volume with what a key service remembers of it, where the operator accepted `accepted`. Pure as well.
///
/// Two headers of one epoch are told apart by the nonce: a host that cuts boots off keeps an old disk at the newest epoch, and
/// where the TPM's record is gone there is no other nonce to compare with (see [`super::count`]). Of a higher epoch the service
/// knows none.
pub fn recorded(
    record: &VolumeRecord,
    key_id: &[u8; KEY_LEN],
    stamp: Option<Stamp>,
    accepted: Option<Accepted>,
) -> Result<()> {
    let key_id = hex::encode(key_id);
    if let Some(known) = &record.key_id
        && *known != key_id
    {
        return Err(Error::refused(format_args!(
            "rule D15: this is a volume with key {key_id}, and the key service remembers key {known}: \
             it was put in the other's place; attach the right disk"
        )));
    }
    if accepted == Some(Accepted::Rollback) {
        return Ok(());
    }
    // A header without an epoch is older than any that has one.
    let (epoch, nonce) = stamp.map_or((0, None), |stamp| (stamp.epoch, stamp.nonce));
    if epoch == record.epoch && record.nonce.is_some() && record.nonce != nonce {
        return Err(Error::refused(format_args!(
            "rule G26: the header is of epoch {epoch}, which the key service remembers, and another boot wrote it, which was \
             cut off: attach the current disk"
        )));
    }
    if epoch >= record.epoch {
        return Ok(());
    }
    let found = match stamp {
        Some(_) => format!("is of epoch {epoch}"),
        None => "has no epoch".to_owned(),
    };
    Err(Error::refused(format_args!(
        "rule G26: the header {found}, and the key service remembers {}: the disk was put back to an earlier state; attach \
         the current disk",
        record.epoch
    )))
}

/// Whether a volume that the TPM does not remember is the one whose record the key service has, for the word of an operator
/// that its node has lost its TPM. The disk may be as old as the last report to the service, and no newer than what the answers
/// before this one have led to.
pub fn readmitted(readmission: &Readmission, proven: &VolumeProof) -> Result<()> {
    let record = &readmission.record;
    if record.key_id.is_none() {
        return Err(Error::refused(format_args!(
            "rule D15: volume {} was readmitted, and the key service was never told which key it has, so nothing shows \
             that this is its disk; restore the data into a new volume",
            proven.uuid
        )));
    }
    recorded(record, &proven.key_id, Some(proven.stamp), None)?;
    let [led_to_s, told_s] =
        [proven.stamp.epoch, record.epoch].map(|epoch| epoch / EPOCHS_OF_AN_ANSWER);
    if led_to_s != told_s && led_to_s <= readmission.void_s {
        return Err(Error::refused(format_args!(
            "rule G26: the header's epoch {} follows from an answer of the key service's at {led_to_s} s since 1970, and a boot that did \
             not was reported since: attach the current disk",
            proven.stamp.epoch
        )));
    }
    if led_to_s > readmission.answered_s {
        return Err(Error::refused(format_args!(
            "rule G26: the header's epoch {} is of a later time than the key service's answer, {} s since 1970: attach the \
             current disk; if the service's store or clock was put back, set it right, or restore the data into a new volume",
            proven.stamp.epoch, readmission.answered_s
        )));
    }
    Ok(())
}

/// The first eight bytes of a volume-key id, enough to tell two apart.
fn short(key_id: &KeyId) -> String {
    let mut digits = key_id.known();
    digits.truncate(16);
    digits
}

/// Whether a file system that was last seen in state `anchored` may be gone on with.
pub fn freshness(anchored: Option<&Checkpoint>, seen: &Checkpoint) -> Result<()> {
    let Some(anchored) = anchored else {
        info!(
            "no checkpoint yet, the file system is of generation {}",
            seen.generation
        );
        return Ok(());
    };
    if seen.fsid != anchored.fsid {
        return Err(Error::refused(format_args!(
            "this is file system {}, and the TPM remembers {}: it was replaced; \
             to go on with another one, run \"nightlatchctl anchor accept rollback\" for the volume first",
            hex::encode(seen.fsid),
            hex::encode(anchored.fsid)
        )));
    }
    match seen.generation.checked_sub(anchored.generation) {
        Some(ahead) => {
            info!("the file system is {ahead} transactions ahead of its last checkpoint");
            Ok(())
        }
        None => Err(Error::refused(format_args!(
            "the file system is of generation {}, and the TPM remembers {}: it was put back to an earlier state; \
             attach the current disk, or run \"nightlatchctl anchor accept rollback\" before the node is shut down",
            seen.generation, anchored.generation
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(generation: u64) -> Checkpoint {
        Checkpoint {
            fsid: [5; 16],
            generation,
        }
    }

    #[test]
    fn a_file_system_may_be_ahead_of_its_checkpoint_and_not_behind() {
        freshness(None, &at(7)).unwrap();
        freshness(Some(&at(7)), &at(7)).unwrap();
        freshness(Some(&at(7)), &at(9)).unwrap();
        let error = freshness(Some(&at(7)), &at(6)).unwrap_err().to_string();
        assert!(
            error.contains("generation 6, and the TPM remembers 7"),
            "{error}"
        );
    }

    #[test]
    fn another_file_system_is_refused_however_new() {
        let other = Checkpoint {
            fsid: [6; 16],
            generation: 99,
        };
        let error = freshness(Some(&at(7)), &other).unwrap_err().to_string();
        assert!(error.contains("it was replaced"), "{error}");
    }

    /// Counted by the model for every instant: an anchor that follows what is durable never locks the node out.
    #[test]
    fn an_anchor_written_after_the_commit_never_refuses_what_a_crash_leaves() {
        let (mut disk, mut tpm) = (at(10), None);
        for step in 0..1000_u64 {
            match step % 3 {
                // A commit becomes durable; or the TPM is told of one that is; or nothing happens.
                0 => disk.generation += 1 + step % 4,
                1 => tpm = Some(disk),
                _ => {}
            }
            freshness(tpm.as_ref(), &disk).unwrap();
        }
    }
}
