// SPDX-License-Identifier: Apache-2.0
//! What the next boot is asked to do, as several verbs show it.
//!
//! **Never:** a recovery key that waits there shown.

use std::path::Path;

use uuid::Uuid;

use crate::anchor::RuntimeAnchor;
use crate::anchor::requests::{Requests, Rotation, Wish};
use crate::config::VolumeName;
use crate::ctl::usage;
use crate::error::{Error, Exit, Result};
use crate::status::{Status, VolumeStatus};

/// A volume that this boot opened, asked for by the verb `who`.
pub(super) fn opened(root: &Path, name: &VolumeName, who: &str) -> Result<(VolumeStatus, Uuid)> {
    let mut volumes = Status::load(root)?.volumes.into_iter();
    let volume = volumes.find(|known| known.name == name.as_str());
    let volume =
        volume.ok_or_else(|| usage(&format!("{who}: this boot opened no volume {name}")))?;
    let uuid = Uuid::parse_str(&volume.uuid).map_err(Error::failure)?;
    Ok((volume, uuid))
}

/// All that it is asked for.
pub(super) fn load(root: &Path) -> Result<Requests> {
    match RuntimeAnchor::take(root) {
        Ok(anchor) => anchor.requests(),
        // Without an anchor nothing can be asked for.
        Err(error) if error.exit() == Exit::Unavailable => Ok(Requests::default()),
        Err(error) => Err(error),
    }
}

/// Each request: the volume's name, or the UUID of one that this boot was without, and what is asked for.
pub(super) fn told(status: &Status, requests: &Requests) -> Vec<(String, String)> {
    let name = |uuid: Uuid| {
        let text = uuid.to_string();
        let volume = status.volumes.iter().find(|volume| volume.uuid == text);
        volume.map_or(text, |volume| volume.name.clone())
    };
    let all = requests.iter();
    all.map(|request| (name(request.uuid), words(&request.wish)))
        .collect()
}

fn words(wish: &Wish) -> String {
    match wish {
        Wish::Add(_) => "makes a keyslot for a recovery key".into(),
        Wish::Remove(keyslot) => format!("empties keyslot {keyslot}"),
        Wish::Rotate(Rotation::Secret) => "draws another secret".into(),
        Wish::Rotate(Rotation::Seal) => "seals the secret anew".into(),
    }
}
