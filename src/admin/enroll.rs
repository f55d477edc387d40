// SPDX-License-Identifier: Apache-2.0
//! `enroll`: whose the secrets of this node's volumes are, and the operator's word that one is to be the key service's.

use std::path::Path;

use log::info;
use serde_json::{Value, json};

use super::anchor::name;
use super::status::{section, table};
use super::{Answer, usage};
use crate::anchor::Running;
use crate::anchor::record::Entry;
use crate::config::{Enroll, Source};
use crate::error::{Error, Result};
use crate::status::{Status, VolumeStatus};

/// Whose a volume's secret is, as this boot found it.
enum Owner {
    /// The key service gives it.
    Service,
    /// It is this node's own, until a boot reaches the service.
    OwnFor(Enroll),
    /// It is this node's own, and stays that.
    Own,
}

/// Each volume, whose its secret is, and what becomes of that.
pub(super) fn show(root: &Path) -> Result<Answer> {
    let status = Status::load(root)?;
    let rows = status.volumes.iter().map(|volume| {
        let (whose, next) = words(&owner(volume));
        vec![
            volume.name.clone(),
            volume.source.word().into(),
            whose.into(),
            next.into(),
        ]
    });
    let text = section(&table(&["VOLUME", "SOURCE", "SECRET", "NEXT"], rows));
    let volumes: Vec<Value> = status.volumes.iter().map(object).collect();
    let text = text.trim_start_matches('\n').to_owned();
    Ok(Answer::new(text, json!({"volumes": volumes})))
}

/// Asks for the volume to be given the key service's key, at the next boot that reaches the service.
pub(super) fn ask(root: &Path, volume: &str) -> Result<Answer> {
    let name = name(volume)?;
    let status = Status::load(root)?;
    let found = status.volumes.iter().find(|known| known.name == volume);
    let found =
        found.ok_or_else(|| usage(&format!("enroll: this boot opened no volume {volume}")))?;
    match owner(found) {
        Owner::Service => {
            return Err(Error::refused(format_args!(
                "the secret of volume {volume} is the key service's already"
            )));
        }
        Owner::Own => {
            return Err(Error::refused(format_args!(
                "the configuration does not name \"service\" before \"{}\" among the sources of volume {volume}: \
                 nothing would be asked of the service; change it in the image",
                found.source.word()
            )));
        }
        Owner::OwnFor(_) => {}
    }
    Running::take(root)?.change(|record| {
        let entry = record.get(&name).ok_or_else(|| {
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

fn owner(volume: &VolumeStatus) -> Owner {
    match (volume.source, volume.enroll) {
        (Source::Service, _) => Owner::Service,
        (Source::Tpm | Source::Generate, _) if volume.enrolled => Owner::Service,
        (Source::Tpm | Source::Generate, Some(enroll)) => Owner::OwnFor(enroll),
        (Source::Tpm | Source::Generate, None) => Owner::Own,
    }
}

fn words(owner: &Owner) -> (&'static str, &'static str) {
    match owner {
        Owner::Service => ("the key service's", "-"),
        Owner::OwnFor(Enroll::Auto) => (
            "its own",
            "the next boot that reaches the service changes it",
        ),
        Owner::OwnFor(Enroll::Asked) => (
            "its own",
            "a boot that reaches the service changes it once asked: nightlatchctl enroll VOLUME",
        ),
        Owner::Own => ("its own", "-"),
    }
}

fn object(volume: &VolumeStatus) -> Value {
    let (secret, enroll) = match owner(volume) {
        Owner::Service => ("service", None),
        Owner::OwnFor(enroll) => ("own", Some(enroll)),
        Owner::Own => ("own", None),
    };
    json!({"name": volume.name, "source": volume.source, "secret": secret, "enroll": enroll})
}
