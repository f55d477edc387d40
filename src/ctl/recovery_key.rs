// SPDX-License-Identifier: Apache-2.0
//! `recovery-key`: keys that open a volume where nothing else does, made, tried and taken away.
//!
//! A key is shown once and has to come back before anything is asked for: a key that nobody has kept is worse than none.
//!
//! **Never:** a key in a log or on a command line, or typed at the machine's console, which the host reads.

mod shown;

use std::io;
use std::path::Path;

use log::info;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::anchor::RuntimeAnchor;
use crate::anchor::requests::{Request, Requests, Wish};
use crate::config::{Profile, RecoveryKeyRule, VolumeName};
use crate::ctl::question::confirm;
use crate::ctl::table::{section, table};
use crate::ctl::{Answer, header, input, requests, usage};
use crate::error::{Doing, Error, Result};
use crate::header::RECOVERY_KEYSLOTS;
use crate::key::recovery::RecoveryKey;
use crate::status::{Status, VolumeStatus};

/// More than a file with a key has, in bytes.
const KEY_FILE_LEN_MAX: usize = 4096;

/// What removing a key does not do.
const STAYS: &str =
    "who has the key and an older copy of the disk's header can open that copy for ever";

/// The volumes' recovery keys, and what is asked of the next boot.
pub(super) fn list(root: &Path) -> Result<Answer> {
    let status = Status::load(root)?;
    let requests = requests::load(root)?;
    let rows = status.volumes.iter().map(|volume| {
        let asked = Asked::of(volume, &requests);
        let slots: Vec<String> = volume.recovery_keyslots.iter().map(u8::to_string).collect();
        let slots = if slots.is_empty() {
            "-".into()
        } else {
            slots.join(" ")
        };
        vec![volume.name.clone(), slots, asked.to_string()]
    });
    let text = section(&table(&["VOLUME", "KEYSLOTS", "NEXT BOOT"], rows));
    let volumes: Vec<Value> = status
        .volumes
        .iter()
        .map(|volume| {
            let asked = Asked::of(volume, &requests);
            json!({
                "name": volume.name,
                "keyslots": volume.recovery_keyslots,
                "required": volume.recovery_key == RecoveryKeyRule::Required,
                "adds": asked.adds,
                "removes": asked.removes,
            })
        })
        .collect();
    let text = text.trim_start_matches('\n').to_owned();
    Ok(Answer::new(text, json!({"volumes": volumes})))
}

/// Makes a key, makes sure that it was kept, and asks the next boot for its keyslot.
pub(super) fn add(root: &Path, name: &VolumeName, file: Option<&Path>) -> Result<Answer> {
    let (volume, uuid) = ours(root, name)?;
    let anchor = RuntimeAnchor::take(root)?;
    // Whatever is in the way is found before a key is shown.
    let requests = anchor.requests()?;
    require_room(&volume, &Asked::of(&volume, &requests))?;
    let key = RecoveryKey::random()?;
    match file {
        Some(file) => shown::keep(&key, file).doing(file.display())?,
        None => shown::on_terminal(&key)?,
    }
    anchor.change_requests(|record, requests| {
        let entry = record.entries().find(|entry| entry.uuid == uuid);
        // One of level "off" is none of the record's.
        if entry.is_some_and(|entry| entry.name != *name) {
            return Err(Error::refused(format_args!(
                "the anchor knows the disk of volume {name} by another name; reboot first"
            )));
        }
        require_room(&volume, &Asked::of(&volume, requests))?;
        let wish = Wish::Add(key);
        requests.push(Request { uuid, wish })
    })?;
    info!(volume = name.as_str(); "the operator asks for a recovery key");
    let text = format!(
        "volume {name}: the next boot makes the keyslot; then try the key with \"nightlatchctl recovery-key test {name}\"\n"
    );
    Ok(Answer::new(
        text,
        json!({"volume": name.as_str(), "recovery_key": "asked for"}),
    ))
}

/// Asks the next boot to empty a recovery keyslot, or takes back what was asked for a key that has none yet.
pub(super) fn remove(
    root: &Path,
    name: &VolumeName,
    keyslot: Option<u8>,
    is_meant: bool,
) -> Result<Answer> {
    let opened = ours(root, name);
    if opened.is_err()
        && keyslot.is_none()
        && let Some(answer) = take_back_of_absent(root, name)?
    {
        return Ok(answer);
    }
    let (volume, uuid) = opened?;
    let anchor = RuntimeAnchor::take(root)?;
    let requests = anchor.requests()?;
    let Some(keyslot) = chosen(&volume, &Asked::of(&volume, &requests), keyslot)? else {
        return take_back(&anchor, name, uuid);
    };
    // One whose key has its keyslot already: done again after that is empty, it would bring the key back.
    let is_again = made_already(root, &volume, keyslot, requests.of(uuid))?;
    confirm(
        is_meant,
        &format!("volume {name}: the next boot empties keyslot {keyslot}; {STAYS}"),
    )?;
    anchor.change_requests(|_, requests| {
        requests.retain(|request| {
            let is_asked = |wish: &Wish| is_again.iter().any(|key| is_for(wish, key));
            request.uuid != uuid || !is_asked(&request.wish)
        });
        let wish = Wish::Remove(keyslot);
        requests.push(Request { uuid, wish })
    })?;
    info!(volume = name.as_str(); "the operator asks for recovery keyslot {keyslot} to be emptied");
    let text = format!(
        "volume {name}: the next boot empties keyslot {keyslot}, and its key opens the disk of that boot no more;\n{STAYS}\n"
    );
    Ok(Answer::new(
        text,
        json!({"volume": name.as_str(), "removes": keyslot}),
    ))
}

/// Takes back what was asked for keys that have no keyslot yet.
fn take_back(anchor: &RuntimeAnchor, name: &VolumeName, uuid: Uuid) -> Result<Answer> {
    anchor.change_requests(|_, requests| {
        requests.retain(|request| request.uuid != uuid || !matches!(request.wish, Wish::Add(_)));
        Ok(())
    })?;
    let text = format!("volume {name}: no keyslot is made; the key opens nothing\n");
    let json = json!({"volume": name.as_str(), "recovery_key": "not asked for any more"});
    Ok(Answer::new(text, json))
}

/// The same for a volume that this boot did not open, which the anchor knows; none where nothing was asked for it.
fn take_back_of_absent(root: &Path, name: &VolumeName) -> Result<Option<Answer>> {
    let Ok(anchor) = RuntimeAnchor::take(root) else {
        return Ok(None);
    };
    let (record, _) = anchor.show()?;
    let Some(uuid) = record.get(name).map(|entry| entry.uuid) else {
        return Ok(None);
    };
    let requests = anchor.requests()?;
    let is_asked = requests.of(uuid).any(|wish| matches!(wish, Wish::Add(_)));
    is_asked.then(|| take_back(&anchor, name, uuid)).transpose()
}

/// Of the keys that are asked for, those that open this keyslot of the header on the disk.
fn made_already<'a>(
    root: &Path,
    volume: &VolumeStatus,
    keyslot: u8,
    wishes: impl Iterator<Item = &'a Wish>,
) -> Result<Vec<RecoveryKey>> {
    let keys = wishes.filter_map(|wish| match wish {
        Wish::Add(key) => Some(key),
        Wish::Remove(_) | Wish::Rotate(_) => None,
    });
    let keys: Vec<&RecoveryKey> = keys.collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let path = root.join(volume.device.trim_start_matches('/'));
    let candidates = header::candidates(&path).doing(format_args!("reading {}", path.display()))?;
    let mut made = Vec::new();
    for key in keys {
        for candidate in &candidates {
            if candidate.checked.recovery.contains(&keyslot)
                && candidate.opens(keyslot, key.text().as_bytes())?
            {
                made.extend(RecoveryKey::from_bytes(key.bytes()));
                break;
            }
        }
    }
    Ok(made)
}

fn is_for(wish: &Wish, key: &RecoveryKey) -> bool {
    matches!(wish, Wish::Add(asked) if asked.is(key))
}

/// Tries a key on the header that is on the disk, without the TPM. Nothing is written.
pub(super) fn test(root: &Path, name: &VolumeName, file: Option<&Path>) -> Result<Answer> {
    let (volume, uuid) = ours(root, name)?;
    let key = match file {
        Some(file) => from_file(file).doing(format_args!("reading the key: {}", file.display()))?,
        None => shown::asked_for()?,
    };
    let path = root.join(volume.device.trim_start_matches('/'));
    let text = key.text();
    let candidates = header::candidates(&path).doing(format_args!("reading {}", path.display()))?;
    for candidate in candidates {
        for keyslot in candidate.checked.recovery.clone() {
            if candidate.opens(keyslot, text.as_bytes())? {
                let text = format!("volume {name}: the key opens keyslot {keyslot}\n");
                return Ok(Answer::new(
                    text,
                    json!({"volume": name.as_str(), "keyslot": keyslot}),
                ));
            }
        }
    }
    if is_awaited(root, uuid, &key) {
        return Err(Error::temporary(format_args!(
            "volume {name}: its keyslot is not there yet: the next boot makes it; reboot, then try the key again"
        )));
    }
    Err(Error::refused(format_args!(
        "volume {name}: the key opens none of its recovery keyslots; \"nightlatchctl recovery-key list\" shows those it has"
    )))
}

/// What was asked of the next boot for one volume.
#[derive(Debug, Default)]
struct Asked {
    adds: usize,
    removes: Vec<u8>,
}

impl Asked {
    fn of(volume: &VolumeStatus, requests: &Requests) -> Self {
        let mut asked = Self::default();
        let Ok(uuid) = Uuid::parse_str(&volume.uuid) else {
            return asked;
        };
        for wish in requests.of(uuid) {
            match wish {
                Wish::Add(_) => asked.adds = asked.adds.saturating_add(1),
                Wish::Remove(keyslot) => asked.removes.push(*keyslot),
                Wish::Rotate(_) => {}
            }
        }
        asked
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let removed = self
            .removes
            .iter()
            .map(|keyslot| format!("empties {keyslot}"));
        let added = match self.adds {
            0 => None,
            1 => Some("makes one".to_owned()),
            many => Some(format!("makes {many}")),
        };
        let all: Vec<String> = added.into_iter().chain(removed).collect();
        f.write_str(if all.is_empty() { "-" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

/// A volume that this boot opened and whose recovery keys are ours to make.
fn ours(root: &Path, name: &VolumeName) -> Result<(VolumeStatus, Uuid)> {
    let (volume, uuid) = requests::opened(root, name, "recovery-key")?;
    match volume.profile {
        Profile::Nightlatch1 => Ok((volume, uuid)),
        Profile::Luks2Strict => Err(Error::refused(format_args!(
            "volume {name} is of profile luks2-strict, whose keyslots are its owner's: run \"systemd-cryptenroll \
             --recovery-key {0}\", and \"cryptsetup open --test-passphrase {0}\" to try a key",
            volume.device
        ))),
        Profile::Constellation => Err(Error::refused(format_args!(
            "volume {name} is of profile constellation, which has one keyslot"
        ))),
    }
}

fn require_room(volume: &VolumeStatus, asked: &Asked) -> Result<()> {
    let used = volume.recovery_keyslots.len().saturating_add(asked.adds);
    if used < RECOVERY_KEYSLOTS.len() {
        return Ok(());
    }
    Err(Error::refused(format_args!(
        "volume {0} has or gets {used} recovery keys, and there is room for no more: remove one with \"nightlatchctl recovery-key \
         remove {0}\", reboot, and add another then",
        volume.name
    )))
}

/// The keyslot that is meant; none where it is what was asked for and not made yet.
fn chosen(volume: &VolumeStatus, asked: &Asked, keyslot: Option<u8>) -> Result<Option<u8>> {
    let name = &volume.name;
    let there = volume.recovery_keyslots.iter();
    let left: Vec<u8> = there
        .filter(|id| !asked.removes.contains(id))
        .copied()
        .collect();
    match (keyslot, left.as_slice()) {
        (Some(keyslot), left) if left.contains(&keyslot) => Ok(Some(keyslot)),
        (Some(keyslot), _) => Err(Error::refused(format_args!(
            "volume {name} has no recovery key in keyslot {keyslot}, or the next boot empties it already"
        ))),
        (None, [only]) if asked.adds == 0 => Ok(Some(*only)),
        (None, []) if asked.adds > 0 => Ok(None),
        (None, []) => Err(Error::refused(format_args!(
            "volume {name} has no recovery key that could be removed"
        ))),
        (None, _) => Err(usage(&format!(
            "recovery-key: volume {name} has or gets several recovery keys: say which with --keyslot; \
             \"nightlatchctl recovery-key list\" shows them"
        ))),
    }
}

fn from_file(file: &Path) -> Result<RecoveryKey> {
    let bytes = input::read(file, KEY_FILE_LEN_MAX).map(zeroize::Zeroizing::new);
    bytes
        .map_err(|error: io::Error| error.into())
        .and_then(|bytes| RecoveryKey::parse(&bytes))
}

/// Whether the next boot is asked for a keyslot of this key. Who cannot read that is not told.
fn is_awaited(root: &Path, uuid: Uuid, key: &RecoveryKey) -> bool {
    let requests = RuntimeAnchor::take(root).and_then(|anchor| anchor.requests());
    requests.is_ok_and(|requests| {
        let mut its = requests.of(uuid);
        its.any(|wish| is_for(wish, key))
    })
}

#[cfg(test)]
pub(super) mod tests;
