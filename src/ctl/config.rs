// SPDX-License-Identifier: Apache-2.0
//! `config`: all that is wrong with a configuration at once, what will hurt though it is valid, and what an initrd needs for it.
//!
//! **Never:** a second parser: what is wrong is what the boot's own stumbles over.

mod condition;
mod findings;
mod keys;
mod warnings;
mod words;

use std::path::Path;

use serde_json::{Value, json};

use self::findings::{Finding, findings};
use self::warnings::warnings;
use crate::config::FilePath;
use crate::ctl::{Answer, input, needs};
use crate::error::{Doing, Exit, Result};

/// The longest configuration that is read, in bytes.
const LEN_MAX: usize = 1 << 20;

/// Says whether a boot would take the configuration, or everything that is wrong with it.
pub(super) fn check(path: &Path) -> Result<Answer> {
    let text = input::text(path, LEN_MAX).doing(path.display())?;
    let config = match findings(&text) {
        Ok(config) => config,
        Err(found) => return Ok(refusal(path, &found)),
    };
    let volumes: Vec<&str> = config
        .volumes()
        .map(|volume| volume.name.as_str())
        .collect();
    let files: Vec<&str> = config.files().map(FilePath::as_str).collect();
    let gives_up = config.boot.gives_up();
    let warnings = warnings(&text, &config);
    let costs = config.tpm.costs();
    let told = gives_up.iter().chain(&costs);
    let told = told.map(|sentence| format!("{sentence}\n"));
    let warned = warnings
        .iter()
        .map(|warning| format!("warning: {}\n", warning.text(path)));
    let valid = format!("{}: valid: {}\n", path.display(), volumes.join(", "));
    let as_json: Vec<Value> = warnings
        .iter()
        .map(|warning| warning.json(path, "warning"))
        .collect();
    Ok(Answer::new(
        std::iter::once(valid).chain(told).chain(warned).collect(),
        json!({
            "result": "valid",
            "volumes": volumes,
            "files": files,
            "gives_up": gives_up,
            "costs": costs,
            "warnings": as_json,
        }),
    ))
}

/// Shows the configuration with all that it leaves to defaults, and what the initrd has to have for it.
///
/// With `list`, one of [`NEEDS`](crate::ctl::cli::NEEDS), that alone, a line each.
pub(super) fn show(path: &Path, list: Option<&str>) -> Result<Answer> {
    let text = input::text(path, LEN_MAX).doing(path.display())?;
    let config = match findings(&text) {
        Ok(config) => config,
        Err(found) => return Ok(refusal(path, &found)),
    };
    let initrd = needs::of_initrd(&config);
    if let Some(name) = list {
        let value = initrd.get(name).cloned().unwrap_or_default();
        return Ok(Answer::new(needs::lines(&value), json!({name: value})));
    }
    let json = json!({"config": needs::effective(&config)?, "initrd": initrd});
    Ok(Answer::new(format!("{json:#}\n"), json))
}

/// All that is wrong, a line each.
fn refusal(path: &Path, found: &[Finding]) -> Answer {
    let lines: Vec<String> = found.iter().map(|finding| finding.text(path)).collect();
    let errors: Vec<Value> = found
        .iter()
        .map(|finding| finding.json(path, "error"))
        .collect();
    // The first stands where other errors have theirs.
    let mut json = errors.first().cloned().unwrap_or_default();
    if let (Some(map), Some(first)) = (json.as_object_mut(), found.first()) {
        map.insert("result".into(), Exit::Config.as_str().into());
        map.insert("exit".into(), Exit::Config.code().into());
        map.insert("error".into(), first.text(path).into());
        map.insert("errors".into(), errors.into());
    }
    Answer::refused(Exit::Config, lines.join("\n") + "\n", json)
}

#[cfg(test)]
mod tests;
