// SPDX-License-Identifier: Apache-2.0
//! `anchor`: what the TPM remembers of this node's volumes, and what the operator allows for one boot.
//!
//! **Never:** a change that no boot can undo without a question before.

use std::fs;
use std::path::Path;

use log::info;
use serde_json::{Map, Value, json};

use crate::anchor::RuntimeAnchor;
use crate::anchor::checkpoint::durable;
use crate::anchor::record::{Accepted, Entry, State};
use crate::config::{Level, VolumeName};
use crate::ctl::question::{confirm, require_answer};
use crate::ctl::table::{section, table};
use crate::ctl::{Answer, usage};
use crate::error::{Doing, Error, Result};

/// The kernel's list of what is mounted, below the root.
const MOUNTS: &str = "proc/self/mounts";

/// The entries and the counter.
pub(super) fn show(root: &Path) -> Result<Answer> {
    let (record, counter) = RuntimeAnchor::take(root)?.show()?;
    let rows = record.entries().map(row);
    let heading = [
        "VOLUME",
        "STATE",
        "LEVEL",
        "UUID",
        "KEY",
        "GENERATION",
        "ACCEPTS",
        "ENROLLS",
        "AWAY SINCE",
    ];
    let volumes: Vec<Value> = record.entries().map(object).collect();
    let text = format!(
        "counter: {counter}, two more after each boot\n{}",
        section(&table(&heading, rows))
    );
    Ok(Answer::new(
        text,
        json!({"counter": counter, "volumes": volumes}),
    ))
}

/// What `accept rollback` is for a volume of which nothing is known: a state of it has nothing to be older than.
const WAITS: &str = "waits for an operator if it needs one to open it, also where it need not be there: \"nightlatchctl recover --word readmit\"";

/// Allows, until the next boot that succeeds, what the anchor would refuse.
pub(super) fn accept(
    root: &Path,
    kind: Accepted,
    name: &VolumeName,
    is_meant: bool,
) -> Result<Answer> {
    require_answer(is_meant, &format!("volume {name}"))?;
    let (record, _) = RuntimeAnchor::take(root)?.show()?;
    let entry = record.get(name).ok_or_else(|| unknown(name))?;
    let what = match kind {
        Accepted::Rollback if entry.state == State::Lost => WAITS,
        Accepted::Rollback => "accepts an older state of its disk",
        Accepted::New => "accepts a blank disk in its place, which will be formatted",
        Accepted::Stale => {
            "accepts what a key service said in the place of a record that could not be read"
        }
    };
    if kind == Accepted::Rollback && entry.level < Level::Epoch && entry.state != State::Lost {
        return Err(usage(&format!(
            "volume {name} is anchored at level {}, where an older disk passes anyway",
            entry.level.as_str()
        )));
    }
    confirm(is_meant, &format!("volume {name}: the next boot {what}"))?;
    RuntimeAnchor::take(root)?.change(|record| {
        let entry = record.get(name).ok_or_else(|| unknown(name))?;
        record.set(Entry {
            acceptance: Some(kind),
            ..entry.clone()
        })
    })?;
    info!(volume = name.as_str(), accepted = kind.as_str(); "the operator accepts for one boot: {}", kind.as_str());
    let text = format!("volume {name}: the next boot {what}\n");
    Ok(Answer::new(
        text,
        json!({"volume": name.as_str(), "accepts": kind.as_str()}),
    ))
}

/// Tells the TPM what is durable of every file system that has level `checkpoint` and is mounted.
pub(super) fn checkpoint(root: &Path) -> Result<Answer> {
    let mounts = fs::read_to_string(root.join(MOUNTS)).doing(MOUNTS)?;
    let mut text = String::new();
    let mut generations = Map::new();
    RuntimeAnchor::take(root)?.change(|record| {
        let entries: Vec<Entry> = record.entries().cloned().collect();
        for entry in entries {
            let Some(mount) = mount_of(&mounts, &entry.name) else {
                continue;
            };
            if entry.level != Level::Checkpoint {
                continue;
            }
            let last = durable(&root.join(mount.trim_start_matches('/')))
                .doing(format_args!("volume {}", entry.name))?;
            let line = format!("volume {}: generation {}\n", entry.name, last.generation);
            text.push_str(&line);
            generations.insert(entry.name.to_string(), last.generation.into());
            record.set(Entry {
                checkpoint: Some(last),
                ..entry
            })?;
        }
        Ok(())
    })?;
    Ok(Answer::new(text, json!({"generations": generations})))
}

/// Where the volume's file system is mounted, from the kernel's list: source, target, and so on, with blanks in between.
fn mount_of<'a>(mounts: &'a str, name: &VolumeName) -> Option<&'a str> {
    let mapping = name.mapping();
    mounts.lines().find_map(|line| {
        let (source, rest) = line.split_once(' ')?;
        let (target, _) = rest.split_once(' ')?;
        // The kernel writes blanks and the like as escapes, which paths of ours do not have.
        (source == mapping && !target.contains('\\')).then_some(target)
    })
}

/// Frees the place of a volume that is gone for good.
///
/// One that is open is not: a blank disk in its place would be formatted at the next boot, and nothing would be measured of
/// that. `accept new` is for that.
pub(super) fn forget(root: &Path, name: &VolumeName, is_meant: bool) -> Result<Answer> {
    let mapping = name.mapping();
    if root.join(mapping.trim_start_matches('/')).exists() {
        return Err(Error::refused(format_args!(
            "volume {name} is open as {mapping}, so it is not gone; for another disk in its place run \
             \"nightlatchctl anchor accept new {name}\""
        )));
    }
    confirm(
        is_meant,
        &format!(
            "volume {name}: a disk with it will be refused, and a blank one in its place made a new volume where the image allows that"
        ),
    )?;
    let anchor = RuntimeAnchor::take(root)?;
    let (record, _) = anchor.show()?;
    let uuid = record.get(name).ok_or_else(|| unknown(name))?.uuid;
    // First, as nobody could name them afterwards: a key that waits would take its place for ever.
    if anchor
        .requests()
        .is_ok_and(|all| all.of(uuid).next().is_some())
    {
        anchor.change_requests(|_, requests| {
            requests.retain(|request| request.uuid != uuid);
            Ok(())
        })?;
    }
    anchor.change(|record| {
        record.remove(name);
        Ok(())
    })?;
    info!(volume = name.as_str(); "the anchor forgot a volume");
    let text = format!(
        "volume {name}: forgotten; a disk with it will be refused, and a blank one may become a new volume\n"
    );
    Ok(Answer::new(
        text,
        json!({"volume": name.as_str(), "forgotten": true}),
    ))
}

fn row(entry: &Entry) -> Vec<String> {
    let generation = entry.checkpoint.map(|last| last.generation.to_string());
    vec![
        entry.name.to_string(),
        state(entry).into(),
        entry.level.as_str().into(),
        entry.uuid.to_string(),
        entry.key_id.known().chars().take(16).collect(),
        generation.unwrap_or_else(|| "-".into()),
        accepts(entry).unwrap_or("-").into(),
        if entry.enroll { "yes" } else { "-" }.into(),
        entry.away.map_or("-".into(), |last| last.epoch.to_string()),
    ]
}

fn object(entry: &Entry) -> Value {
    json!({
        "name": entry.name.as_str(),
        "state": state(entry),
        "level": entry.level,
        "uuid": entry.uuid.to_string(),
        "volume_key_id": entry.key_id.known(),
        "generation": entry.checkpoint.map(|last| last.generation),
        "accepts": accepts(entry),
        "enroll": entry.enroll,
        "away_since": entry.away.map(|last| last.epoch),
    })
}

/// What the next boot accepts.
fn accepts(entry: &Entry) -> Option<&'static str> {
    entry.acceptance.map(Accepted::as_str)
}

fn state(entry: &Entry) -> &'static str {
    match entry.state {
        State::Provisioning => "provisioning",
        State::Ready => "ready",
        State::Lost => "lost",
    }
}

fn unknown(name: &VolumeName) -> Error {
    Error::refused(format_args!(
        "the anchor has no volume {name}; \"nightlatchctl anchor show\" lists those it has"
    ))
}
