// SPDX-License-Identifier: Apache-2.0
//! `status`: the boot record, for people.
//!
//! **Never:** a disk asked, or the TPM for more than why a boot failed and what the next one is asked for: it shows what boots left.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::anchor::RuntimeAnchor;
use crate::config::RecoveryKeyRule;
use crate::ctl::mounts::{self, Verdict};
use crate::ctl::table::{section, table};
use crate::ctl::{Answer, last_failure, requests};
use crate::error::{Doing, Error, Exit, Result};
use crate::status::{Status, VolumeStatus, svg};

/// Shows the record as tables.
pub(super) fn show(root: &Path) -> Result<Answer> {
    let status = Status::load(root)?;
    let mut json = serde_json::to_value(&status).map_err(Error::failure)?;
    let verdict = mounts::verdict(root, &status);
    let reminders = reminders(&status);
    if let (Some(map), false) = (json.as_object_mut(), reminders.is_empty()) {
        map.insert("reminders".into(), reminders.into());
    }
    if let (Some(map), Some(verdict)) = (json.as_object_mut(), &verdict) {
        let verdict = serde_json::to_value(verdict).map_err(Error::failure)?;
        map.insert("mounts_check".into(), verdict);
    }
    let failure = failure(&status);
    if let (Some(map), Some((_, failure))) = (json.as_object_mut(), &failure) {
        map.insert("last_failure".into(), failure.clone());
    }
    let next_boot = next_boot(root, &status);
    if let (Some(map), false) = (json.as_object_mut(), next_boot.is_empty()) {
        let all = next_boot
            .iter()
            .map(|(volume, what)| json!({"volume": volume, "does": what}));
        map.insert("next_boot".into(), all.collect());
    }
    let mut text = text(&status, &next_boot, verdict.as_ref());
    text.extend(failure.map(|(text, _)| format!("\n{text}")));
    // The boot itself has succeeded; who looks at the code is told of what it went on without.
    let exit = status.away.first().map_or(0, |away| away.exit);
    let exit = Exit::from_code(exit).filter(|_| status.exit == 0);
    Ok(Answer::new(text, json).with_verdict(exit))
}

/// Draws the record into `file`.
pub(super) fn draw(root: &Path, file: &Path) -> Result<Answer> {
    let picture = svg(&Status::load(root)?);
    fs::write(file, picture).doing(format_args!("writing {}", file.display()))?;
    let text = format!("{}: written\n", file.display());
    Ok(Answer::new(text, json!({"svg": file})))
}

/// What the next boot is asked for. Whoever may not read that is not told, and whoever cannot is told why.
fn next_boot(root: &Path, status: &Status) -> Vec<(String, String)> {
    match RuntimeAnchor::look_at_requests(root) {
        Ok(Some(requests)) => requests::told(status, &requests),
        Ok(None) => Vec::new(),
        Err(error) => vec![("-".into(), error.to_string())],
    }
}

fn text(status: &Status, next_boot: &[(String, String)], verdict: Option<&Verdict>) -> String {
    let error = status.error.as_ref();
    let error = error.map_or_else(String::new, |error| format!("{error}\n"));
    [
        format!(
            "nightlatch {}: {} (exit {})\n",
            status.version, status.result, status.exit
        ),
        error,
        section(&start(status)),
        section(&volumes(status)),
        section(&away(status)),
        section(&asked(next_boot)),
        section(&mounted(status)),
        checked(status, verdict),
        reminders(status)
            .into_iter()
            .map(|line| line + "\n")
            .collect(),
        section(&measurements(status)),
        section(&steps(status)),
    ]
    .concat()
}

/// The sentence of a boot that failed, where there is one: for people, and for machines.
fn failure(status: &Status) -> Option<(String, Value)> {
    match status.failures.as_ref()?.tell() {
        Ok(told) => told.map(|told| (last_failure::text(&told), last_failure::object(&told))),
        Err(error) => {
            let json = json!({"unread": error.to_string()});
            Some((format!("{error}\n"), json))
        }
    }
}

/// How the machine was started, and what the configuration does without.
fn start(status: &Status) -> Vec<Vec<String>> {
    let rows = status.start.iter().flat_map(|start| {
        let secure_boot = start.secure_boot.as_str().to_owned();
        let many = |what: &'static str, said: &[String]| -> Vec<(&'static str, String)> {
            said.iter().map(|text| (what, text.clone())).collect()
        };
        [
            vec![("Secure Boot", secure_boot)],
            many("program", &start.programs),
            many("tried in vain", &start.tried_in_vain),
            many("gives up", &start.gives_up),
        ]
        .concat()
    });
    let rows = rows.map(|(what, text)| vec![what.to_owned(), text]);
    table(&["START", "WHAT"], rows)
}

fn volumes(status: &Status) -> Vec<Vec<String>> {
    let rows = status.volumes.iter().map(|volume| {
        vec![
            volume.name.clone(),
            volume.role.as_str().into(),
            volume.how.as_str().into(),
            volume.source.as_str().into(),
            volume.keyslot.to_string(),
            volume.file_system.as_str().into(),
            volume.anchor.as_str().into(),
            volume.recovery_keyslots.len().to_string(),
            volume.mount.clone().unwrap_or_else(|| "-".into()),
            volume.uuid.clone(),
        ]
    });
    table(
        &[
            "VOLUME",
            "ROLE",
            "HOW",
            "SOURCE",
            "SLOT",
            "FILE SYSTEM",
            "ANCHOR",
            "RECOVERY KEYS",
            "MOUNT",
            "UUID",
        ],
        rows,
    )
}

/// What the boot went on without, and why.
fn away(status: &Status) -> Vec<Vec<String>> {
    let rows = status.away.iter().map(|away| {
        vec![
            away.name.clone(),
            away.result.clone(),
            away.device.clone(),
            away.error.clone(),
        ]
    });
    table(&["AWAY", "RESULT", "DEVICE", "WHY"], rows)
}

fn asked(next_boot: &[(String, String)]) -> Vec<Vec<String>> {
    let rows = next_boot.iter();
    let rows = rows.map(|(volume, what)| vec![volume.clone(), what.clone()]);
    table(&["ASKED FOR", "NEXT BOOT"], rows)
}

fn mounted(status: &Status) -> Vec<Vec<String>> {
    let rows = status.mounts.iter().map(|mounted| {
        vec![
            mounted.at.clone(),
            mounted.mapping.clone(),
            mounted.device.clone(),
        ]
    });
    table(&["MOUNTED AT", "MAPPING", "DEVICE"], rows)
}

/// What an operator still has to do, a line each.
fn reminders(status: &Status) -> Vec<String> {
    let lacks = |volume: &&VolumeStatus| {
        volume.recovery_key == RecoveryKeyRule::Required && volume.recovery_keyslots.is_empty()
    };
    let lacking = status.volumes.iter().filter(lacks);
    lacking
        .map(|volume| {
            let name = &volume.name;
            format!(
                "volume {name}: it is to have a recovery key and has none: nightlatchctl recovery-key add {name}"
            )
        })
        .collect()
}

/// Whether the final system found the same.
fn checked(status: &Status, verdict: Option<&Verdict>) -> String {
    match verdict {
        _ if status.mounts.is_empty() => String::new(),
        None => {
            "in the running system: not compared yet, see nightlatch-mounts-check.service\n".into()
        }
        Some(Verdict { error: None, .. }) => "in the running system: as they were opened\n".into(),
        Some(Verdict {
            error: Some(error), ..
        }) => format!("in the running system: {error}\n"),
    }
}

fn measurements(status: &Status) -> Vec<Vec<String>> {
    let id = status.cluster_id.iter();
    let id = id.map(|id| vec!["clusterID".into(), String::new(), id.clone()]);
    let values = status.pcrs.after.iter().flat_map(|(bank, values)| {
        values.iter().map(move |(pcr, value)| {
            let fence = if status.fence_pcr == Some(*pcr) {
                ", fence"
            } else {
                ""
            };
            vec![format!("PCR {pcr}{fence}"), bank.to_string(), value.clone()]
        })
    });
    table(&["MEASURED", "BANK", "VALUE"], id.chain(values))
}

fn steps(status: &Status) -> Vec<Vec<String>> {
    let ms = |us: u64| format!("{:>8.1}", Duration::from_micros(us).as_secs_f64() * 1e3);
    let rows = status.steps.iter().map(|step| {
        let failed = if step.failed { " (failed)" } else { "" };
        vec![
            ms(step.start_us),
            ms(step.duration_us()),
            step.volume.clone().unwrap_or_else(|| "-".into()),
            format!("{}{failed}", step.name),
        ]
    });
    table(&["START MS", " TOOK MS", "VOLUME", "STEP"], rows)
}
