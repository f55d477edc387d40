// SPDX-License-Identifier: Apache-2.0
//! `last-failure`: the sentence that a boot which failed has left in the TPM.
//!
//! **Never:** taken for more than a hint: whatever runs on this machine can write it.

use std::path::Path;

use serde_json::{Value, json};

use crate::anchor::failure::{FailurePlace, Told};
use crate::config::{NvIndex, Tcti};
use crate::ctl::Answer;
use crate::error::{Error, Exit, Result};
use crate::status::Status;

/// Shows it. `index` is where it is, if that is another place than this boot's, or there was none.
pub(super) fn show(root: &Path, index: Option<NvIndex>) -> Result<Answer> {
    let told = place(root, index)?.tell()?;
    let text = told.as_ref().map_or_else(|| NONE.to_owned(), text);
    let failure = told.as_ref().map(object);
    Ok(Answer::new(text, json!({"last_failure": failure})))
}

/// Forgets it.
pub(super) fn clear(root: &Path, index: Option<NvIndex>) -> Result<Answer> {
    let cleared = place(root, index)?.clear()?;
    let text = if cleared { "forgotten\n" } else { NONE };
    Ok(Answer::new(text.into(), json!({"cleared": cleared})))
}

const NONE: &str = "no boot of this machine has left a failure\n";

/// Where this boot would leave its own; else where one does without a configuration.
fn place(root: &Path, index: Option<NvIndex>) -> Result<FailurePlace> {
    let known = match Status::load(root) {
        Ok(status) => status.failures,
        Err(error) if error.exit() == Exit::Unavailable => None,
        Err(error) => return Err(error),
    };
    let tcti = known
        .as_ref()
        .map_or(Tcti::Auto, |place| place.tcti.clone());
    let known = known.map(|place| place.index);
    let index = index
        .or(known)
        .or(NvIndex::ANCHOR.failure(NvIndex::COUNTER));
    let index = index.ok_or_else(|| Error::failure("there is no place for it"))?;
    Ok(FailurePlace { tcti, index })
}

/// For people.
pub(super) fn text(told: &Told) -> String {
    let Told { failure, starts } = told;
    let when = match starts {
        None => "before the TPM began to count its resets anew".to_owned(),
        Some(0) => "since the machine was last started".to_owned(),
        Some(1) => "one start of the machine ago".to_owned(),
        Some(many) => format!("{many} starts of the machine ago, or in each since"),
    };
    format!(
        "a boot failed {when}: {} (exit {})\n  {}\n  unproven: whatever runs on this machine can write this; nightlatchctl \
         last-failure --clear forgets it\n",
        failure.exit.as_str(),
        failure.exit.code(),
        failure.sentence
    )
}

/// For machines.
pub(super) fn object(told: &Told) -> Value {
    let Told { failure, starts } = told;
    json!({
        "result": failure.exit.as_str(),
        "exit": failure.exit.code(),
        "error": failure.sentence,
        "reset_count": failure.reset_count,
        "starts_since": starts,
        "proven": false,
    })
}
