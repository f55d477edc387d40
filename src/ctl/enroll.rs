// SPDX-License-Identifier: Apache-2.0
//! `enroll`: whose the secrets of this node's volumes are, and the operator's word that one is to be the key service's.
//!
//! **Never:** a secret: it says whose one is, and leaves a request.

use std::path::Path;

use log::info;
use serde_json::{Value, json};

use crate::anchor::RuntimeAnchor;
use crate::anchor::record::Entry;
use crate::config::{Enroll, VolumeName};
use crate::ctl::table::{section, table};
use crate::ctl::{Answer, requests};
use crate::error::{Error, Result};
use crate::status::{Status, VolumeStatus};

/// Each volume, whose its secret is, and what becomes of that.
pub(super) fn show(root: &Path) -> Result<Answer> {
    let status = Status::load(root)?;
    let rows = status.volumes.iter().map(|volume| {
        vec![
            volume.name.clone(),
            volume.source.as_str().into(),
            volume.whose_secret().into(),
            next(volume).into(),
        ]
    });
    let text = section(&table(&["VOLUME", "SOURCE", "SECRET", "NEXT"], rows));
    let volumes: Vec<Value> = status.volumes.iter().map(object).collect();
    let text = text.trim_start_matches('\n').to_owned();
    Ok(Answer::new(text, json!({"volumes": volumes})))
}

/// Asks for the volume to be given the key service's key, at the next boot that reaches the service.
pub(super) fn ask(root: &Path, name: &VolumeName) -> Result<Answer> {
    let volume = name.as_str();
    let (found, _) = requests::opened(root, name, "enroll")?;
    if found.is_services() {
        return Err(Error::refused(format_args!(
            "the secret of volume {volume} is the key service's already"
        )));
    }
    if found.enroll.is_none() {
        return Err(Error::refused(format_args!(
            "the configuration does not name \"service\" before \"{}\" among the sources of volume {volume}: \
             the service would not be asked; change it in the image",
            found.source.as_str()
        )));
    }
    RuntimeAnchor::take(root)?.change(|record| {
        let entry = record.get(name).ok_or_else(|| {
            Error::refused(format_args!(
                "the anchor has no volume {name}, so there is no place for the request: \
                 set enroll = \"auto\" in the image"
            ))
        })?;
        record.set(Entry {
            enroll: true,
            ..entry.clone()
        })
    })?;
    info!(volume = volume; "the operator asks for the key service's key");
    let text = format!(
        "volume {volume}: the next boot that reaches the key service gives it the service's key\n"
    );
    Ok(Answer::new(text, json!({"volume": volume, "enroll": true})))
}

fn next(volume: &VolumeStatus) -> &'static str {
    match volume.enroll {
        None => "-",
        Some(Enroll::Auto) => "service, at the next boot that reaches it",
        Some(Enroll::Asked) => "service, once asked for: nightlatchctl enroll VOLUME",
    }
}

fn object(volume: &VolumeStatus) -> Value {
    json!({
        "name": volume.name,
        "source": volume.source,
        "secret": volume.whose_secret(),
        "enroll": volume.enroll,
    })
}
