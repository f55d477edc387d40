// SPDX-License-Identifier: Apache-2.0
//! `mounts`: what is mounted in the running system, compared with what the boot opened.
//!
//! A unit runs it once in each boot, and its verdict stays for `status`: a soft reboot or a later mount can put another file
//! system where a volume was.
//!
//! **Never:** a mount made or taken away: what is there is compared.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::ctl::Answer;
use crate::error::{Doing, Error, Result};
use crate::status::Status;

/// Where the verdict stays, below the root.
const VERDICT_PATH: &str = "run/nightlatch/mounts.json";

/// What was said last, of which boot.
#[derive(serde::Deserialize, serde::Serialize)]
pub(super) struct Verdict {
    /// What `started_us` of the boot record was.
    started_us: u64,
    /// `as-opened`, or `refused`.
    pub(super) result: String,
    /// What differed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// Compares each mount, leaves the verdict, and fails where one differs.
pub(super) fn check(root: &Path) -> Result<Answer> {
    let status = Status::load(root)?;
    let checked = status
        .mounts
        .iter()
        .try_for_each(|mounted| mounted.check(root));
    let verdict = Verdict {
        started_us: status.started_us,
        result: checked
            .as_ref()
            .map_or_else(|error| error.exit().as_str(), |()| "as-opened")
            .into(),
        error: checked.as_ref().err().map(ToString::to_string),
    };
    leave(root, &verdict)?;
    checked?;
    let mounts: Vec<&str> = status.mounts.iter().map(|it| it.at.as_str()).collect();
    let text = format!("as they were opened: {}\n", mounts.join(", "));
    Ok(Answer::new(
        text,
        json!({"result": verdict.result, "mounts": mounts}),
    ))
}

/// What was said of the mounts of this boot; nothing where nobody has looked yet.
pub(super) fn verdict(root: &Path, status: &Status) -> Option<Verdict> {
    let text = fs::read_to_string(root.join(VERDICT_PATH)).ok()?;
    let verdict: Verdict = serde_json::from_str(&text).ok()?;
    (verdict.started_us == status.started_us).then_some(verdict)
}

/// A reader sees the old verdict or the new one, never a part.
fn leave(root: &Path, verdict: &Verdict) -> Result<()> {
    let path = root.join(VERDICT_PATH);
    let unfinished = path.with_extension("json.new");
    let text = serde_json::to_string(verdict).map_err(Error::failure)?;
    fs::write(&unfinished, text + "\n")
        .and_then(|()| fs::rename(&unfinished, &path))
        .doing(format_args!("writing {}", path.display()))
}
