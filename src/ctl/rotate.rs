// SPDX-License-Identifier: Apache-2.0
//! `rotate`: a volume's secret, or its seal, that the next boot is to make anew. The running system has neither the secret nor the
//! volume key, so all of it is a request.
//!
//! **Never:** a secret drawn or read here, or silence about what an older copy of a header still opens.

use std::path::Path;

use log::info;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::anchor::RuntimeAnchor;
use crate::anchor::requests::{Request, Requests, Rotation, Wish};
use crate::config::{Level, Profile, VolumeName};
use crate::ctl::question::confirm;
use crate::ctl::table::{section, table};
use crate::ctl::{Answer, header, requests, usage};
use crate::error::{Doing, Error, Result};
use crate::status::{Status, VolumeStatus};

/// Whose each volume's secret is, and what the next boot is asked to make anew of it.
pub(super) fn list(root: &Path) -> Result<Answer> {
    let status = Status::load(root)?;
    let requests = requests::load(root)?;
    let asked = |volume: &VolumeStatus| {
        let uuid = Uuid::parse_str(&volume.uuid).ok()?;
        rotation(&requests, uuid).map(Rotation::as_str)
    };
    let rows = status.volumes.iter().map(|volume| {
        let next = asked(volume).unwrap_or("-");
        vec![
            volume.name.clone(),
            volume.whose_secret().into(),
            next.into(),
        ]
    });
    let text = section(&table(&["VOLUME", "SECRET", "NEXT BOOT"], rows));
    let volumes: Vec<Value> = status
        .volumes
        .iter()
        .map(|volume| {
            json!({
                "name": volume.name,
                "secret": volume.whose_secret(),
                "rotates": asked(volume),
            })
        })
        .collect();
    let text = text.trim_start_matches('\n').to_owned();
    Ok(Answer::new(text, json!({"volumes": volumes})))
}

/// Asks for another secret.
pub(super) fn secret(root: &Path, name: &VolumeName, is_meant: bool) -> Result<Answer> {
    let (volume, uuid) = ours(root, name)?;
    if !volume.own_secret || volume.is_services() {
        return Err(usage(&format!(
            "rotate: the secret of volume {name} is not the node's own: what a key service derives changes with its master secret alone; \
             \"nightlatchctl rotate seal {name}\" has it sealed anew"
        )));
    }
    require_seal(root, &volume)?;
    let stays = what_stays(&volume);
    confirm(
        is_meant,
        &format!(
            "volume {name}: the next boot gives it another secret; {}{stays}",
            what_ends(&volume)
        ),
    )?;
    ask(root, name, uuid, Rotation::Secret)?;
    let text = format!(
        "volume {name}: the next boot gives it another secret, and seals that to the TPM\n{stays}\n\
         with measure.cluster = \"volume\" and this volume first, the boots after that have another clusterID\n"
    );
    Ok(answer(text, name, Rotation::Secret))
}

/// Asks for the same secret, sealed anew.
pub(super) fn seal(root: &Path, name: &VolumeName) -> Result<Answer> {
    let (volume, uuid) = ours(root, name)?;
    require_seal(root, &volume)?;
    ask(root, name, uuid, Rotation::Seal)?;
    let stays = what_stays(&volume);
    let text = format!(
        "volume {name}: the next boot seals its secret anew to the TPM as it is then\n{stays}\n"
    );
    Ok(answer(text, name, Rotation::Seal))
}

/// Says what to do instead.
pub(super) fn volume_key(root: &Path, name: &VolumeName) -> Result<Answer> {
    // Whoever misspelled the name is told that first.
    requests::opened(root, name, "rotate")?;
    Err(usage(&format!(
        "rotate: volume {name} keeps its volume key for as long as it exists: what is authenticated sector by sector cannot be \
         re-encrypted in place. Give the image a [[volume]] of another name with format = \"if-blank\" and a new disk, boot it, copy \
         the data, boot an image without volume {name}, run \"nightlatchctl anchor forget {name}\", and destroy the old disk"
    )))
}

/// Takes back what was asked for.
pub(super) fn cancel(root: &Path, name: &VolumeName) -> Result<Answer> {
    let (_, uuid) = requests::opened(root, name, "rotate")?;
    let mut was_asked = false;
    RuntimeAnchor::take(root)?.change_requests(|_, requests| {
        was_asked = requests
            .retain(|request| request.uuid != uuid || !matches!(request.wish, Wish::Rotate(_)));
        Ok(())
    })?;
    if !was_asked {
        return Err(Error::refused(format_args!(
            "the next boot is asked to make nothing anew of volume {name}"
        )));
    }
    info!(volume = name.as_str(); "the operator takes back what was asked for");
    let text = format!("volume {name}: its secret and its seal stay what they are\n");
    let json = json!({"volume": name.as_str(), "rotates": Value::Null});
    Ok(Answer::new(text, json))
}

fn answer(text: String, name: &VolumeName, rotation: Rotation) -> Answer {
    let json = json!({"volume": name.as_str(), "rotates": rotation.as_str()});
    Answer::new(text, json)
}

/// A volume whose keyslots are ours to change.
fn ours(root: &Path, name: &VolumeName) -> Result<(VolumeStatus, Uuid)> {
    let (volume, uuid) = requests::opened(root, name, "rotate")?;
    match volume.profile {
        Profile::Nightlatch1 => Ok((volume, uuid)),
        Profile::Luks2Strict | Profile::Constellation => Err(Error::refused(format_args!(
            "volume {name} is of profile {}, whose keyslots are its owner's: nightlatch changes nothing in its header",
            volume.profile.as_str()
        ))),
    }
}

/// Whether the header on the disk has a secret that is sealed. The boot does not go by this, so nothing of it has to be proven.
fn require_seal(root: &Path, volume: &VolumeStatus) -> Result<()> {
    let path = root.join(volume.device.trim_start_matches('/'));
    let candidates = header::candidates(&path).doing(format_args!("reading {}", path.display()))?;
    if candidates.iter().any(|it| it.checked.tpm.is_some()) {
        return Ok(());
    }
    Err(Error::refused(format_args!(
        "volume {0} has no keyslot for the TPM, so nothing of it is sealed, and there is nothing that the node could make anew",
        volume.name
    )))
}

/// What opens it no more, and what is then left.
fn what_ends(volume: &VolumeStatus) -> String {
    let left = if volume.recovery_keyslots.is_empty() {
        "and there is no recovery key, so this TPM alone does: add one first"
    } else {
        "its recovery keys do"
    };
    format!("a secret that somebody has kept of it opens it no more, {left}; ")
}

/// What a change of the secret or of its seal does not reach.
fn what_stays(volume: &VolumeStatus) -> String {
    let node = if volume.anchor >= Level::Epoch {
        "this node refuses such a copy by its epoch".to_owned()
    } else {
        format!(
            "at anchor level {} this node opens such a copy too",
            volume.anchor.as_str()
        )
    };
    format!(
        "who has an older copy of the disk's header, and the secret of before or its seal opened by this TPM, has the volume key, \
         which does not change, until the data is on a new volume; {node}"
    )
}

/// What is asked for of a volume's secret.
fn rotation(requests: &Requests, uuid: Uuid) -> Option<Rotation> {
    requests.of(uuid).find_map(|wish| match wish {
        Wish::Rotate(rotation) => Some(*rotation),
        Wish::Add(_) | Wish::Remove(_) => None,
    })
}

/// Leaves the request. Another secret is sealed anew as well, so one request is enough for a volume.
fn ask(root: &Path, name: &VolumeName, uuid: Uuid, wanted: Rotation) -> Result<()> {
    RuntimeAnchor::take(root)?.change_requests(|_, requests| {
        match (rotation(requests, uuid), wanted) {
            (Some(Rotation::Secret), _) | (Some(Rotation::Seal), Rotation::Seal) => return Ok(()),
            (Some(Rotation::Seal), Rotation::Secret) => {
                requests.retain(|request| {
                    request.uuid != uuid || !matches!(request.wish, Wish::Rotate(_))
                });
            }
            (None, _) => {}
        }
        let wish = Wish::Rotate(wanted);
        requests.push(Request { uuid, wish })
    })?;
    info!(volume = name.as_str(); "the operator asks for rotation: {}", wanted.as_str());
    Ok(())
}

#[cfg(test)]
mod tests;
